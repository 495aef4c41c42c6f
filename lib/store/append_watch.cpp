#include "gq/store/append_watch.hpp"

#include <sys/inotify.h>
#include <unistd.h>

namespace gq {

AppendWatch::AppendWatch(const Ledger& ledger) : m_fd(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK)) {
  if (m_fd && ::inotify_add_watch(m_fd.get(), ledger.watched_path().c_str(), IN_MODIFY) < 0) m_fd.reset();
}

void AppendWatch::clear() {
  char events[4096];
  while (m_fd && ::read(m_fd.get(), events, sizeof events) > 0) continue;
}

}  // namespace gq
