#include "gq/replication/lease_keeper.hpp"

#include <fcntl.h>
#include <unistd.h>

#include "gq/base/log.hpp"
#include "gq/base/thread.hpp"
#include "gq/base/wait.hpp"

namespace gq {
namespace {

constexpr Millis beat_interval{200};

}  // namespace

void LeaseKeeper::start() {
  m_thread = start_thread([this] {
    do {
      try {
        beat();
        m_trouble.clear();
      } catch (const std::exception& e) {
        if (m_trouble != e.what()) log(Level::warning, e.what());
        m_trouble = e.what();
      }
    } while (!m_monitor.wait_for_lease(beat_interval));
  });
}

void LeaseKeeper::join() {
  if (m_thread.joinable()) m_thread.join();
}

void LeaseKeeper::beat() {
  using What = Replica::Lease::What;
  const auto lease =
      m_monitor.step([](Replica& r) { return r.serves() ? std::optional(r.lease(read_times())) : std::nullopt; });
  if (!lease) return;
  if (lease->what != What::hold) m_lock.reset();  // first: with the new text it would look valid
  write(lease->beat);
  if (lease->what == What::take) take(*lease);
}

void LeaseKeeper::take(const Replica::Lease& lease) {
  Fd lock = m_monitor.ledger().directory().open(returned_name, O_RDWR | O_CREAT);
  wait_for_lock(lock.get(), FileLock::Mode::exclusive, short_patience);  // a reader of the file may hold it
  const auto held = m_monitor.step([&](Replica& r) {
    const Times now = read_times();
    return r.end_return(lease.round, now) ? std::optional(r.lease(now)) : std::nullopt;
  });
  if (!held) return;
  m_lock = std::move(lock);
  write(held->beat);
  m_monitor.step([&](Replica& r) { r.holds_lease(lease.round); });
}

void LeaseKeeper::write(const Beat& beat) {
  if (m_said && m_said->waits == beat.waits && beat.at.boot - m_said->at.boot < beat.longest / 8) return;
  if (!m_file) m_file = m_monitor.ledger().directory().open(returned_name, O_RDWR | O_CREAT);
  const std::string text = encode_beat(beat);
  // If the previous text was longer, its rest stays after the new line; readers ignore that.
  m_said.reset();
  if (::pwrite(m_file.get(), text.data(), text.size(), 0) == static_cast<ssize_t>(text.size())) m_said = beat;
}

}  // namespace gq
