// What gq-inspect says about a whole store: its functions, the other nodes, and the disk.
#pragma once

#include <string>

#include "gq/store/queue.hpp"
#include "terminal.hpp"

namespace gq {

struct StatsOptions {
  bool json = false;
  std::string function;  // empty: all
};
Exit stats(const StatsOptions& o, const View& view, Queue& store);

}  // namespace gq
