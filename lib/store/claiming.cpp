#include "gq/store/claiming.hpp"

#include <algorithm>
#include <iterator>
#include <map>

#include "gq/state/table.hpp"
#include "gq/store/owners.hpp"

namespace gq {

namespace {

class Chooser {
 public:
  Chooser(Fold& fold, const ClaimRequest& request, const ClaimContext& context)
      : m_fold(fold),
        m_request(request),
        m_context(context),
        m_most(context.away ? 0 : std::min({request.most, context.most, context.room})) {}

  Chosen choose() {
    const auto& asked = m_context.functions.empty() ? m_request.functions : m_context.functions;
    for (const auto& f : asked.empty() ? m_fold.functions() : asked) {
      const Counters counters = m_fold.counters(f);
      m_chosen.claims.live += counters.live() - counters.blocked - counters.spooled;
      if (!m_request.except.count(f) && !m_fold.paused(f)) m_functions.push_back(f);
    }
    for (const auto& held : look_at_owners()) take_over(held);
    take_expired();
    take_letters();
    if (is_target_full()) return std::move(m_chosen);  // when one of its jobs ends, this changes the journal
    for (size_t n = 0; n < m_functions.size(); ++n) {
      const size_t left = m_functions.size() - n + m_context.later;
      take_of(m_functions[(m_context.turn + n) % m_functions.size()],
              is_full() ? 0 : (m_most - jobs().size() + left - 1) / left);
    }
    return std::move(m_chosen);
  }

 private:
  struct Held {
    std::string id, owner;
    uint32_t starts;
  };

  std::vector<Claim>& jobs() { return m_chosen.claims.jobs; }
  bool is_full() { return jobs().size() >= m_most; }
  bool is_wanted(const std::string& function) {
    return std::find(m_functions.begin(), m_functions.end(), function) != m_functions.end();
  }
  Claim find(const std::string& id) {
    auto job = m_fold.get(id);
    if (!job) throw TableError("an order names a job that is not there");
    return {id, std::move(*job)};
  }

  // Takes the jobs that this process has claimed without knowing it, because the index failed during the claim. Returns
  // the jobs that dead owners hold.
  std::vector<Held> look_at_owners() {
    std::vector<Held> held;
    for (const auto& owner : m_fold.owners()) {
      if (owner == m_request.owner) {
        m_fold.claimed(owner, [&](const std::string& id) {
          if (is_full()) return false;
          if (Claim c = find(id); !m_request.held.count(id) && is_wanted(c.job.function))
            jobs().push_back(std::move(c));
          return true;
        });
      } else if (owner_process(owner) == owner_process(m_request.owner)) {
        continue;
      } else if (m_context.is_alive(owner)) {
        m_chosen.claims.other_owners.push_back(owner);
      } else {
        m_fold.claimed(owner, [&](const std::string& id) {
          held.push_back({id, owner, find(id).job.starts});
          return true;
        });
      }
    }
    // A dead owner may have recorded the end of its jobs after the journal was read.
    if (!held.empty()) m_context.fold_on();
    return held;
  }

  void take_over(const Held& held) {
    auto job = m_fold.get(held.id);
    if (!job || job->owner != held.owner || job->starts != held.starts) return;
    Claim claim{held.id, std::move(*job)};
    const Job& left = claim.job;
    if (!m_fold.may_run(left) || left.cancelled) {
      m_chosen.strays.push_back(std::move(claim));
    } else if (!m_context.away && left.state == State::claimed && is_late(left, m_context.now)) {
      look_at(m_context.now);
      m_chosen.strays.push_back(std::move(claim));
    } else if (!m_context.away && is_wanted(left.function)) {
      const bool give_up =
          left.state == State::running && m_request.max_crashes && left.crashes + 1 >= m_request.max_crashes;
      auto& to = give_up ? m_chosen.claims.abandoned : m_left_behind[left.function];
      to.push_back(std::move(claim));
    }
  }

  bool is_target_full() {
    return m_request.target_backlog > 0 && m_fold.counters(m_request.target).live() > m_request.target_backlog;
  }

  void look_at(Millis time) {
    auto& next = m_chosen.claims.next_due;
    if (!next || time < *next) next = time;
  }

  // Takes jobs that have expired, as many as fit into one claim. The next claims take the rest: other jobs do not wait
  // for that.
  void take_expired() {
    auto& expired = m_chosen.claims.expired;
    if (m_most == 0) return;
    const auto next = m_fold.expired(m_context.now, [&](const std::string& id) {
      if (expired.size() < std::min(m_context.room, most_claims)) {
        expired.push_back(id);
        return true;
      }
      look_at(m_context.now);
      return false;
    });
    if (next) look_at(*next);
  }

