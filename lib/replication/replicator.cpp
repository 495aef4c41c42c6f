#include "gq/replication/replicator.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>

#include "gq/base/log.hpp"
#include "gq/base/thread.hpp"
#include "gq/replication/debts.hpp"
#include "gq/store/settings.hpp"

namespace gq {
namespace {

constexpr Millis keep_interval{200};
constexpr Millis leave_patience{1800};  // how long to wait at the end for peers that take nothing

}  // namespace

Replicator::Replicator(Queue& queue, Config config)
    : m_monitor(queue, std::move(config)),
      m_peers(m_monitor),
      m_coordinator(m_monitor, queue, m_peers),
      m_service(m_monitor, queue),
      m_pull(m_monitor.ledger(), m_monitor.keys()),
      m_takeovers(m_monitor, m_peers),
      m_lease_keeper(m_monitor) {
  try {
    m_peers.keep_up();
  } catch (...) {
    stop();
    throw;
  }
}

Replicator::~Replicator() { stop(); }

void Replicator::start() {
  m_keeper = start_thread([this] { keep(); });
  m_lease_keeper.start();
}

std::vector<std::string> Replicator::result_stores() {
  const bool is_relay = m_monitor.config().relay;
  std::vector<std::string> stores = m_monitor.step([&](const Replica& r) {
    std::vector<std::string> identities;
    if (!is_relay) identities.push_back(m_monitor.self().store);
    if (!is_relay && !r.group().once) return identities;
    for (const auto& node : r.group().members)
      if (const auto& store = r.members().store_of(node); !store.empty() && !r.members().is_relay(node))
        identities.push_back(store);
    return identities;
  });
  for (auto& store : stores) store = pull_name(store);
  return stores;
}

void Replicator::stop() {
  m_monitor.stop();
  if (m_keeper.joinable()) m_keeper.join();
  m_lease_keeper.join();
  m_receivers.reset();
  m_asked.reset();
  m_pulled.reset();
  m_peers.join();
}

// ---------------------------------------------------------------------------------------------------------- the keeper

void Replicator::keep() {
  do {
    try {
      keep_once();
    } catch (const std::exception& e) {
      if (m_trouble != e.what()) log(Level::warning, e.what());
      m_trouble = e.what();
    }
  } while (!m_monitor.pause(keep_interval));
}

void Replicator::keep_once() {
  if (!m_serving && !take_lock()) {
    m_elsewhere = true;
    m_monitor.wake();
  } else if (!m_receivers) {
    serve();
  } else {
    reload();
    forget();
    m_takeovers.take_over_due();
    come_back();
  }
}

bool Replicator::take_lock() {
  const Directory& directory = m_monitor.ledger().directory();
  if (!m_lock) m_lock = directory.open(replicate_lock_name, O_RDWR | O_CREAT);
  if (!try_lock(m_lock.get(), FileLock::Mode::exclusive)) return false;
  directory.make_below(peers_name);
  const auto known = known_peers(m_monitor.ledger());
  m_monitor.step([&](Replica& r) { r.serve(known, read_times()); });
  return m_serving = true;
}

void Replicator::serve() {
  auto receivers_of = [this](Service service) {
    return std::make_unique<Receivers>(m_monitor.config().servers, std::vector<Service>{std::move(service)},
                                       [] { return Receivers::Serve::all; });
  };
  auto receivers_on = [&](const std::string& function) {
    auto answer = [this](std::string_view payload) { return std::optional(m_service.answer(payload)); };
    return receivers_of({function, false, answer, max_transfer_size, {}});
  };
  const std::string& node = m_monitor.self().node;
  // Clients can ask very often. So that this node does not seem to be gone meanwhile, nodes are answered separately.
  auto receivers = receivers_on(node), asked = receivers_on(ask_function(node)),
       pulled = receivers_of(m_pull.service());
  receivers->start();
  asked->start();
  pulled->start();
  m_receivers = std::move(receivers);
  m_asked = std::move(asked);
  m_pulled = std::move(pulled);
}

// Adopts changes that gq-replicate has made to the group.
void Replicator::reload() {
  struct stat st;
  if (!m_monitor.ledger().directory().look_at(settings_name, st)) return;
  const auto stamp = std::pair(st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
  if (stamp == m_settings_stamp) return;
  const Settings settings = read_settings(m_monitor.ledger().directory());
  const auto known = known_peers(m_monitor.ledger());
  const Millis period = period_of(settings.limits, m_monitor.config());
  const Lsn end = m_monitor.ledger().end();
  m_monitor.step([&](Replica& r) { r.change(settings.group, known, end, period, read_times()); });
  m_peers.keep_up();
  m_settings_stamp = stamp;
}

void Replicator::forget() {
  const auto nodes = m_monitor.step([](Replica& r) { return r.to_forget(); });
  if (nodes.empty()) return;
  std::vector<std::string> records;
  for (const auto& node : nodes) records.push_back(forgotten_record(node));
  m_monitor.ledger().commit({records.begin(), records.end()}, Room::completion);
  m_monitor.step([&](Replica& r) {
    for (const auto& node : nodes) r.forgotten(node);
  });
}

// While this node returns, checks whether the other nodes have sent what happened to its jobs, so that its jobs may
// run.
void Replicator::come_back() {
  if (!m_monitor.step([](Replica& r) { return r.is_returning(); })) return;
  uint64_t own = 0;
  m_monitor.ledger().for_each_function([&](const std::string&, const Counters& c) { own += c.live(); });
  m_monitor.step([&](Replica& r) { r.standby(own > 0, read_times()); });
}

// ------------------------------------------------------------------------------------------- the beginning and the end

bool Replicator::settle(Millis timeout, const CutShort& cut_short) {
  const Lsn target = m_monitor.ledger().end();
  const auto deadline = Clock::now() + timeout;
  auto is_settled = [&](const Replica& r) { return m_elsewhere || (r.runs_jobs() && r.have_all(target)); };
  while (!m_monitor.stopping() && !m_monitor.step(is_settled)) {
    if (Clock::now() >= deadline || cut_short()) return false;
    m_monitor.wait(poll_interval, is_settled);
  }
  return true;
}

bool Replicator::leave(Millis timeout, const CutShort& cut_short) {
  const Lsn target = m_monitor.ledger().end();
  const auto begun = Clock::now();
  auto has_left = [&](const Replica& r) { return m_elsewhere || r.have_all(target); };
  while (!m_monitor.stopping() && !m_monitor.step(has_left)) {
    if (Clock::now() >= std::min(begun + timeout, std::max(begun, m_monitor.taken_at()) + leave_patience) ||
        cut_short())
      return false;
    m_monitor.wait(poll_interval, has_left);
  }
  return true;
}

}  // namespace gq
