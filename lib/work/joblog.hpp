// A log of attempts, one line each, in the columns of GNU parallel's --joblog and behind them ID, function and attempt.
//
// It is the file that has the name when a line is written: where that was renamed or removed, it is made anew.
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
  uint64_t sent = 0, received = 0;  // bytes of workload, and of output as far as it went through the worker
  int exit = 0, signal = 0;
};

class Joblog {
 public:
  // Appends to the file, with a first line of names where it is empty. Throws Error(storage) where it cannot be opened.
  Joblog(const std::string& path, std::string command);
  // One write, so that processes that share a file do not mix their lines. What cannot be written is said once, and
  // lost.
  void add(const Attempt& attempt);

 private:
  void open();

  std::string m_path;
  std::string m_command;
  Fd m_file;
  uint64_t m_count = 0;
};

}  // namespace gq
