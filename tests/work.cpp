// Unit tests of the decisions about commands and their jobs, over all combinations of events.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <functional>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "check.hpp"
#include "gq/base/ulid.hpp"
#include "gq/state/fold.hpp"
#include "gq/state/map_table.hpp"
#include "gq/store/claiming.hpp"
#include "gq/work/children.hpp"
#include "gq/work/claimer.hpp"
#include "gq/work/conclusion.hpp"
#include "gq/work/dialogue.hpp"
#include "gq/work/schedule.hpp"
#include "gq/work/stop.hpp"
#include "gq/work/stream.hpp"

void test_work();

namespace {

using namespace gq;
using Time = SignalSequence::Time;
using What = Conclusion::What;
using Of = AttemptEnd::Of;

const Time begun{std::chrono::hours(1)};
constexpr Millis wall{1'700'000'000'000};

bool one_of(int code, std::initializer_list<int> codes) {
  return std::find(codes.begin(), codes.end(), code) != codes.end();
}

// Calls `body` with all ways in which an attempt can end. An answer has only an exit status.
void each_end(const std::function<void(const AttemptEnd&)>& body) {
  for (Of of : {Of::command, Of::stream, Of::answer})
    for (int signal : {0, SIGKILL, SIGTERM, SIGSEGV})
      for (int exit = 0; exit < (signal ? 1 : 256); ++exit)
        for (int bits = 0; bits < 8; ++bits)
          for (Printed printed : {Printed::arrives, Printed::nowhere, Printed::no_room})
            for (int unsent : {0, EPIPE, EPROTO, EIO}) {
              AttemptEnd end{.of = of, .exit = exit, .signal = signal, .at_limit = (bits & 1) != 0};
              end.cut_off = bits & 2, end.prints = bits & 4, end.printed = printed, end.unsent = unsent;
              if (of == Of::answer && (signal || bits || unsent)) continue;
              if ((of == Of::command && unsent) || (of == Of::stream && end.prints)) continue;
              if (!end.prints && printed != Printed::arrives) continue;
              body(end);
            }
}

// Each end of an attempt has the result for the job that gq-worker(1) says.
void each_end_has_its_conclusion() {
  ConclusionRules rules;
  uint64_t seen[5] = {};
  each_end([&](const AttemptEnd& end) {
    const bool answers = end.of != Of::stream && !end.signal;  // its exit status decides about the job
    const bool good = answers && one_of(end.exit, {0, 99});
    const bool hopeless = answers && !end.at_limit && one_of(end.exit, {100, 64, 65, 70, 76, 77, 78, 112});
    const bool broken = !end.signal && !end.at_limit && one_of(end.exit, {126, 127});
    const bool is_unsent = end.unsent == EIO;
    for (uint32_t failures : {0, 3, 4, 7})
      for (uint32_t own : {0, 1, 8}) {
        Job job;
        job.failures = failures, job.max_attempts = own;
        const bool last = failures + 1 >= (own ? own : 5);
        const Conclusion c = conclude(end, job, rules, wall, 0.5);
        const bool retry = !good && !hopeless && !broken;
        const bool vain = end.prints && !end.at_limit && retry && end.printed != Printed::arrives;
        const What what = good                               ? What::done
                          : end.cut_off || vain || is_unsent ? What::given_back
                          : broken                           ? What::broken
                          : hopeless || (retry && last)      ? What::dead
                                                             : What::again;
        CHECK(c.what == what);
        ++seen[static_cast<int>(c.what)];
        CHECK(c.spent == (what == What::done || what == What::again || what == What::dead));
        CHECK(c.is_attempt() == (what != What::given_back));
        CHECK(c.discard == ((what == What::done && end.exit == 99) || what == What::broken) && !c.keep);
        if (what == What::again) {  // doubled for each earlier failure
          const Millis delay = rules.backoff * (1 << failures);
          CHECK(c.due == wall + delay && conclude(end, job, rules, wall, 0).due == wall + delay * 3 / 4 &&
                conclude(end, job, rules, wall, 1).due == wall + delay * 5 / 4);
        } else if (what == What::given_back && !end.cut_off && end.printed != Printed::nowhere) {
          CHECK(c.due == wall + (is_unsent ? Millis(1000) : Millis(60'000)));
        } else {
          CHECK(c.due == Millis(0));
        }
        const bool has_status = c.spent && !end.signal;
        CHECK(c.exit == (has_status ? static_cast<uint32_t>(end.exit) : no_exit) &&
              c.signal == (c.spent ? static_cast<uint32_t>(end.signal) : 0));
        CHECK(c.why.empty() == false);
        CHECK(depends_on_output(end, rules) == (end.prints && !end.at_limit && !end.cut_off && retry));
      }
  });
  for (auto n : seen) CHECK(n > 0);
}

void a_conclusion_gives_its_reason() {
  ConclusionRules rules;
  auto why = [&](AttemptEnd end) { return conclude(end, {}, rules, wall, 0).why; };
  CHECK(why({.exit = 3}) == "exit 3" && why({.exit = 3, .said = "no such customer"}) == "exit 3: no such customer");
  CHECK(why({.signal = SIGSEGV}) == "signal 11" && why({.signal = SIGTERM, .at_limit = true}) == "time limit");
  CHECK(why({.of = Of::stream, .exit = 3, .said = "x"}) == "no answer: exit 3: x");
  CHECK(why({.of = Of::stream, .exit = 127}) == "exit 127" && why({.of = Of::stream, .signal = 9}) == "signal 9");
  CHECK(why({.of = Of::answer, .exit = 100, .said = "bad address"}) == "exit 100: bad address");
  CHECK(why({.exit = 1, .cut_off = true}) == "stopped with its worker");
  CHECK(why({.exit = 1, .prints = true, .printed = Printed::nowhere}) == "its output could not be written: exit 1");
  CHECK(why({.of = Of::stream, .signal = 9, .unsent = EIO}) ==
        "the job could not be sent to the command: Input/output error");
}

// What an output becomes with --then: one job, or one for each item; an empty output becomes none.
void an_output_has_items() {
  using Texts = std::vector<std::string_view>;
  for (const Items items : {Items::whole, Items::lines, Items::null}) CHECK(items_of("", items).empty());
  const std::string_view both("a\n\0b\n\nc", 7);
  CHECK(items_of(both, Items::whole) == Texts{both});
  CHECK(items_of(both, Items::lines) == (Texts{"a", std::string_view("\0b", 2), "", "c"}));
  CHECK(items_of(both, Items::null) == (Texts{"a\n", "b\n\nc"}));
  CHECK(items_of("a\n", Items::lines) == Texts{"a"} && items_of("\n\n", Items::lines) == (Texts{"", ""}));
}

// A child's ID follows from its parent's ID and its number alone.
void a_child_has_an_id() {
  const std::string a = "01ARZ3NDEKTSV4RRFFQ6000001", b = "01ARZ3NDEKTSV4RRFFQ6000002";
  CHECK(child_id(a, 0) == "01ARZ3NDEK2J399RJ9ENRDK38E");
  std::set<std::string> ids;
  for (const auto& parent : {a, b})
    for (uint32_t n = 0; n < 1000; ++n) ids.insert(child_id(parent, n));
  CHECK(ids.size() == 2000);
  for (const auto& id : ids) CHECK(is_ulid(id) && ulid_time(id) == ulid_time(a));
}

// With --then, a command that succeeds is done with as many children as its output has become; if the output cannot
// become jobs, the job is dead or given back.
void a_conclusion_has_children() {
  ConclusionRules rules{.max_attempts = 2};
  CHECK(!has_offspring({.exit = 0}, rules));
  rules.then.function = "g";
  CHECK(has_offspring({.exit = 0}, rules) && has_offspring({.exit = 0, .cut_off = true}, rules));
  for (const int exit : {1, 99, 100, 127}) CHECK(!has_offspring({.exit = exit}, rules));
  CHECK(!has_offspring({.signal = 9}, rules));
  CHECK(rules.outcomes.replace("3=keep") && has_offspring({.exit = 3}, rules));
  auto end = [&](Offspring offspring) {
    return conclude({.exit = 0, .offspring = std::move(offspring)}, {}, rules, wall, 0.5);
  };
  CHECK(end({.jobs = 7}).what == What::done && end({.jobs = 7}).children == 7);
  const Conclusion never = end({.problem = "too many"});
  CHECK(never.what == What::dead && never.spent && never.why == "too many" && never.children == 0);
  const Conclusion later = end({.problem = "no room", .passes = true});
  CHECK(later.what == What::given_back && !later.spent && later.why == "no room" && later.due > wall);
  const Claim parent{"01ARZ3NDEKTSV4RRFFQ6000001", {}};
  const auto record = parse_record(conclusion_record(parent, end({.jobs = 7}), wall));
  CHECK(record && std::get<event::Done>(record->event).children == 7);
}

// An output is kept with an end only, and up to the size that the worker keeps of all jobs, or of those that ask.
void an_output_is_kept_with_an_end() {
  ConclusionRules rules{.max_attempts = 2};
  Job job;
  CHECK(!output_limit(job, rules));
  job.result = true;
  CHECK(output_limit(job, rules) == usual_output);
  rules.keep_output = usual_output + 1;
  CHECK(output_limit(job, rules) == usual_output + 1);
  job.result = false;
  CHECK(output_limit(job, rules) == usual_output + 1);
  rules.keep_output = 5;
  CHECK(output_limit(job, rules) == uint64_t{5});
  for (const Kept kept : {Kept::not_asked, Kept::whole, Kept::too_large, Kept::no_room}) {
    const auto output = [&](int exit, bool cut_off = false) {
      return conclude({.exit = exit, .cut_off = cut_off, .output = kept}, job, rules, wall, 0.5).output;
    };
    CHECK(output(0) == kept && output(99) == kept && output(100) == kept && output(0, true) == kept);
    CHECK(output(1) == Kept::not_asked && output(127) == Kept::not_asked && output(1, true) == Kept::not_asked);
  }
  job.failures = 1;
  Claim claim{.id = "01ARZ3NDEKTSV4RRFFQ69G5FAV", .job = job};
  claim.job.owner = "o";
  for (const int exit : {0, 1})
    for (const size_t size : {size_t{0}, size_t{max_inline_data}, size_t{max_inline_data} + 1}) {
      const std::string printed(size, 'x');
      const auto c = conclude({.exit = exit, .output = Kept::whole}, job, rules, wall, 0.5);
      const std::string bytes = conclusion_record(claim, c, wall, printed);
      const auto record = parse_record(bytes);
      CHECK(record && record->data_size == size && record->data_sum == sum64(printed) &&
            bytes.substr(record->head_size) == (size > max_inline_data ? "" : printed));
      const auto kept = std::visit(
          [](const auto& e) {
            if constexpr (requires { e.output; }) return e.output;
            else return uint32_t{99};
          },
          record->event);
      CHECK(kept == static_cast<uint32_t>(Kept::whole) && is_any_of<event::Done>(record->event) == (exit == 0));
    }
}

// The effects of --on-exit, --keep and --backoff, and the resulting records.
void conclusions_are_recorded() {
  ConclusionRules rules{.max_attempts = 2, .backoff = Millis(100), .longest_backoff = Millis(150)};
  for (const char* row : {"3=done", "4=dead", "5=retry:7d", "6=keep", "0=retry"}) CHECK(rules.outcomes.replace(row));
  Claim claim{.id = "01ARZ3NDEKTSV4RRFFQ69G5FAV", .job = {}};
  claim.job.owner = "o", claim.job.starts = 7, claim.job.failures = 1, claim.job.max_attempts = 9;
  auto record = [&](const Conclusion& c) {
    auto read = parse_record(conclusion_record(claim, c, wall));
    CHECK(read);
    return read ? read->event : Event{};
  };
  auto ended = [&](int exit) { return conclude({.exit = exit}, claim.job, rules, wall, 0.5); };
  auto fail = [&](const Conclusion& c) { return std::get<event::Fail>(record(c)); };
  const auto done = std::get<event::Done>(record(ended(3))), kept = std::get<event::Done>(record(ended(6)));
  CHECK(done.id == claim.id && done.at == wall && done.owner == "o" && done.start == 7 && done.exit == 3);
  CHECK(done.attempts == 2 && !done.keep && kept.keep && kept.exit == 6);
  CHECK(fail(ended(5)).due == wall + std::chrono::hours(7 * 24) && fail(ended(5)).spent && fail(ended(5)).exit == 5);
  CHECK(fail(ended(0)).due == wall + Millis(150) && fail(ended(0)).start == 7 && fail(ended(0)).owner == "o");
  CHECK(!fail(ended(127)).spent && fail(ended(127)).exit == no_exit && fail(ended(127)).due == Millis(0));
  CHECK(!fail(given_back("x", wall)).spent && fail(given_back("x", wall)).why == "x" &&
        fail(given_back("x", wall)).due == wall);
  const auto dead = std::get<event::Dead>(record(ended(4))), never = std::get<event::Dead>(record(buried("x")));
  CHECK(dead.spent && dead.exit == 4 && dead.why == "exit 4" && !never.spent && never.exit == no_exit);
  rules.keep = true;
  CHECK(std::get<event::Done>(record(ended(3))).keep);
}

// Calls `body` with all sequences of up to `length` events of `choices` kinds.
void each_script(size_t choices, size_t length, const std::function<void(const std::vector<size_t>&)>& body) {
  std::vector<size_t> script(length, 0);
  for (;;) {
    body(script);
    size_t at = 0;
    while (at < length && ++script[at] == choices) script[at++] = 0;
    if (at == length) return;
  }
}

// Checks that in a sequence no signal is early, none is sent twice, SIGTERM is the first, and at() returns when the
// next one is due.
class Signals {
 public:
  void sent(int signal, Time now) {
    CHECK(signal == (m_times.empty() ? SIGTERM : SIGKILL) && m_times.size() < 2);
    m_times.push_back(now);
  }
  size_t count() const { return m_times.size(); }
  Time at(size_t n) const { return m_times[n]; }

 private:
  std::vector<Time> m_times;
};

template <typename Sequence>
void take(Sequence& sequence, Signals& signals, Time now) {
  const auto at = sequence.at();
  const int signal = sequence.next(now);
  CHECK((signal != 0) == (at && *at <= now));
  if (signal) signals.sent(signal, now);
}

// The stop of a worker: after the grace and the delay of SIGKILL, all signals have been sent. A second stop signal
// skips the grace.
void a_stop_ends_all() {
  constexpr Millis grace{30'000};
  const Millis steps[] = {Millis(0), Millis(1), Stop::kill_delay, grace / 2, grace};
  each_script(6, 6, [&](const std::vector<size_t>& script) {
    Stop stop(grace);
    Signals signals;
    Time now = begun;
    std::vector<Time> asked;
    for (size_t what : script) {
      if (what == 5) {
        CHECK(stop.ask(now) == asked.empty());
        asked.push_back(now);
      } else {
        now += steps[what];
      }
      const size_t before = signals.count();
      take(stop, signals, now);
      CHECK(stop.is_asked() == !asked.empty() && stop.cuts_off() == (signals.count() > 0));
      if (asked.empty()) CHECK(!stop.at() && signals.count() == 0);
      if (what == 5 && asked.size() > 1 && before < 2) CHECK(signals.count() == before + 1);  // at once
      if (signals.count() > before && what != 5)
        CHECK(now >= (before == 0 ? asked.front() + grace : signals.at(0) + Stop::kill_delay));
    }
    if (asked.empty()) return;
    for (int n = 0; n < 2 && stop.at(); ++n) {  // a caller that waits until at() misses no signal
      CHECK(*stop.at() <= now + std::max(grace, Stop::kill_delay));
      now = std::max(now, *stop.at());
      take(stop, signals, now);
    }
    CHECK(signals.count() == 2 && !stop.at() && stop.next(now + std::chrono::hours(1)) == 0);
  });
}

// The time limit of a command: only a working command can reach it, only a command that should end can exceed the
// grace, and after SIGTERM the sequence is not cleared.
void a_command_has_its_limit() {
  constexpr Millis limit{1000}, grace{300};
  const Millis steps[] = {Millis(1), grace, limit};
  for (Millis time_limit : {Millis(0), limit})
    each_script(6, 6, [&](const std::vector<size_t>& script) {
      CommandLimit command(time_limit, grace);
      Signals signals;
      Time now = begun;
      std::optional<Time> bound;  // for SIGTERM
      for (size_t what : script) {
        const bool reached = signals.count() > 0;
        if (what == 3) command.works(now);
        if (what == 4) command.idles();
        if (what == 5) command.should_end(now);
        if (what < 3) now += steps[what];
        else if (!reached) bound.reset();
        if (!reached && what == 3 && time_limit.count()) bound = now + time_limit;
        if (!reached && what == 5) bound = now + grace;
        const size_t before = signals.count();
        take(command, signals, now);
        CHECK(command.is_reached() == (signals.count() > 0));
        if (before == 0)
          CHECK((signals.count() == 1) == (bound && *bound <= now) && (reached || command.at() || !bound));
        if (before == 1 && signals.count() == 2) CHECK(now >= signals.at(0) + grace);
        if (before == 1 && now >= signals.at(0) + grace) CHECK(signals.count() == 2);
      }
      for (int n = 0; n < 2 && command.at(); ++n) take(command, signals, std::max(now, *command.at()));
      CHECK(signals.count() == (bound ? 2 : 0) && !command.at());
    });
}

void starts_keep_their_rate() {
  Rate none(0), ten(10);
  none.started(begun);
  CHECK(none.next() < begun && ten.next() < begun);
  int started = 0;
  for (Time now = begun; now < begun + Millis(1000); now += Millis(1))
    if (now >= ten.next()) ten.started(now), ++started;
  CHECK(started == 10);
  ten.started(begun + Millis(5000));  // missed starts are not caught up
  CHECK(ten.next() == begun + Millis(5100));
}

// A pause doubles from one second to one minute, and ends by itself. Its end is reported once.
void broken_commands_pause_their_function() {
  using enum Pauses::Begun;
  Pauses pauses;
  Time now = begun;
  CHECK(pauses.now(now).empty() && !pauses.next() && !pauses.are_over(now) && !pauses.end("f"));
  for (int seconds : {1, 2, 4, 8, 16, 32, 60, 60}) {
    CHECK(pauses.begin("f", now) == (seconds == 1 ? first : again) && pauses.begin("f", now) == already);
    const Time end = now + std::chrono::seconds(seconds);
    CHECK(pauses.next() == end && pauses.now(end - Millis(1)).count("f") && pauses.now(end).empty());
    CHECK(!pauses.are_over(end - Millis(1)) && pauses.are_over(end) && !pauses.are_over(end) && !pauses.next());
    now = end;
  }
  CHECK(pauses.functions() == std::vector<std::string>{"f"} && pauses.end("f") && !pauses.end("f"));
  CHECK(pauses.begin("f", now) == first && pauses.begin("g", now + Millis(1)) == first &&
        pauses.next() == now + Millis(1000));
}

void jobs_are_claimed_ahead() {
  CHECK(jobs_ahead(0, 1, false, 0) == 0 && jobs_ahead(2, 1000, false, 0) == 2 && jobs_ahead(2, 10, false, 0) == 10);
  CHECK(jobs_ahead(1, 0, false, 0) == 64 && jobs_ahead(3, 0, true, 0) == 3);
  CHECK(jobs_ahead(4, 1, false, 10) == 1 && jobs_ahead(4, 1, false, 100) == 5 && jobs_ahead(0, 1, false, 100) == 0);
}

// Calls `body` with all sets of up to three slots and all kinds of waiting jobs.
void each_schedule(const std::function<void(const Schedule&, Time now)>& body) {
  const Place kinds[] = {
      {.jobs = 0, .room = 1, .is_running = false},                     // free
      {.jobs = 1, .room = 0, .is_running = true},                      // full
      {.jobs = 0, .room = 2, .is_running = true},                      // a stream with nothing to do
      {.jobs = 1, .room = 1, .is_running = true},                      // a stream with room
      {.jobs = 0, .room = 0, .is_running = true, .is_closing = true},  // a stream that is closing
      {.jobs = 2, .room = 0, .is_running = true, .is_closing = true},
  };
  for (size_t slots : {1, 2, 3})
    each_script(std::size(kinds), slots, [&](const std::vector<size_t>& of) {
      Schedule schedule;
      for (size_t kind : of) schedule.places.push_back(kinds[kind]);
      for (schedule.waiting = 0; schedule.waiting < 3; ++schedule.waiting)
        for (int bits = 0; bits < 4; ++bits)
          for (Millis before : {Millis(-50), Millis(0), Millis(50), Millis(150)})
            for (Millis last : {Millis(-150), Millis(-100), Millis(-50)}) {
              schedule.suspect_first = bits & 1, schedule.is_stopping = bits & 2;
              if (schedule.suspect_first && schedule.waiting == 0) continue;
              schedule.not_before = begun + before, schedule.last_start = begun + last;
              body(schedule, begun);
            }
    });
}

// Each job starts in the slot that schedule.hpp says.
void each_job_has_its_place() {
  int starts = 0, closes = 0, given_back = 0, wanted = 0;
  each_schedule([&](const Schedule& s, Time now) {
    const auto takes = [&](const Place& p) { return s.suspect_first ? !p.is_running : p.room > 0; };
    const bool has_place = std::any_of(s.places.begin(), s.places.end(), takes);
    CHECK(has_place == (s.room() > 0));
    const auto next = s.next(now);
    CHECK(next.has_value() == (has_place && s.waiting > 0 && !s.is_stopping && now >= s.not_before));
    if (next) {
      ++starts;
      CHECK(takes(s.places[*next]));
      for (const auto& p : s.places) CHECK(!takes(p) || p.jobs >= s.places[*next].jobs);
      Schedule after = s;
      after.started(*next);
      const Place& place = after.places[*next];
      CHECK(place.jobs == s.places[*next].jobs + 1 && place.is_running);
      CHECK(place.room == s.places[*next].room - 1);
      after.suspect_first = true;
      CHECK(after.next(now) != next);  // a suspect job must be alone in its slot
    }
    CHECK(s.wants_jobs() == (!s.is_stopping && s.waiting == 0 && has_place));
    wanted += s.wants_jobs();
    // Waiting jobs are released, except a suspect one that is first.
    const bool too_long = !has_place && s.waiting > (s.suspect_first ? 1 : 0) && now - s.last_start >= Millis(100);
    CHECK(s.gives_back(now) == too_long);
    given_back += too_long;
    // One stream at a time is closed for a suspect job.
    const auto all = [&](auto condition) { return std::all_of(s.places.begin(), s.places.end(), condition); };
    const auto idle = s.to_close();
    const bool closes_one = s.suspect_first && all([](const Place& p) { return p.is_running && !p.is_closing; }) &&
                            !all([](const Place& p) { return p.jobs > 0; });
    CHECK(idle.has_value() == closes_one && (!idle || s.places[*idle].jobs == 0));
    closes += closes_one;
    // A caller that waits until due() misses no event, and does not wake without a reason.
    const auto due = s.due();
    const auto acts = [&](Time t) { return s.next(t) || s.gives_back(t); };
    CHECK(due ? acts(std::max(*due, now)) || s.is_stopping : !acts(now + std::chrono::hours(1)));
    if (due && *due > now) CHECK(!acts(*due - Millis(1)));
  });
  CHECK(starts > 0 && closes > 0 && given_back > 0 && wanted > 0);
}

// Simulates a worker for an hour, with a store in memory and without commands. At no time does it start a job of a
// paused function, a job that it already runs, a job with the serial key of another running job, more jobs than its
// rate allows, or more jobs in a slot than the slot takes. It claims only jobs that it can start within 50 ms. In the
// end each job has run.
void a_worker_keeps_the_rules(uint32_t seed) {
  std::mt19937 random(seed);
  const auto one_in = [&](int n) { return random() % n == 0; };
  MapTable table;
  Fold fold{table, {"here", "01ARZ3NDEKTSV4RRFFQ0000000"}};
  Lsn end = 64;
  const auto say = [&](const Event& event) {
    fold.apply(event, {.data_size = 1}, end, end + 100);
    end += 100;
  };
  const ClaimRules rules{.stream = one_in(2), .rate = one_in(2) ? 0.0 : one_in(2) ? 3.0 : 100.0};
  const size_t width = rules.stream ? 1 + random() % 4 : 1;
  const double average_ms = one_in(2) ? 1 : 400;
  const std::string owner = "01ARZ3NDEKTSV4RRFFQ7000003.0";
  for (int n = 0; n < 60; ++n) {
    char id[27];
    snprintf(id, sizeof id, "01ARZ3NDEKTSV4RRFFQ6%06d", n);
    say(event::Add{.id = id,
                   .asked = {.function = one_in(2) ? "f" : "g",
                             .serial = one_in(3)   ? "s"
                                       : one_in(3) ? "t"
                                                   : ""}});
  }
  Rate rate(rules.rate);
  Pauses pauses;
  std::deque<Claim> waiting;
  std::vector<std::vector<Claim>> slots(1 + random() % 3);
  std::vector<Time> started;
  Time now = begun, last_start = begun, broken_until = begun + std::chrono::seconds(20);
  size_t done = 0;
  const auto give_back = [&](const Claim& c) {
    say(event::Fail{.id = c.id, .owner = owner, .start = c.job.starts, .spent = false});
  };
  for (; now < begun + std::chrono::hours(1) && done < 60; now += Millis(one_in(20) ? 1000 : random() % 60)) {
    for (auto& slot : slots)
      while (!slot.empty() && one_in(2)) {
        const Claim job = std::move(slot.front());
        slot.erase(slot.begin());
        if (now >= broken_until || job.job.function == "f" || one_in(2)) {
          say(event::Done{.id = job.id, .owner = owner, .start = job.job.starts, .attempts = 1});
          ++done;
          continue;
        }
        give_back(job);
        pauses.begin("g", now);  // the command of g is missing
        std::erase_if(waiting, [&](const Claim& c) { return c.job.function == "g" && (give_back(c), true); });
      }
    const auto schedule = [&] {
      Schedule all{.waiting = waiting.size(), .not_before = rate.next(), .last_start = last_start};
      for (const auto& slot : slots) all.places.push_back({slot.size(), width - slot.size(), !slot.empty(), false});
      return all;
    };
    if (const Schedule s = schedule(); s.wants_jobs() && now >= s.not_before) {
      ClaimRequest request = claim_request(rules, pauses, average_ms, s.room(), now);
      request.owner = owner;
      for (const auto& slot : slots)
        for (const auto& c : slot) request.held.insert(c.id);
      const auto claims = choose(fold, request, {.now = wall, .is_alive = {}, .fold_on = [] {}}).claims.jobs;
      const double ahead_ms = static_cast<double>(claims.size()) / static_cast<double>(s.room()) * average_ms;
      CHECK(claims.size() <= s.room() || (!rules.stream && ahead_ms <= 50));
      CHECK(rules.rate == 0 || static_cast<double>(claims.size()) <= std::max(1.0, rules.rate * 0.05));
      event::Claim claimed{.owner = owner};
      for (const auto& c : claims) {
        CHECK(!request.held.count(c.id) && !pauses.now(now).count(c.job.function));
        claimed.ids.push_back(c.id);
      }
      if (!claims.empty()) say(claimed);
      for (const auto& c : claims) waiting.push_back({c.id, *fold.get(c.id)});
    }
    Schedule s = schedule();
    if (s.gives_back(now)) {
      for (const auto& c : waiting) give_back(c);
      waiting.clear();
    }
    while (auto place = s.next(now)) {
      Claim c = std::move(waiting.front());
      waiting.pop_front();
      CHECK(!pauses.now(now).count(c.job.function));
      for (const auto& slot : slots)
        for (const auto& other : slot)
          CHECK(other.id != c.id && (c.job.serial.empty() || other.job.serial != c.job.serial));
      say(event::Start{.id = c.id, .owner = owner, .start = ++c.job.starts});
      slots[*place].push_back(std::move(c));
      CHECK(slots[*place].size() <= width);
      rate.started(now);
      started.push_back(last_start = now);
      s.started(*place);
      s.waiting = waiting.size(), s.not_before = rate.next();
    }
  }
  CHECK(done == 60);
  const auto many = static_cast<size_t>(rules.rate) + 1;
  for (size_t n = many; rules.rate > 0 && n < started.size(); ++n)
    CHECK(started[n] - started[n - many] >= std::chrono::milliseconds(990));
}

// The number of jobs that a streamed command may have depends only on its latest answers.
void stream_windows() {
  const std::deque<Pace> quick(8, Pace{1, 1}), batches(8, Pace{10, 100}), slow{{1, 1}, {1001, 1}},
      middling(8, Pace{40, 1});
  CHECK(stream_window({}, 0) == 1 && stream_window({}, 5) == 1);
  CHECK(stream_window(quick, 0) == 50 && stream_window(batches, 0) == 256 && stream_window({{0, 1}}, 0) == 256);
  CHECK(stream_window({{2, 4}, {6, 12}}, 0) == 100);
  CHECK(stream_window(middling, 0) == 2 && stream_window({{1000, 1}}, 0) == 2);  // it may take a second job
  CHECK(stream_window(slow, 0) == 1 && stream_window({{1001, 1}, {1, 1}}, 0) == 2);
  CHECK(stream_window(batches, 1001) == 1 && stream_window(quick, 992) == 2);  // the current job counts, too
}

// A dialogue, and the test's own model of it.
class Talk {
 public:
  enum class State { sent, half, queued };
  struct Job {
    std::string id;
    State state;
  };
  Dialogue dialogue;
  std::vector<Job> jobs{};  // without an answer
  std::set<std::string> answered{};
  bool broken = false;

  void add(const std::string& id, State state) {
    Claim claim;
    claim.id = id, claim.job.function = "f", claim.job.size = 10;
    const std::string head = dialogue.add(claim, 1);
    CHECK(head == "10 " + id + " 1 f\n");
    jobs.push_back({id, state});
    m_unsent += head.size() + 10;
    // A half-sent job was sent except for its last byte.
    if (state != State::queued) send(m_unsent - (state == State::half ? 1 : 0));
  }
  void send_all() { send(m_unsent); }

  // Returns the effect that the line should have according to gq-stream(7): the job that it ends, "left out", or
  // "broken".
  std::string meaning(const std::string& name) const {
    if (broken) return "left out";
    const auto named = std::find_if(jobs.begin(), jobs.end(), [&](const Job& j) { return j.id == name; });
    if (named != jobs.end() && named->state == State::sent) return named->id;
    if (answered.count(name)) return "left out";
    if (named != jobs.end() || jobs.empty() || jobs.front().state != State::sent) return "broken";
    return jobs.front().id;
  }
  // Applies the line to the model. Returns whether it ends a job.
  bool follow(const std::string& what) {
    broken = broken || what == "broken";
    const auto job = std::find_if(jobs.begin(), jobs.end(), [&](const Job& j) { return j.id == what; });
    if (job == jobs.end()) return false;
    jobs.erase(job);
    answered.insert(what);
    return true;
  }
  // Checks the answers that the dialogue has read from the line.
  void check(const std::vector<Dialogue::Answer>& answers, const std::string& what) {
    const bool is_answer = follow(what);
    CHECK(answers.size() == (is_answer ? 1 : 0));
    if (is_answer && answers.size() == 1) CHECK(answers[0].id == what);
    CHECK(dialogue.current() == (jobs.empty() ? "" : jobs.front().id));
  }
  void receive(const std::string& line, const std::string& name) {
    const std::string what = meaning(name);
    check(dialogue.receive(line, begun), what);
  }

 private:
  void send(uint64_t bytes) {
    dialogue.sent(bytes, begun);
    m_unsent -= bytes;
  }
  uint64_t m_unsent = 0;
};

// Calls `body` with all states of the jobs A, B and C: answered, sent, sent in part, not sent, or absent. A may have
// been added a second time after its answer.
void each_talk(const std::function<void(const std::function<Talk()>&)>& body) {
  enum { answered, sent, half, queued, absent };
  each_script(5, 4, [&](const std::vector<size_t>& states) {
    for (size_t n = 1; n < states.size(); ++n)
      if (states[n] < states[n - 1] && (states[n] != answered || states[n - 1] != sent)) return;
    if (std::count(states.begin(), states.end(), half) > 1 || states[3] == answered) return;
    if (states[3] != absent && states[0] != answered) return;
    body([states] {
      Talk talk;
      for (size_t n = 0; n < 4; ++n) {
        if (states[n] == absent) continue;
        const std::string id(1, "ABCA"[n]);
        talk.add(id, states[n] == half     ? Talk::State::half
                     : states[n] == queued ? Talk::State::queued
                                           : Talk::State::sent);
        if (states[n] == answered) talk.receive("0 " + id + "\n", id);
      }
      return talk;
    });
  });
}

// Each kind of line in each state, whole and cut at any place. The rest of the jobs is sent before the second piece.
void each_line_has_its_meaning() {
  std::map<std::string, int> seen;
  const auto check = [&](const std::function<Talk()>& make, const std::string& status, const std::string& rest,
                         const std::string& name) {
    const std::string line = status + rest;
    std::optional<int> number;
    if (one_of(static_cast<int>(line[0]), {'0', '1', '2'}) && status != "256") number = std::stoi(status);
    for (size_t cut = 1; cut <= line.size() + 1; ++cut)
      for (int failed : {0, EPIPE, EIO}) {
        Talk talk = make();
        const std::string what = talk.meaning(name);
        if (failed) talk.dialogue.fail(failed);
        std::vector<Dialogue::Answer> answers;
        if (cut <= line.size()) {
          CHECK(talk.dialogue.receive(line.substr(0, cut), begun).empty());
          talk.send_all();
          answers = talk.dialogue.receive(line.substr(cut) + "\n", begun);
        } else {
          answers = talk.dialogue.receive(line + "\n", begun);
        }
        if (answers.size() == 1) {
          const std::string reason = rest == "" ? "" : rest == " " + what ? "" : rest.substr(1);
          const std::string prefix = what + " ";
          CHECK(answers[0].status == number.value_or(70));
          CHECK(answers[0].reason == (!number                      ? "not a valid answer: " + line
                                      : reason.starts_with(prefix) ? reason.substr(prefix.size())
                                                                   : reason));
        }
        talk.check(answers, what);
        ++seen[what];
        CHECK(talk.dialogue.failure() == (failed ? failed : what == "broken" ? EPROTO : 0));
        // After a line that breaks the protocol, all output is ignored.
        if (what != "broken") continue;
        talk.dialogue.fail(EPIPE);
        CHECK(talk.dialogue.failure() == (failed ? failed : EPROTO) && talk.dialogue.room(begun) == 0);
        for (const char* more : {"0\n", "0 A\n", "0 B\n", "0 C\n"}) talk.receive(more, "");
      }
  };
  each_talk([&](const std::function<Talk()>& make) {
    for (const char* status : {"0", "100", "255", "256", "-1", "x", ""})
      for (const char* name : {"", "A", "B", "C", "D"}) {
        const std::string rest = *name ? std::string(" ") + name : "";
        check(make, status, rest, name);
        if (*status == '1') check(make, status, rest + " why not", name);
      }
    check(make, "0", " for A", "for");
    check(make, "0", " AB", "AB");
  });
  for (const char* what : {"A", "B", "C", "left out", "broken"}) CHECK(seen[what] > 0);
}

// If several lines come together, each is judged after the lines before it have taken effect.
void lines_come_together() {
  each_talk([&](const std::function<Talk()>& make) {
    each_script(4, 3, [&](const std::vector<size_t>& names) {
      Talk talk = make();
      std::string text, wanted, got;
      for (size_t n : names) {
        const std::string name(n == 3 ? "" : std::string(1, "ABC"[n]));
        text += "0 " + name + "\n";
        const std::string what = talk.meaning(name);
        if (talk.follow(what)) wanted += what;
      }
      for (const auto& answer : talk.dialogue.receive(text, begun)) got += answer.id;
      CHECK(got == wanted && talk.dialogue.failure() == (talk.broken ? EPROTO : 0));
    });
  });
}

// A line may be of any length, and may come in any pieces. Its beginning decides.
void a_line_may_be_long() {
  constexpr size_t most = Dialogue::longest_line;
  for (size_t length : {most - 1, most, most + 1, 3 * most})
    for (size_t cut : {size_t(1), most - 1, most, most + 1, length}) {
      Talk talk;
      for (const char* id : {"A", "B"}) talk.add(id, Talk::State::sent);
      std::string line = "0 ";
      line.resize(length, 'x');
      auto answers = talk.dialogue.receive(line.substr(0, cut), begun);
      CHECK(answers.size() == (cut >= most && length >= most ? 1 : 0));
      for (auto& answer : talk.dialogue.receive(cut < length ? line.substr(cut) + "\n" : "\n", begun))
        answers.push_back(answer);
      CHECK(answers.size() == 1 && answers[0].id == "A" && answers[0].status == 0);
      talk.jobs.erase(talk.jobs.begin());
      talk.receive("0\n", "");
      CHECK(talk.jobs.empty() && talk.dialogue.failure() == 0);
    }
}

// At the end of the output, a line without its newline is no answer. The job's attempt has ended without an answer.
void half_a_line_is_no_answer() {
  Talk talk;
  for (const char* id : {"A", "B"}) talk.add(id, Talk::State::sent);
  talk.receive("0 B\n", "B");
  CHECK(talk.dialogue.receive("0 A", begun).empty());
  talk.dialogue.fail(EPIPE);
  CHECK(talk.dialogue.current() == "A" && talk.dialogue.failure() == EPIPE);
}

// A second answer is recognised for the latest answered jobs, also if a job came twice.
void answers_are_remembered() {
  constexpr size_t most = Dialogue::most_answered;
  for (size_t others : {most - 1, most}) {
    Talk talk;
    for (size_t n = 0; n < others + 2; ++n) {
      const std::string id = n == 0 || n == 2 ? "twice" : std::to_string(n);
      talk.add(id, Talk::State::sent);
      talk.receive("0 " + id + "\n", id);
    }
    CHECK(talk.dialogue.failure() == 0 && talk.dialogue.receive("0 twice\n", begun).empty());
    CHECK(talk.dialogue.failure() == 0 && talk.dialogue.receive("0 1\n", begun).empty());
    CHECK(talk.dialogue.failure() == (others == most ? EPROTO : 0));
  }
}

// How many jobs a command may have: see stream_windows(). It gets no more after the last job or a failure.
void a_command_has_room() {
  Talk talk;
  Dialogue& dialogue = talk.dialogue;
  CHECK(dialogue.room(begun) == 1);
  talk.add("A", Talk::State::sent);
  CHECK(dialogue.room(begun) == 0);
  CHECK(dialogue.receive("0\n", begun + Millis(10)).size() == 1);
  CHECK(dialogue.room(begun + Millis(5000)) == 5);  // waiting is no work
  dialogue.sent(0, begun + Millis(6000));
  for (const char* id : {"B", "C", "D"}) talk.add(id, Talk::State::sent);
  CHECK(dialogue.room(begun + Millis(6000)) == 2 && dialogue.room(begun + Millis(7001)) == 0);
  CHECK(dialogue.receive("0\n0\n", begun + Millis(6010)).size() == 2);  // together they took 10 ms
  CHECK(dialogue.room(begun + Millis(6010)) == 6);
  Dialogue failed = dialogue;
  failed.fail(EIO);
  dialogue.close();
  CHECK(failed.room(begun + Millis(6010)) == 0 && dialogue.room(begun + Millis(6010)) == 0);
  CHECK(dialogue.receive("0\n", begun).size() == 1 && dialogue.is_closing() && !failed.is_closing());
}

// The pipes: output from before the end of the command is used, and failure() keeps the first failure.
void a_stream_carries_a_dialogue() {
  auto claim = [](const char* id, size_t size) {
    Claim c;
    c.id = id, c.job.function = "f", c.job.size = size;
    return c;
  };
  auto print = [](Stream& stream, const std::string& text) {
    CHECK(::write(stream.command_output(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  };
  auto ids = [](const std::vector<Dialogue::Answer>& answers) {
    std::string all;
    for (const auto& answer : answers) all += answer.id;
    return all;
  };
  {  // more than a pipe holds
    Stream stream;
    Workload workload;
    workload.data.assign(100'000, 'w');
    stream.send(claim("A", 100'000), 3, std::move(workload));
    stream.send(claim("B", 0), 1, {});
    stream.close();
    std::string text(200'000, 0);
    size_t size = 0;
    while (stream.pending() > 0) {
      CHECK(stream.pump().empty() && (stream.input() >= 0) == (stream.pending() > 0));
      size += static_cast<size_t>(std::max<ssize_t>(::read(stream.command_input(), &text[size], 70'000), 0));
    }
    text.resize(size);
    const std::string head = "100000 A 3 f\n", second = "0 B 1 f\n";
    CHECK(text == head + std::string(100'000, 'w') + second);
    char byte = 0;
    CHECK(::read(stream.command_input(), &byte, 1) == 0);  // closed after the last job
    print(stream, "0\n0 B\nno line");
    stream.close_ends();
    CHECK(ids(stream.pump()) == "AB" && stream.dialogue().failure() == EPIPE && stream.output() < 0);
  }
  {  // an answer that was printed before the job was sent, then the end of the output
    Stream stream;
    stream.send(claim("A", 0), 1, {});
    print(stream, "0\n0\n");
    CHECK(stream.pump().empty() && stream.dialogue().failure() == EPROTO && stream.output() < 0);
    print(stream, "0\n");
    stream.close_ends();
    CHECK(stream.pump().empty() && stream.dialogue().failure() == EPROTO && stream.dialogue().current() == "A");
  }
  {  // a workload that cannot be read
    Stream stream;
    Workload workload;
    workload.blob = Fd(::open("/dev/null", O_WRONLY | O_CLOEXEC));
    stream.send(claim("A", 0), 1, {});
    stream.send(claim("B", 5), 1, std::move(workload));
    CHECK(stream.pump().empty() && stream.dialogue().failure() == EIO);
    print(stream, "0\n");
    stream.close_ends();
    CHECK(ids(stream.pump()) == "A" && stream.dialogue().failure() == EIO && stream.dialogue().current() == "B");
  }
}

}  // namespace

void test_work() {
  each_end_has_its_conclusion();
  a_conclusion_gives_its_reason();
  conclusions_are_recorded();
  an_output_has_items();
  a_child_has_an_id();
  a_conclusion_has_children();
  an_output_is_kept_with_an_end();
  a_stop_ends_all();
  a_command_has_its_limit();
  starts_keep_their_rate();
  broken_commands_pause_their_function();
  jobs_are_claimed_ahead();
  each_job_has_its_place();
  for (uint32_t seed = 0; seed < 40; ++seed) a_worker_keeps_the_rules(seed);
  stream_windows();
  each_line_has_its_meaning();
  lines_come_together();
  a_line_may_be_long();
  half_a_line_is_no_answer();
  answers_are_remembered();
  a_command_has_room();
  a_stream_carries_a_dialogue();
}
