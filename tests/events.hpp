// Makes random events for folds. The events are about few jobs, keys, serial keys, functions, owners and nodes, so that
// they collide.
#pragma once

#include <algorithm>
#include <random>

#include "gq/base/ulid.hpp"
#include "gq/state/fold.hpp"

class RandomEvents {
 public:
  struct Item {
    gq::Event event;
    gq::RecordHead head;
    gq::Lsn lsn, end;
  };

  // If `orderly` is true, jobs are claimed as by Queue::claim(): only a job whose turn it is, and no other process
  // claims in between. Otherwise any event comes at any time.
  RandomEvents(uint64_t seed, size_t jobs, bool orderly) : m_random(seed), m_orderly(orderly) {
    for (size_t i = 0; i < jobs; ++i) {
      std::string id = "01ARZ3NDEKTSV4RRFFQ6000000";
      for (size_t at = 18; at < id.size(); ++at) id[at] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"[below(32)];
      m_ids.push_back(id);
    }
  }

  uint64_t below(uint64_t n) { return m_random() % n; }
  bool once_in(uint64_t n) { return below(n) == 0; }
  const std::string& id() { return m_ids[below(m_ids.size())]; }
  const std::vector<std::string>& ids() const { return m_ids; }

  // Returns a next event for the journal of this fold. It fits its job more often than by chance.
  Item next(gq::Fold& fold) {
    m_at += gq::Millis(below(20));
    Item item;
    item.lsn = m_end;
    m_end += 100 + below(once_in(50) ? gq::weight_step : 2000);
    item.end = m_end;
    item.head.head_sum = m_random();
    item.event = event(fold, item.head);
    return item;
  }

  // Returns the same record, as if appended a second time.
  Item again(Item item) {
    item.lsn = m_end;
    item.end = m_end += 100 + below(2000);
    return item;
  }

  gq::Millis now() const { return m_at; }

 private:
  template <size_t n>
  const char* any(const char* const (&words)[n]) {
    return words[below(n)];
  }
  std::string node() { return any({"here", "here", "there", "away"}); }
  std::string store_of(const std::string& node) { return node.empty() ? "" : store(node, once_in(8)); }
  gq::Millis due() { return once_in(3) ? m_at + gq::Millis(below(50)) : gq::Millis(0); }
  uint32_t number(uint64_t n) { return static_cast<uint32_t>(below(n)); }
  std::string why() { return any({"", "it failed", "dropped"}); }
  uint32_t exit_status() { return once_in(2) ? gq::no_exit : number(3); }
  std::vector<std::string> some_ids() {
    std::vector<std::string> all{id()};
    while (once_in(2)) all.push_back(id());
    return all;
  }
  // Return the name of a process, and the name of one of its commands.
  std::string claimer() { return any({"A.0", "B.0"}); }
  std::string owner() { return any({"A.0", "A.1", "A.2", "B.1"}); }

  // A claim is chosen now and appended a little later. In between, other processes may append, but not claim.
  gq::Event orderly_claim(gq::Fold& fold) {
    gq::event::Claim claim{.at = m_at, .owner = claimer()};
    std::swap(claim.ids, m_to_claim);
    if (!claim.ids.empty()) return claim;
    for (const auto& one : some_ids()) {
      auto job = fold.get(one);
      if (job && fold.may_run(*job) &&
          (job->state == gq::State::queued || job->state == gq::State::delayed || !job->owner.empty()))
        m_to_claim.push_back(one);
    }
    return gq::event::Resume{.function = "h", .at = m_at};
  }

  // Sets the job's holder and the number of its start in an event.
  template <typename E>
  E said(gq::Fold& fold) {
    E e{.id = id(), .at = m_at, .owner = owner(), .start = number(3)};
    auto job = fold.get(e.id);
    if (!job || once_in(6)) return e;
    constexpr bool starts = std::is_same_v<E, gq::event::Start>;
    if (!job->owner.empty()) e.owner = starts ? gq::owner_process(job->owner) + any({".1", ".2"}) : job->owner;
    e.start = job->starts + starts;
    return e;
  }

