// Tells a process when a process has appended to the journal, or synced it, so that it need not look again and again.
#pragma once

#include "gq/base/fd.hpp"
#include "gq/store/ledger.hpp"

namespace gq {

class AppendWatch {
 public:
  // Watches from now on. The ledger need not outlive the watch.
  explicit AppendWatch(const Ledger& ledger);

  // A descriptor that can be read when there was an append, or a sync, since the last clear(). It is -1 if the kernel
  // has no watch left: then the caller must look at times.
  int fd() const { return m_fd ? m_fd.get() : -1; }
  bool works() const { return fd() >= 0; }
  void clear();

 private:
  Fd m_fd;
};

}  // namespace gq
