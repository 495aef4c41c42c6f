// A log of attempts, one line each, in the columns of GNU parallel's --joblog, followed by ID, function and attempt.
//
// If the file was renamed or removed, the next line is written to a new file of the same name.
#pragma once

#include <string>

#include "gq/base/clock.hpp"
#include "gq/base/fd.hpp"

namespace gq {

struct Attempt {
  std::string id{}, function{};
  uint32_t attempt = 0;
  Millis started{0};  // since 1970
  double seconds = 0;
  uint64_t sent = 0, received = 0;  // bytes of workload, and bytes of output that went through the worker
  int exit = 0, signal = 0;
};

class Joblog {
 public:
  // Appends to the file, and begins an empty file with a line of column names. Throws Error(storage) if the file cannot
  // be opened.
  Joblog(const std::string& path, std::string command);
  // Writes the line with one write, so that processes that share a file do not mix their lines. A line that cannot be
  // written is lost; the log says so once.
  void add(const Attempt& attempt);

 private:
  void open();

  std::string m_path;
  std::string m_command;
  Fd m_file;
  uint64_t m_count = 0;
};

}  // namespace gq