  gq::Event add(gq::RecordHead& head) {
    gq::event::Add e{.id = id(), .at = m_at, .given = once_in(2)};
    const uint64_t kind = static_cast<uint64_t>(e.id.back() + (once_in(20) ? 1 : 0));  // mostly the same for one ID
    e.asked.function = kind % 2 ? "f" : "g";
    e.asked.due = due();
    if (once_in(2)) e.asked.expire = m_at + gq::Millis(below(400));
    e.asked.priority = number(3);
    e.asked.max_attempts = number(3);
    if (once_in(2)) e.asked.key = any({"k1", "k2"}), e.asked.window = gq::Millis(below(2) * 100);
    if (once_in(2)) e.asked.serial = any({"s1", "s2", "s3"});
    e.asked.result = once_in(3);
    if (once_in(3)) e.asked.after = number(5), e.asked.after_any = once_in(2), e.asked.parents_sum = number(3);
    if (once_in(2))
      for (uint32_t n = 0; n < e.asked.after; ++n) {
        e.parents.push_back(id());
        if (once_in(3)) e.met.push_back(e.parents.back());
      }
    head.data_size = kind % 3 ? kind : 100'000;
    head.data_sum = kind;
    if (once_in(5)) {
      e.part = {id(), below(5), head.data_size, head.data_sum};
      head.data_size = head.data_sum = 0;
    }
    if (!once_in(3)) e.node = node();
    e.store = store_of(e.node);
    e.copies = e.node.empty() ? 0 : number(4);
    e.once = !e.node.empty() && !once_in(4);
    if (once_in(8)) e.letter = id();
    if (once_in(5) && e.asked.after == 0) e.descent = {id(), 1 + number(2)};
    e.spooled = e.node.empty() && e.descent.parent.empty() && once_in(4);
    return e;
  }

  // What becomes of a command's output, which is the data of the record if it is kept.
  uint32_t output(gq::RecordHead& head) {
    const uint32_t kept = number(gq::kept_values);
    if (kept == static_cast<uint32_t>(gq::Kept::whole)) head.data_size = below(3) * 50'000, head.data_sum = below(3);
    return kept;
  }

  gq::Event state(gq::Fold& fold) {
    gq::event::State e{.id = id(), .at = m_at, .state = any({"queued", "queued", "dead", "kept", "finished"})};
    if (!once_in(6)) e.node = node(), e.store = store_of(e.node);
    auto job = fold.get(e.id);
    e.term = (job ? job->term : 0) + number(2);
    e.version = (job ? job->version : 0) + number(3);
    if (once_in(4)) e.at -= gq::Millis(below(100));
    e.due = due();
    e.starts = number(3), e.failures = number(3), e.crashes = number(3), e.attempts = number(3);
    e.why = why();
    e.exit = exit_status(), e.signal = number(2);
    e.keep = once_in(3), e.dropped = once_in(4), e.lifted = once_in(4), e.cancelled = once_in(8);
    // Mostly the job with that ID. Some programs send only its function.
    const uint64_t kind = static_cast<uint64_t>(e.id.back() + (once_in(20) ? 1 : 0));
    e.function = kind % 2 ? "f" : "g";
    if (!once_in(4)) e.size = kind % 3 ? kind : 100'000, e.sum = kind;
    return e;
  }

