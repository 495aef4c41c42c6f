#include "joblog.hpp"

#include <fcntl.h>

#include <cstdio>

#include "log.hpp"

namespace gq {

Joblog::Joblog(const std::string& path, std::string command)
    : m_path(path), m_command(std::move(command)), m_file(open_file(path, O_WRONLY | O_CREAT | O_APPEND, 0666)) {
  FileLock lock(m_file.get(), FileLock::Mode::exclusive);
  if (file_size(m_file.get()) == 0)
    write_all(m_file.get(),
              "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\tID\tFunction\tAttempt\n", path);
}

void Joblog::add(const Attempt& a) {
  char times[64];
  snprintf(times, sizeof times, "%.3f\t%.3f", static_cast<double>(a.started.count()) / 1000, a.seconds);
  std::string line = std::to_string(++m_count) + "\t:\t" + times + "\t" + std::to_string(a.sent) + "\t" +
                     std::to_string(a.received) + "\t" + std::to_string(a.exit) + "\t" + std::to_string(a.signal) + "\t" +
                     m_command + "\t" + a.id + "\t" + a.function + "\t" + std::to_string(a.attempt) + "\n";
  try {
    write_all(m_file.get(), line, m_path);
  } catch (const Error& e) {
    log(Level::warning, e.what());
  }
}

}  // namespace gq
