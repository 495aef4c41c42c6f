#include "gq/store/listing.hpp"

#include <algorithm>
#include <set>
#include <vector>

#include "gq/base/ulid.hpp"

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
  if (state == "spooled") return "S";
  if (state == "held") return "o";
  if (state == "kept") return "y";
  return "";
}

// The same for several states, each order once. Serial jobs in h are in l, too.
std::string orders_of(const std::vector<std::string>& states) {
  if (states.empty()) return "cqdlBnSoxy";
  std::string orders;
  for (const auto& state : states)
    for (char order : orders_of(state))
      if (orders.find(order) == std::string::npos) orders += order;
  if (orders.find('l') != std::string::npos) std::erase(orders, 'h');
  return orders;
}

bool contains(const std::vector<std::string>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool is_of_function(const Listed& what, const Job& job) {
  return what.functions.empty() || contains(what.functions, job.function);
}

// Returns the order that contains a job, if the job has no serial key.
char order_of(const Job& job) {
  switch (job.state) {
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
      return job.spooled ? 'S' : 'n';
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

// Goes through the orders one after the other, and then through the jobs that the journal has named meanwhile: such a
// job may have left an order before the listing reached it, and may have entered one that was listed already.
class Listing {
 public:
  Listing(Ledger& ledger, const Listed& what, const std::function<bool(Claim&)>& visit)
      : m_ledger(ledger),
        m_what(what),
        m_visit(visit),
        m_orders(orders_of(what.states)),
        m_named(ledger, end_of(ledger)) {}

  void run() {
    const std::set<std::string> functions(m_what.functions.begin(), m_what.functions.end()), all{""};
    for (char order : m_orders) {
      const bool is_by_function = std::string_view("qdxnyB").find(order) != std::string_view::npos;
      for (const auto& function : is_by_function && !functions.empty() ? functions : all)
        if (!list_order(order, function)) return;
    }
    list_named(find_named());
  }

 private:
  static Lsn end_of(Ledger& ledger) {
    Lsn end = 0;
    ledger.look([&](Fold& fold) { end = fold.position().end; });
    return end;
  }

  bool is_wanted(const Job& job) const {
    return m_orders.find(order_of(job)) != std::string::npos && is_of_function(m_what, job);
  }

  // Lists the jobs of an order, and of this function unless it is empty, that were not named. Returns false if `visit`
  // did.
  bool list_order(char order, const std::string& function) {
    std::vector<Claim> jobs;
    std::string cursor;
    for (bool last = false; !last;) {
      m_named.read_on(m_ledger.end());  // reads here, so that the next visit is short
      m_ledger.look([&](Fold& fold) {
        jobs.clear();
        std::vector<std::string> ids;
        std::string next = cursor;
        last = fold.page(order, function, m_what.page, next, ids);
        m_named.read_on(fold.position().end);
        for (const auto& id : ids)
          if (auto job = m_named.has(id) ? std::nullopt : fold.get(id);
              job && is_wanted(*job) && stands_among_serial(*job) == is_serial_order(order))
            jobs.push_back({id, std::move(*job)});
        m_named.leave_out_ended(fold);
        cursor = next;
      });
      for (auto& job : jobs) {
        m_shown.add(job.job.first_lsn);
        if (!m_visit(job)) return false;
      }
    }
    return true;
  }

  // Returns the jobs that were named and not listed, in the order of their arrival.
  std::vector<std::string> find_named() {
    std::vector<std::pair<Lsn, std::string>> named;  // with their Job::first_lsn, by which m_shown identifies them
    for (auto id = m_named.ids().begin(); id != m_named.ids().end();) {
      auto page = id;
      size_t before = named.size();
      m_ledger.look([&](Fold& fold) {
        named.resize(before);
        id = page;
        for (size_t n = 0; n < m_what.page && id != m_named.ids().end(); ++n, ++id)
          if (auto job = fold.get(*id); job && is_wanted(*job)) named.push_back({job->first_lsn, *id});
      });
    }
    std::sort(named.begin(), named.end());
    m_shown.for_each([&](Lsn lsn) {
      auto at =
          std::lower_bound(named.begin(), named.end(), lsn, [](const auto& l, Lsn value) { return l.first < value; });
      if (at != named.end() && at->first == lsn) at->second.clear();
    });
    std::vector<std::string> ids;
    for (auto& [lsn, id] : named)
      if (!id.empty()) ids.push_back(std::move(id));
    return ids;
  }

  void list_named(const std::vector<std::string>& ids) {
    std::vector<Claim> jobs;
    for (size_t at = 0; at < ids.size();) {
      size_t page = at;
      m_ledger.look([&](Fold& fold) {
        jobs.clear();
        at = page;
        for (size_t n = 0; n < m_what.page && at < ids.size(); ++n, ++at)
          if (auto job = fold.get(ids[at]); job && is_wanted(*job)) jobs.push_back({ids[at], std::move(*job)});
      });
      for (auto& job : jobs)
        if (!m_visit(job)) return;
    }
  }

  Ledger& m_ledger;
  const Listed& m_what;
  const std::function<bool(Claim&)>& m_visit;
  const std::string m_orders;
  Named m_named;
  Lsns m_shown;
};

// Lists all jobs of these functions by their IDs, also finished ones; the caller looks at their states. Each job has
// one place in this order, so it is listed once.
void list_by_id(Ledger& ledger, const Listed& what, const std::function<bool(Claim&)>& visit) {
  std::vector<Claim> jobs;
  std::string cursor;
  for (bool last = false; !last;) {
    std::string next;
    ledger.look([&](Fold& fold) {
      jobs.clear();
      next = cursor;
      last = fold.jobs(what.page, next, [&](std::string id, Job job) {
        if (is_of_function(what, job)) jobs.push_back({std::move(id), std::move(job)});
      });
    });
    cursor = next;
    for (auto& job : jobs)
      if (!visit(job)) return;
  }
}

}  // namespace

void list_jobs(Ledger& ledger, const Listed& what, const std::function<bool(Claim&)>& visit) {
  if (contains(what.states, state_name(State::finished))) list_by_id(ledger, what, visit);
  else Listing(ledger, what, visit).run();
}

std::vector<std::string> jobs_with_prefix(Ledger& ledger, const std::string& prefix, size_t most) {
  std::vector<std::string> ids;
  ledger.look([&](Fold& fold) {
    ids.clear();
    if (prefix.size() == ulid_size && fold.get(prefix)) ids.push_back(prefix);  // jobs() begins after a whole ID
    std::string cursor = prefix;
    fold.jobs(most, cursor, [&](const std::string& id, const Job&) {
      if (id.starts_with(prefix)) ids.push_back(id);
    });
  });
  return ids;
}

}  // namespace gq
