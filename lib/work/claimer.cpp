#include "gq/work/claimer.hpp"

#include <unistd.h>

#include <algorithm>
#include <utility>

namespace gq {
namespace {

// How often to check whether other owners have died, and how often to read the journal's end without inotify.
constexpr Millis look_interval{1000};
// The work to claim for each slot.
constexpr double claim_ahead_ms = 50;
constexpr double most_ahead = 64;

}  // namespace

void Rate::started(Time now) {
  if (m_per_second <= 0) return;
  m_next = std::max(m_next, now) +
           std::chrono::duration_cast<Time::duration>(std::chrono::duration<double>(1 / m_per_second));
}

Pauses::Begun Pauses::begin(const std::string& function, Time now) {
  Broken& b = m_broken[function];
  if (now < b.until) return Begun::already;
  const bool is_first = b.delay.count() == 0;
  b.delay = std::clamp(b.delay * 2, first, longest);
  b.until = now + b.delay;
  b.waiting = true;
  return is_first ? Begun::first : Begun::again;
}

std::set<std::string> Pauses::now(Time now) const {
  std::set<std::string> all;
  for (const auto& [function, b] : m_broken)
    if (now < b.until) all.insert(function);
  return all;
}

std::optional<Pauses::Time> Pauses::next() const {
  std::optional<Time> next;
  for (const auto& [function, b] : m_broken)
    if (b.waiting) next = std::min(next.value_or(b.until), b.until);
  return next;
}

bool Pauses::are_over(Time now) {
  bool over = false;
  for (auto& [function, b] : m_broken)
    if (now >= b.until && std::exchange(b.waiting, false)) over = true;
  return over;
}

std::vector<std::string> Pauses::functions() const {
  std::vector<std::string> all;
  for (const auto& [function, b] : m_broken) all.push_back(function);
  return all;
}

size_t jobs_ahead(size_t places, double average_ms, bool stream, double rate) {
  double ahead = stream ? 1 : std::clamp(claim_ahead_ms / std::max(average_ms, 0.1), 1.0, most_ahead);
  if (rate > 0) ahead = std::min(ahead, std::max(1.0, rate * claim_ahead_ms / 1000));
  const auto most = static_cast<size_t>(static_cast<double>(places) * ahead);
  return rate > 0 ? std::min(most, static_cast<size_t>(ahead)) : most;
}

ClaimRequest claim_request(const ClaimRules& rules, const Pauses& pauses, double average_ms, size_t places,
                           Pauses::Time now) {
  return {.functions = rules.functions,
          .most = jobs_ahead(places, average_ms, rules.stream, rules.rate),
          .max_crashes = rules.max_crashes,
          .except = pauses.now(now),
          .target = rules.target,
          .target_backlog = rules.target_backlog};
}

Claimer::Claimer(Queue& store, const Owners& owners, ClaimRules config)
    : m_store(store), m_owners(owners), m_config(std::move(config)), m_rate(m_config.rate), m_watch(store) {}

Claim Claimer::take() {
  Claim claim = std::move(m_jobs.front());
  m_jobs.pop_front();
  return claim;
}

std::vector<Claim> Claimer::take_of(const std::string& function) {
  return take_if([&](const Claim& claim) { return claim.job.function == function; });
}

std::vector<Claim> Claimer::take_job(const std::string& id) {
  return take_if([&](const Claim& claim) { return claim.id == id; });
}

std::vector<Claim> Claimer::take_all_but_suspect() {
  const Claim* stays = suspect_first() ? &m_jobs.front() : nullptr;
  return take_if([&](const Claim& claim) { return &claim != stays; });
}

int64_t Claimer::due_in(Clock::time_point now, Millis wall) const {
  if (m_look) return 0;
  auto until = [&](Clock::time_point t) { return std::chrono::ceil<Millis>(t - now).count(); };
  int64_t due = INT64_MAX;
  if (m_seen.next_due) due = (*m_seen.next_due - wall).count() + 1;
  if (auto next = m_pauses.next()) due = std::min(due, until(*next));
  if (!m_seen.other_owners.empty() || !m_watch.works() || m_config.polls) due = std::min(due, until(m_next_look));
  return due;
}

Claims Claimer::claim(size_t places, std::set<std::string> held, Clock::time_point now) {
  m_look = false;
  m_next_look = now + look_interval;
  ClaimRequest request = claim_request(m_config, m_pauses, m_average_ms, places, now);
  request.owner = m_owners.name();
  request.held = std::move(held);
  m_seen = m_store.claim(request);
  for (auto& claim : m_seen.jobs) m_jobs.push_back(std::move(claim));
  m_seen.jobs.clear();
  Claims ended;
  ended.abandoned = std::exchange(m_seen.abandoned, {});
  ended.expired = std::exchange(m_seen.expired, {});
  // m_seen.live still counts the expired ones, and not yet the letters and the jobs that will be woken.
  m_look = !ended.expired.empty() || !std::exchange(m_seen.letters, {}).empty() || m_seen.again;
  return ended;
}

void Claimer::journal_changed() {
  m_watch.clear();
  // append.lock is also written after each sync, so compare the end of the journal to see whether there are new
  // records.
  try {
    const Lsn end = m_store.end();
    m_look = m_look || end != m_seen_end;
    m_seen_end = end;
  } catch (const Error&) {
    m_look = true;  // the next claim then reports the error of the disk
  }
}

void Claimer::woke(Clock::time_point now) {
  if (m_pauses.are_over(now) || (!m_watch.works() && now >= m_next_look)) m_look = true;
}

}  // namespace gq