  gq::Event event(gq::Fold& fold, gq::RecordHead& head) {
    using namespace gq;
    switch (below(31)) {
      case 0:
      case 1:
      case 2:
      case 3:
      case 4:
      case 5:
        return add(head);
      case 6:
      case 7:
      case 8:
      case 9:
        return m_orderly ? orderly_claim(fold) : event::Claim{.ids = some_ids(), .at = m_at, .owner = claimer()};
      case 10:
      case 11:
      case 12:
        return said<event::Start>(fold);
      case 13: {
        auto e = said<event::Done>(fold);
        e.exit = exit_status(), e.signal = number(2), e.attempts = number(3), e.keep = once_in(3);
        e.output = output(head);
        e.children = number(3);
        return e;
      }
      case 14:
      case 15: {
        auto e = said<event::Fail>(fold);
        e.spent = !once_in(3), e.due = due(), e.why = why(), e.exit = exit_status(), e.signal = number(2);
        return e;
      }
      case 16: {
        if (once_in(2))
          return event::Dead{
              .id = id(), .at = m_at, .owner = event::nobody, .spent = false, .why = any({"expired", "refused"})};
        auto e = said<event::Dead>(fold);
        e.spent = !once_in(3), e.why = why(), e.exit = exit_status(), e.signal = number(2);
        e.output = output(head);
        return e;
      }
      case 17:
        if (once_in(3)) return event::Cancel{.id = id(), .at = m_at};
        return event::Kick{.id = id(), .at = m_at};
      case 18:
        return event::Drop{.id = id(), .at = m_at, .attempts = number(3)};
      case 19:
        return event::Keep{.id = id(), .at = m_at};
      case 20:
        return event::Release{.id = id(), .at = m_at};
      case 21:
        if (once_in(3)) return event::Letter{.function = any({"f", "g", "h"}), .at = m_at, .to = any({"g", "h", ""})};
        if (once_in(3))
          return event::Rate{.function = any({"f", "g", "h"}),
                             .at = m_at,
                             .starts = number(3),
                             .period = rate_periods[below(3)].length};
        if (once_in(2)) return event::Pause{.function = any({"f", "g", "h"}), .at = m_at, .limit = number(3)};
        return event::Resume{.function = any({"f", "g", "h"}), .at = m_at, .unlimited = once_in(2)};
      case 22:
        return event::Copied{
            .ids = some_ids(), .at = m_at, .peers = any({"there", "away", "there,away", ""}), .enough = once_in(4)};
      case 23:
      case 24:
        return state(fold);
      case 25: {
        const std::string name = node();
        return event::Peer{.node = name,
                           .store = once_in(5) ? "" : store_of(name),
                           .at = m_at,
                           .position = below(m_end),
                           .since = once_in(2) ? 0 : below(m_end)};
      }
      case 26: {
        event::Forget e{.ids = some_ids(), .at = m_at, .position = m_end - std::min<Lsn>(m_end, below(100'000))};
        // No job is forgotten and added again while it is being claimed.
        std::erase_if(m_to_claim, [&](const std::string& one) { return std::count(e.ids.begin(), e.ids.end(), one); });
        return e;
      }
      case 27:
      case 28: {
        event::After e{.id = id(), .at = m_at, .ids = some_ids()};
        auto job = fold.get(e.id);
        if (job && !once_in(6)) e.first = job->edges;
        return e;
      }
      case 29: {
        const auto wakes = fold.wakes(1 + below(3), m_at);
        if (!wakes.empty() && !once_in(6)) return wakes[below(wakes.size())];
        return event::Wake{.id = id(), .at = m_at, .ids = some_ids(), .dropped = once_in(3)};
      }
      default:
        if (once_in(3)) return event::Stream{.at = m_at, .version = 1};
        if (once_in(2)) return event::End{.at = m_at, .jobs = 1};
        return Gap{.at = m_at, .position = m_end, .since = below(m_end)};
    }
  }

 public:
  // Returns an identity of a node: the present one, or the previous one.
  static std::string store(const std::string& node, bool former) {
    return std::string(former ? "01FORMER" : "01STORES") + std::string(18 - node.size(), '0') +
           (node == "here"    ? "HERE"
            : node == "there" ? "THERE"
            : node == "away"  ? "AWAY"
                              : "");
  }

 private:
  std::mt19937_64 m_random;
  const bool m_orderly;
  std::vector<std::string> m_to_claim;
  std::vector<std::string> m_ids;
  gq::Millis m_at{1'700'000'000'000};
  gq::Lsn m_end = 64;
};
