#include "gq/store/listing.hpp"

#include <algorithm>
#include <set>
#include <vector>

namespace gq {
namespace {

constexpr size_t most_named = 20'000;  // after this many, remove jobs that have ended from the set

// A list of LSNs. It stores the differences, because most LSNs are greater than the one before: two or three bytes
// each.
class Lsns {
 public:
  void add(Lsn lsn) {
    const int64_t step = static_cast<int64_t>(lsn - m_last);
    for (uint64_t rest = step < 0 ? ~(static_cast<uint64_t>(step) << 1) : static_cast<uint64_t>(step) << 1;;
         rest >>= 7) {
      m_bytes += static_cast<char>((rest & 127) | (rest > 127 ? 128 : 0));
      if (rest <= 127) break;
    }
    m_last = lsn;
  }

  template <typename Visit>
  void for_each(Visit visit) const {
    uint64_t value = 0;
    Lsn lsn = 0;
    int shift = 0;
    for (unsigned char c : m_bytes) {
      value |= static_cast<uint64_t>(c & 127) << shift;
      shift += 7;
      if (c & 128) continue;
      lsn += value & 1 ? ~(value >> 1) : value >> 1;
      visit(lsn);
      value = 0;
      shift = 0;
    }
  }

 private:
  std::string m_bytes;
  Lsn m_last = 0;
};

// Returns the orders of the index (fold.hpp) that contain the jobs of a state. Claimed jobs that have not been started
// are shown as queued. Of the jobs with one serial key, h has the job that does not wait, and l has all except those
// that wait for their parents, which are in B.
std::string orders_of(const std::string& state) {
  if (state == "queued") return "cqh";
  if (state == "running") return "ch";
  if (state == runnable) return "cqdh";
  if (state == "delayed") return "dh";
  if (state == "dead") return "x";
  if (state == "waiting") return "lB";
  if (state == "pending") return "n";
  if (state == "held") return "o";
  if (state == "kept") return "y";
  return "cqdlBnoxy";
}

// Returns the order that contains a job in this state, if the job has no serial key.
char order_of(State state) {
  switch (state) {
    case State::queued:
      return 'q';
    case State::delayed:
      return 'd';
    case State::claimed:
    case State::running:
      return 'c';
    case State::dead:
      return 'x';
    case State::waiting:
      return 'l';
    case State::pending:
      return 'n';
    case State::held:
      return 'o';
    case State::kept:
      return 'y';
    case State::finished:
      break;
  }
  return '-';
}

bool is_serial_order(char order) { return order == 'l' || order == 'h'; }

bool stands_among_serial(const Job& job) {
  return !job.serial.empty() &&
         (job.state == State::queued || job.state == State::delayed || job.state == State::claimed ||
          job.state == State::running || (job.state == State::waiting && !is_blocked(job)));
}

// The jobs that are named by the records of the journal after some position.
class Named {
 public:
  Named(Ledger& ledger, Lsn from) : m_reader(ledger.read(from)) {}

  void read_on(Lsn end) {
    while (m_reader.position() < end) {
      auto item = m_reader.next();
      if (item == JournalReader::Item::end) return;
      if (item != JournalReader::Item::record) continue;
      std::visit(
          [&](const auto& event) {
            if constexpr (requires { event.id; }) m_ids.insert(event.id);
            if constexpr (requires { event.ids; }) m_ids.insert(event.ids.begin(), event.ids.end());
          },
          m_reader.event());
    }
  }

  bool has(const std::string& id) const { return m_ids.count(id) > 0; }
  const std::set<std::string>& ids() const { return m_ids; }

  // Removes finished jobs, because they are not listed.
  void leave_out_ended(Fold& fold) {
    if (m_ids.size() < m_next) return;
    std::erase_if(m_ids, [&](const std::string& id) {
      auto job = fold.get(id);
      return !job || job->state == State::finished;
    });
    m_next = std::max(most_named, 2 * m_ids.size());
  }

 private:
  EventReader m_reader;
  std::set<std::string> m_ids;
  size_t m_next = most_named;
};

}  // namespace

void list_jobs(Ledger& ledger, const Listed& what, const std::function<bool(Claim&)>& visit) {
  const std::string orders = orders_of(what.state);
  auto wanted = [&](const Job& job) {
    return orders.find(order_of(job.state)) != std::string::npos &&
           (what.function.empty() || job.function == what.function);
  };
  Lsn begin = 0;
  ledger.look([&](Fold& fold) { begin = fold.position().end; });
  Named named(ledger, begin);
  Lsns shown;
  std::vector<Claim> jobs;
  for (char order : orders) {
    std::string cursor;
    for (bool last = false; !last;) {
      named.read_on(ledger.end());  // reads here, so that the next visit is short
      ledger.look([&](Fold& fold) {
        jobs.clear();
        std::vector<std::string> ids;
        std::string next = cursor;
        last = fold.page(order, order == 'o' || order == 'h' ? std::string() : what.function, what.page, next, ids);
        named.read_on(fold.position().end);
        for (const auto& id : ids)
          if (auto job = named.has(id) ? std::nullopt : fold.get(id);
              job && wanted(*job) && stands_among_serial(*job) == is_serial_order(order))
            jobs.push_back({id, std::move(*job)});
        named.leave_out_ended(fold);
        cursor = next;
      });
      for (auto& job : jobs) {
        shown.add(job.job.first_lsn);
        if (!visit(job)) return;
      }
    }
  }
  // The jobs that were named, with their Job::first_lsn, by which `shown` identifies them.
  std::vector<std::pair<Lsn, std::string>> left;
  for (auto id = named.ids().begin(); id != named.ids().end();) {
    auto page = id;
    size_t before = left.size();
    ledger.look([&](Fold& fold) {
      left.resize(before);
      id = page;
      for (size_t n = 0; n < what.page && id != named.ids().end(); ++n, ++id)
        if (auto job = fold.get(*id); job && wanted(*job)) left.push_back({job->first_lsn, *id});
    });
  }
  std::sort(left.begin(), left.end());
  std::vector<bool> is_shown(left.size());
  shown.for_each([&](Lsn lsn) {
    auto at = std::lower_bound(left.begin(), left.end(), lsn, [](const auto& l, Lsn value) { return l.first < value; });
    if (at != left.end() && at->first == lsn) is_shown[static_cast<size_t>(at - left.begin())] = true;
  });
  for (size_t at = 0; at < left.size();) {
    size_t page = at;
    ledger.look([&](Fold& fold) {
      jobs.clear();
      at = page;
      for (size_t n = 0; n < what.page && at < left.size(); ++n, ++at)
        if (auto job = is_shown[at] ? std::nullopt : fold.get(left[at].second); job && wanted(*job))
          jobs.push_back({left[at].second, std::move(*job)});
    });
    for (auto& job : jobs)
      if (!visit(job)) return;
  }
}

}  // namespace gq
