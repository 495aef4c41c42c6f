#include "gq/replication/end_watch.hpp"

#include <poll.h>

#include "gq/base/log.hpp"
#include "gq/base/thread.hpp"
#include "gq/store/append_watch.hpp"

namespace gq {
namespace {

// How long to wait for an append before the store is looked at all the same, and how long to wait between two looks.
constexpr Millis look_interval{200}, shortest_pause{5};

}  // namespace

void EndWatch::start() {
  m_thread = start_thread([this] { watch(); });
}

void EndWatch::stop() {
  {
    MutexLock guard(m_mutex);
    m_stop = true;
  }
  m_changed.notify_all();
  if (m_thread.joinable()) m_thread.join();
}

std::optional<EndWatch::End> EndWatch::wait(const std::string& id) {
  MutexLock lock(m_mutex);
  Awaited& job = m_awaited[id];  // other entries may come and go
  ++job.threads;
  m_changed.notify_all();
  m_changed.wait(lock, [&]() REQUIRES(m_mutex) { return m_stop || job.end; });
  auto end = job.end;
  if (--job.threads == 0) m_awaited.erase(id);
  return end;
}

// Looks at these jobs, and notes those that have ended.
void EndWatch::look(const std::vector<std::string>& ids) {
  std::map<std::string, End> ends;
  m_ledger.look([&](Fold& fold) {
    ends.clear();
    for (const auto& id : ids) {
      const auto job = fold.get(id);
      if (auto result = result_of(job, true, m_ledger.group().self.node))
        ends[id] = {job.value_or(Job{}), std::move(*result)};
    }
  });
  if (ends.empty()) return;
  // What a power cut can take back has not happened.
  if (m_ledger.synced().value_or(0) < m_ledger.end()) m_ledger.sync_all();
  MutexLock guard(m_mutex);
  for (auto& [id, end] : ends)
    if (auto job = m_awaited.find(id); job != m_awaited.end()) job->second.end = std::move(end);
  m_changed.notify_all();
}

void EndWatch::watch() {
  AppendWatch appends(m_ledger);
  std::string trouble;
  for (;;) {
    std::vector<std::string> ids;
    {
      MutexLock lock(m_mutex);
      m_changed.wait(lock, [&]() REQUIRES(m_mutex) { return m_stop || !m_awaited.empty(); });
      if (m_stop) return;
      for (const auto& [id, job] : m_awaited)
        if (!job.end) ids.push_back(id);
    }
    appends.clear();
    try {
      look(ids);
      trouble.clear();
    } catch (const std::exception& e) {
      if (trouble != e.what()) log(Level::warning, e.what());
      trouble = e.what();
    }
    MutexLock lock(m_mutex);
    m_changed.wait_for(lock, shortest_pause, [&]() REQUIRES(m_mutex) { return m_stop; });
    lock.unlock();
    pollfd fd{appends.fd(), POLLIN, 0};
    ::poll(&fd, 1, static_cast<int>(look_interval.count()));
  }
}

}  // namespace gq
