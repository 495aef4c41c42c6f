#include "gq/work/joblog.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>

#include "gq/base/child.hpp"
#include "gq/base/given.hpp"
#include "gq/base/log.hpp"
#include "gq/base/notify.hpp"
#include "gq/base/text.hpp"

namespace gq {

Joblog::Joblog(const std::string& path, std::string command) : m_path(path), m_command(std::move(command)) { open(); }

void Joblog::open() {
  bool is_inherited = false;
  Fd file;
  {
    MutexLock guard(umask_mutex());
    file = open_given(m_path, O_WRONLY | O_CREAT | O_APPEND, regular_file | device | inherited, Exit::storage, 0664,
                      &is_inherited);
  }
  struct stat st;
  // Check regular files only: any user may write to /dev/null.
  if (!is_inherited && ::fstat(file.get(), &st) == 0 && S_ISREG(st.st_mode))
    check_trusted(file.get(), m_path, S_IWOTH, "chmod o-w it");
  m_file = std::move(file);
  // Another worker may be writing the first line now. The wait is limited, because another program may hold the lock
  // for long. Do not wait for the lock of an inherited descriptor: the caller itself may hold it.
  for (int tries = 0; !is_inherited && !try_lock(m_file.get(), FileLock::Mode::exclusive) && tries < 100; ++tries)
    ::usleep(1000);
  if (file_size(m_file.get()) == 0)
    write_all(m_file.get(),
              "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\tID\tFunction\tAttempt\n",
              m_path);
  if (!is_inherited) ::flock(m_file.get(), LOCK_UN);
}

void Joblog::add(const Attempt& a) {
  char times[64];
  snprintf(times, sizeof times, "%.3f\t%.3f", static_cast<double>(a.started.count()) / 1000, a.seconds);
  std::string line = std::to_string(++m_count) + "\t:\t" + times + "\t" + std::to_string(a.sent) + "\t" +
                     std::to_string(a.received) + "\t" + std::to_string(a.exit) + "\t" + std::to_string(a.signal) +
                     "\t" + m_command + "\t" + a.id + "\t" + printable(a.function, any_length) + "\t" +
                     std::to_string(a.attempt) + "\n";
  try {
    struct stat st;
    bool emptied = ::fstat(m_file.get(), &st) == 0 && S_ISREG(st.st_mode) && st.st_size == 0;
    if (emptied || !same_file(m_file.get(), m_path)) open();
    write_all(m_file.get(), line, m_path);
    if (end_trouble("joblog")) log(Level::warning, "writing " + printable(m_path) + " again");
  } catch (const Error& e) {
    if (begin_trouble("joblog", e.what())) log(Level::warning, e.what() + std::string("; its lines are lost"));
  }
}

}  // namespace gq