  // Takes the dead letters that are to be queued, of jobs of any function.
  void take_letters() {
    auto& letters = m_chosen.claims.letters;
    if (m_most == 0) return;
    m_fold.unsent_letters([&](const std::string& id, const std::string& to) {
      if (m_context.now < m_context.letters_from) {
        look_at(m_context.letters_from);
        return false;
      }
      if (letters.size() == std::min(m_context.room, most_letters)) {
        look_at(m_context.now);
        return false;
      }
      letters.push_back({find(id), to});
      return true;
    });
  }

  // How many jobs of a function may be claimed now. Claimed jobs count as running ones, except those that dead owners
  // have left behind: they are claimed again. When a job ends, this changes the journal, and the claimers look again.
  size_t room_below_limit(const std::string& function, size_t left_behind) {
    const auto limit = m_fold.limit(function);
    if (!limit) return SIZE_MAX;
    const auto& jobs = m_fold.counters(function).jobs;
    const size_t held = jobs[static_cast<size_t>(State::claimed)] + jobs[static_cast<size_t>(State::running)];
    return *limit - std::min<size_t>(*limit, held - std::min(held, left_behind));
  }

  // How many jobs of a function may be claimed now because of its rate. A claimed job counts as one that is started
  // now, except those that dead owners have left behind. `next` is set to the time when there is more room.
  size_t room_below_rate(const std::string& function, size_t left_behind, std::optional<Millis>& next) {
    const auto rate = m_fold.rate(function);
    if (!rate) return SIZE_MAX;
    const auto room = m_fold.started(function).room(*rate, m_context.now);
    next = room.next;
    const size_t claimed = m_fold.counters(function).jobs[static_cast<size_t>(State::claimed)];
    return room.starts - std::min<size_t>(room.starts, claimed - std::min(claimed, left_behind));
  }

  // Adds a job, unless it has expired. Returns false if this visit has passed over so many expired jobs that it must go
  // no further: they may be very many, and other processes wait.
  bool add_candidate(const std::string& id, std::vector<Claim>& candidates) {
    Claim c = find(id);
    if (is_late(c.job, m_context.now)) return ++m_passed_over < most_claims;
    candidates.push_back(std::move(c));
    return true;
  }

  // Takes up to `share` jobs of one function.
  void take_of(const std::string& function, size_t share) {
    auto& next_due = m_chosen.claims.next_due;
    std::vector<Claim> candidates = std::move(m_left_behind[function]);
    const size_t left_behind = candidates.size();
    const auto left_claimed = static_cast<size_t>(std::count_if(
        candidates.begin(), candidates.end(), [](const Claim& c) { return c.job.state == State::claimed; }));
    std::optional<Millis> next_start;
    const size_t below_limit = room_below_limit(function, left_behind);
    const size_t below_rate = below_limit > 0 ? room_below_rate(function, left_claimed, next_start) : 0;
    const size_t room = std::min(below_limit, below_rate);
    if (room < share && next_start) look_at(*next_start);
    if (room == 0) return;
    const bool is_limited = room < share;
    share = std::min(share, room);
    auto due = m_fold.delayed(function, m_context.now, [&](const std::string& id) {
      if (share == 0) {
        next_due = m_context.now;
        return false;
      }
      return add_candidate(id, candidates) && candidates.size() <= left_behind + share + most_claims;
    });
    if (due) look_at(*due);
    const size_t before = candidates.size();
    if (share > 0)
      m_fold.queued(function, [&](const std::string& id) {
        return add_candidate(id, candidates) && candidates.size() < before + share;
      });
    std::sort(candidates.begin(), candidates.end(), [](const Claim& a, const Claim& b) {
      return std::pair(a.job.priority, a.job.first_lsn) < std::pair(b.job.priority, b.job.first_lsn);
    });
    if (candidates.size() > share) {
      if (before > 0 && !is_limited) next_due = m_context.now;
      candidates.resize(share);
    }
    for (auto& c : candidates) jobs().push_back(std::move(c));
  }

  Fold& m_fold;
  const ClaimRequest& m_request;
  const ClaimContext& m_context;
  const size_t m_most;
  size_t m_passed_over = 0;  // jobs that have expired
  std::vector<std::string> m_functions;
  std::map<std::string, std::vector<Claim>> m_left_behind;  // by function
  Chosen m_chosen;
};

}  // namespace

void Claims::add(Claims more) {
  std::move(more.jobs.begin(), more.jobs.end(), std::back_inserter(jobs));
  std::move(more.abandoned.begin(), more.abandoned.end(), std::back_inserter(abandoned));
  std::move(more.expired.begin(), more.expired.end(), std::back_inserter(expired));
  std::move(more.letters.begin(), more.letters.end(), std::back_inserter(letters));
  if (more.next_due && (!next_due || *more.next_due < *next_due)) next_due = more.next_due;
  live += more.live;
  again = again || more.again;
  other_owners = std::move(more.other_owners);
}

Chosen choose(Fold& fold, const ClaimRequest& request, const ClaimContext& context) {
  return Chooser(fold, request, context).choose();
}

}  // namespace gq
