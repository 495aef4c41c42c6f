// gq-inspect log: what the attempts of a job wrote to the files of gq-worker --output.
#pragma once

#include <string>

#include "gq/store/queue.hpp"

namespace gq {

struct LogOptions {
  std::string id, directory;  // empty: those directories that living workers of the store write to
  bool follows = false;       // until the job has ended
};
Exit print_log(const LogOptions& o, Queue& store);

}  // namespace gq
