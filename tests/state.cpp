// Tests of the state that the fold computes from records. They use random events, and no file except for one table.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>

#include "check.hpp"
#include "events.hpp"
#include "gq/base/bytes.hpp"
#include "gq/base/text.hpp"
#include "gq/state/map_table.hpp"
#include "gq/state/result.hpp"
#include "gq/store/claiming.hpp"
#include "gq/store/tokyo_table.hpp"
#include "gq/view/metrics.hpp"
#include "gq/view/report.hpp"

using namespace gq;

namespace {

const Self here{"here", RandomEvents::store("here", false)};

// GQ_TIMES multiplies the number of random tests, each with another seed.
uint64_t times() {
  const char* given = std::getenv("GQ_TIMES");
  return given ? static_cast<uint64_t>(std::atoll(given)) : 1;
}

// A fold in memory. The tests apply events of two jobs to it, one after the other.
struct Said {
  MapTable table;
  Fold fold{table, here};
  Lsn end = 64;
  const std::string a = "01ARZ3NDEKTSV4RRFFQ6000001", b = "01ARZ3NDEKTSV4RRFFQ6000002";
  void operator()(const Event& event) {
    const Lsn lsn = end;
    fold.apply(event, {.data_size = 1}, lsn, end += 100);
  }
  State state(const std::string& id) { return fold.get(id).value().state; }
};

MapTable::Map all_of(Table& table) {
  MapTable::Map all;
  for (auto c = table.walk(""); c->valid(); c->next()) all.emplace_hint(all.end(), c->key(), c->value());
  return all;
}

void both_sides_of_a_table_hold_the_same(const std::string& path) {
  std::filesystem::create_directory(path);
  TokyoTable file(Directory(path), "index.tcb");
  MapTable map;
  Fold in_file(file, here), in_map(map, here);
  RandomEvents random(1, 50, false);
  for (int i = 0; i < 3000; ++i) {
    const auto item = random.next(in_map);
    for (Fold* fold : {&in_file, &in_map}) fold->apply(item.event, item.head, item.lsn, item.end);
    if (i % 500 != 0) continue;
    in_file.commit(), in_map.commit();
    CHECK(all_of(file) == all_of(map) && all_of(map) == map.all() && file.count() == map.all().size());
  }
  for (const auto& [key, value] : map.all()) CHECK(file.get(key) == value && map.get(key) == value);
  CHECK(!file.get("~") && !map.get("~"));
  auto a = file.walk("j"), b = map.walk("j");
  for (const char* from : {"q", "j", "~", "c"}) {
    a->seek(from), b->seek(from);
    CHECK(a->valid() == b->valid() && (!a->valid() || (a->key() == b->key() && a->value() == b->value())));
  }
}

std::string be64(uint64_t n) {
  std::string out;
  put_be64(out, n);
  return out;
}

std::string le64(uint64_t n) {
  std::string out;
  put_le<uint64_t>(out, n);
  return out;
}

const std::string zero(1, '\0');

// Tests which jobs a process claims: functions take turns and get shares, jobs of dead owners come first, and no job of
// a living owner is claimed.
void what_is_claimed() {
  MapTable table;
  Fold fold{table, here};
  Lsn end = 64;
  int ids = 0;
  auto say = [&](const Event& event) {
    fold.apply(event, {.data_size = 1}, end, end + 100);
    end += 100;
  };
  auto add = [&](const std::string& function, uint32_t priority = normal_priority, Millis due = Millis(0)) {
    char id[27];
    snprintf(id, sizeof id, "01ARZ3NDEKTSV4RRFFQ6%06d", ids++);
    say(event::Add{.id = id, .asked = {.function = function, .due = due, .priority = priority}});
    return std::string(id);
  };
  const std::string dead = "01ARZ3NDEKTSV4RRFFQ7000001", living = "01ARZ3NDEKTSV4RRFFQ7000002",
                    mine = "01ARZ3NDEKTSV4RRFFQ7000003";
  auto hold = [&](const std::string& id, const std::string& owner) {
    say(event::Claim{.ids = {id}, .owner = owner + ".0"});
  };
  uint64_t target_backlog = 0;
  Millis now{1000};
  bool folded_on = false;
  std::function<void()> appended = [] {};
  auto choose_of = [&](size_t most, size_t turn = 0, bool away = false) {
    folded_on = false;
    return choose(
        fold, {.most = most, .max_crashes = 2, .owner = mine + ".0", .target = "g", .target_backlog = target_backlog},
        {.away = away,
         .now = now,
         .turn = turn,
         .is_alive = [&](const std::string& owner) { return owner_process(owner) == living; },
         .fold_on =
             [&] {
               folded_on = true;
               appended();
             }});
  };
  auto ids_of = [](const std::vector<Claim>& claims) {
    std::vector<std::string> all;
    for (const auto& c : claims) all.push_back(c.id);
    return all;
  };
  using Ids = std::vector<std::string>;
  const std::string f1 = add("f"), f2 = add("f"), f3 = add("f", high_priority), g1 = add("g");
  CHECK(ids_of(choose_of(0).claims.jobs).empty() && choose_of(0).claims.live == 4);
  CHECK(ids_of(choose_of(2).claims.jobs) == (Ids{f3, g1}));
  CHECK(ids_of(choose_of(2, 1).claims.jobs) == (Ids{g1, f3}));
  CHECK(ids_of(choose_of(9).claims.jobs) == (Ids{f3, f1, f2, g1}) && !folded_on);
  hold(f1, dead);
  hold(f3, living);
  auto chosen = choose_of(9);
  CHECK(ids_of(chosen.claims.jobs) == (Ids{f1, f2, g1}) && chosen.claims.other_owners == Ids{living + ".0"} &&
        folded_on);
  appended = [&] {
    say(event::Fail{.id = f1, .owner = dead + ".0", .spent = false, .due = Millis(5000)});
  };  // the owner has released it
  chosen = choose_of(9);
  CHECK(ids_of(chosen.claims.jobs) == (Ids{f2, g1}) && chosen.claims.next_due == Millis(5000));
  appended = [] {};
  // The workers died while they ran these jobs.
  hold(f2, dead);
  say(event::Start{.id = f2, .owner = dead + ".0", .start = 1});
  hold(f2, dead);  // the second worker takes it over, and dies while running it, too
  say(event::Start{.id = f2, .owner = dead + ".0", .start = 2});
  chosen = choose_of(9);
  CHECK(ids_of(chosen.claims.jobs) == Ids{g1} && ids_of(chosen.claims.abandoned) == Ids{f2});
  CHECK(ids_of(choose_of(9, 0, true).claims.abandoned).empty());
  // A job that this process has claimed without knowing it is handled as its own.
  hold(g1, mine);
  CHECK(ids_of(choose_of(9).claims.jobs) == Ids{g1});
  say(event::Pause{.function = "g", .at = Millis(1)});
  CHECK(ids_of(choose_of(9).claims.jobs).empty());
  // At most so many jobs of a function are claimed or run. What a dead owner has left is claimed again in its place.
  const std::string h1 = add("h"), h2 = add("h"), h3 = add("h", normal_priority, Millis(1));
  say(event::Pause{.function = "h", .at = Millis(1), .limit = 2});
  CHECK(!fold.paused("h") && fold.limit("h") == 2u && !fold.limit("g"));
  CHECK(ids_of(choose_of(9).claims.jobs) == (Ids{h1, h2}));
  hold(h1, living);
  CHECK(ids_of(choose_of(9).claims.jobs) == Ids{h2});
  hold(h2, dead);
  CHECK(ids_of(choose_of(9).claims.jobs) == Ids{h2});
  hold(h2, living);
  CHECK(ids_of(choose_of(9).claims.jobs).empty());
  say(event::Resume{.function = "h", .at = Millis(1)});
  CHECK(fold.limit("h") == 2u);
  say(event::Done{.id = h1});
  CHECK(ids_of(choose_of(9).claims.jobs) == Ids{h3});
  say(event::Pause{.function = "h", .at = Millis(1), .limit = 1});
  CHECK(ids_of(choose_of(9).claims.jobs).empty());
  say(event::Resume{.function = "h", .at = Millis(1), .unlimited = true});
  CHECK(!fold.limit("h") && ids_of(choose_of(9).claims.jobs) == Ids{h3});
  // No more jobs than the rate of a function are started in any period. Claimed jobs count as starting now.
  const std::string r1 = add("r"), r2 = add("r"), r3 = add("r"), r4 = add("r");
  const StartRate two{2, Millis(1000)};
  auto start = [&](const std::string& id, const std::string& owner, uint32_t nth, int64_t at) {
    hold(id, owner);
    say(event::Start{.id = id, .at = Millis(at), .owner = owner + ".0", .start = nth});
  };
  auto at = [&](int64_t time) { return now = Millis(time), choose_of(9); };
  auto of_r = [&](int64_t time) {
    auto claims = at(time).claims.jobs;
    std::erase_if(claims, [](const Claim& c) { return c.job.function != "r"; });
    return ids_of(claims);
  };
  say(event::Rate{.function = "r", .at = Millis(1), .starts = 2, .period = two.period});
  CHECK(fold.rate("r") == two && !fold.rate("h"));
  CHECK(of_r(5000) == (Ids{r1, r2}));
  hold(r1, living);
  CHECK(of_r(5000) == Ids{r2} && of_r(900'000) == Ids{r2});
  start(r1, living, 1, 5019), start(r2, living, 1, 5500);
  CHECK(of_r(5500).empty() && at(5500).claims.next_due == Millis(6020));
  CHECK(of_r(6019).empty() && of_r(6020) == Ids{r3});
  say(event::Rate{.function = "r", .at = Millis(2), .starts = 2, .period = two.period});  // the same again
  CHECK(of_r(6019).empty() && of_r(6520) == (Ids{r3, r4}));
  CHECK(of_r(3000) == (Ids{r3, r4}) && of_r(4900).empty());  // the clock was set back
  // A dead owner has left a job: it is started again in its place, but no job more.
  hold(r3, dead);
  CHECK(of_r(6020) == Ids{r3} && of_r(6520) == (Ids{r3, r4}));
  start(r3, dead, 1, 6030);
  CHECK(of_r(6100).empty() && of_r(6520) == Ids{r3});
  // A limit comes before the rate.
  say(event::Pause{.function = "r", .at = Millis(1), .limit = 1});
  CHECK(of_r(900'000).empty());
  say(event::Resume{.function = "r", .at = Millis(1), .unlimited = true});
  say(event::Rate{.function = "r", .at = Millis(3), .starts = 3, .period = two.period});
  CHECK(of_r(6100) == Ids{r3});
  say(event::Rate{.function = "r", .at = Millis(4)});
  CHECK(!fold.rate("r") && of_r(6100) == (Ids{r3, r4}));
  say(event::Rate{.function = "r", .at = Millis(5), .starts = 1, .period = two.period});
  CHECK(of_r(6100) == Ids{r3});  // the starts before are forgotten
  say(event::Rate{.function = "r", .at = Millis(6)});
  for (const auto& id : {r1, r2, r3, r4}) say(event::Done{.id = id});
  now = Millis(1000);
  // While the function of their children has too many unfinished jobs, nothing is claimed.
  target_backlog = 1;
  CHECK(ids_of(choose_of(9).claims.jobs) == Ids{h3});
  add("g");
  CHECK(ids_of(choose_of(9).claims.jobs).empty() && !choose_of(9).claims.next_due);
}

// A job that is not started in time becomes dead, whatever it waits for, and its key becomes free.
void what_expires() {
  Said say;
  const Millis until(5000);
  auto add = [&](const std::string& id, Submission asked, const std::string& node = {}) {
    asked.function = "f";
    say(event::Add{.id = id,
                   .at = Millis(1),
                   .asked = asked,
                   .node = node,
                   .store = RandomEvents::store(node, false),
                   .once = !node.empty()});
  };
  auto dead = [&](const std::string& id, Millis at) {
    say(event::Dead{.id = id, .at = at, .owner = event::nobody, .spent = false, .why = "expired"});
  };
  const std::string mine = "01ARZ3NDEKTSV4RRFFQ7000001", c = "01ARZ3NDEKTSV4RRFFQ6000003",
                    d = "01ARZ3NDEKTSV4RRFFQ6000004", e = "01ARZ3NDEKTSV4RRFFQ6000005";
  auto choose_at = [&](Millis now, size_t room = SIZE_MAX, bool away = false, size_t most = 9) {
    return choose(say.fold, {.functions = {"other", "f"}, .most = most, .owner = mine + ".0"},
                  {.room = room,
                   .away = away,
                   .now = now,
                   .is_alive = [](const std::string&) { return false; },
                   .fold_on = [] {}});
  };
  using Ids = std::vector<std::string>;
  add(say.a, {.key = "k", .serial = "s", .expire = until});
  add(say.b, {.serial = "s", .expire = until});                // waits
  add(c, {.due = Millis(9000), .expire = until + Millis(1)});  // is delayed
  add(d, {.expire = until}, "there");                          // that node decides
  add(e, {});
  CHECK(say.state(say.b) == State::waiting && say.state(d) == State::held);
  say(event::Pause{.function = "f", .at = Millis(1)});
  Chosen chosen = choose_at(until - Millis(1));
  CHECK(chosen.claims.expired.empty() && chosen.claims.next_due == until);
  chosen = choose_at(until);
  CHECK(chosen.claims.expired == (Ids{say.a, say.b}) && chosen.claims.next_due == until + Millis(1));
  CHECK(choose_at(until, 1).claims.expired == Ids{say.a} && choose_at(until, 1).claims.next_due == until);
  CHECK(choose_at(until, SIZE_MAX, true).claims.expired.empty() && choose_at(until, 0).claims.expired.empty());
  CHECK(choose_at(until, SIZE_MAX, false, 1).claims.expired.size() == 2);  // however few may be started
  say(event::Resume{.function = "f", .at = Millis(2)});
  for (size_t room : {SIZE_MAX, size_t{1}}) {  // a is not started, and e need not wait until all are dead
    chosen = choose_at(until, room);
    CHECK(chosen.claims.jobs.size() == 1 && chosen.claims.jobs[0].id == e);
  }

  dead(say.a, until - Millis(1));  // not yet, whoever says so
  CHECK(say.state(say.a) == State::queued && say.fold.keyed("f", "k", until) == say.a);
  dead(say.a, until);
  CHECK(say.state(say.a) == State::dead && say.fold.get(say.a)->why == "expired" && !say.fold.keyed("f", "k", until));
  CHECK(say.state(say.b) == State::queued);  // its turn has come
  dead(d, until);
  CHECK(say.state(d) == State::held);
  // Another job takes the key, and keeps it.
  const std::string g = "01ARZ3NDEKTSV4RRFFQ6000006";
  add(g, {.key = "k"});
  say(event::Kick{.id = say.a, .at = until});
  CHECK(say.state(say.a) == State::queued && say.fold.keyed("f", "k", until) == g);
  CHECK(choose_at(until).claims.expired == Ids{say.b});  // a does not expire again
  dead(say.a, until);
  CHECK(say.state(say.a) == State::queued);
  CHECK(state_of(say.a, *say.fold.get(say.a)).lifted && !state_of(say.b, *say.fold.get(say.b)).lifted);

  // A job that has been started does not expire. A job that was only claimed does, when its process is dead.
  say(event::Claim{.ids = {say.b, c}, .owner = "A.0"});
  dead(c, Millis(9000));
  CHECK(say.state(c) == State::claimed);
  say(event::Start{.id = say.b, .owner = "A.1", .start = 1});
  chosen = choose_at(Millis(9000));
  CHECK(chosen.strays.size() == 1 && chosen.strays[0].id == c && chosen.claims.expired.empty());
  say(event::Fail{.id = c, .owner = "A.0", .spent = false});
  CHECK(choose_at(Millis(9000)).claims.expired == Ids{c});
  say(event::Fail{.id = say.b, .owner = "A.1", .start = 1});
  dead(say.b, Millis(9000));
  CHECK(say.state(say.b) == State::queued);

  // If another node owns the job, its end and its kick on that node are taken over. A node that takes over a job
  // decides itself.
  auto state = [&](const char* what, const std::string& node, uint32_t term, uint32_t version, bool is_lifted) {
    return event::State{.id = d,
                        .at = Millis(9000),
                        .function = "f",
                        .state = what,
                        .node = node,
                        .store = RandomEvents::store(node, false),
                        .term = term,
                        .version = version,
                        .lifted = is_lifted,
                        .size = 1};
  };
  say(state("queued", "here", 1, 1, false));
  CHECK(choose_at(Millis(9000)).claims.expired == (Ids{d, c}));
  say(state("dead", "there", 0, 5, false));  // it expired there; but it is this node's now
  CHECK(say.state(d) == State::queued && say.fold.get(d)->node == "here");
  say(state("queued", "here", 2, 2, true));
  CHECK(choose_at(Millis(9000)).claims.expired == Ids{c} && say.fold.get(d)->expire == lifted);
  for (const auto& id : {say.a, c, d, g}) CHECK(decode_job(encode_job(*say.fold.get(id))) == say.fold.get(id));
}

// Returns all entries of a table that follow from its jobs alone, rebuilt as fold.hpp describes them.
MapTable::Map recount(const MapTable::Map& table) {
  MapTable::Map all;
  std::map<std::string, Counters> counters;
  std::map<uint64_t, Weight> weights;
  uint64_t outputs = 0;

  for (const auto& [key, value] : table) {
    if (key[0] == 'p' || key[0] == 'L' || (key[0] == 'R' && key.back() != '\0') || (key[0] == 'D' && key[1] > '\1'))
      counters[key.substr(1)];
    if (key[0] == 'D' && key[1] == '\0') {  // only a dead job has a letter that is to be queued
      const auto dead = table.find("j" + key.substr(2));
      CHECK(dead != table.end() && decode_job(dead->second).state == State::dead);
    }
    if (key[0] != 'j') continue;
    const std::string id = key.substr(1);
    const Job job = decode_job(value);
    const bool finished = job.state == State::finished;
    const bool blocked = job.edges < job.after || job.unmet > 0;
    switch (job.state) {
      case State::queued:
        all["q" + job.function + zero + static_cast<char>(job.priority) + be64(job.first_lsn)] = id;
        break;
      case State::delayed:
        all["d" + job.function + zero + be64(static_cast<uint64_t>(job.due.count())) + be64(job.first_lsn)] = id;
        break;
      case State::claimed:
      case State::running:
        all["c" + job.owner + zero + id] = "";
        break;
      case State::dead:
        all["x" + job.function + zero + be64(job.first_lsn)] = id;
        break;
      case State::kept:
        all["y" + job.function + zero + be64(job.first_lsn)] = id;
        break;
      case State::pending:
        all[(job.spooled ? "S" : "n") + job.function + zero + be64(job.first_lsn)] = id;
        break;
      case State::held:
        all["o" + job.node + zero + be64(job.first_lsn)] = id;
        break;
      case State::waiting:
        if (blocked) all["B" + job.function + zero + be64(job.first_lsn)] = id;
        break;
      case State::finished:
        break;
    }
    if (job.expire.count() > 0 && job.starts == 0 &&
        (job.state == State::queued || job.state == State::delayed || job.state == State::waiting))
      all["a" + be64(static_cast<uint64_t>(job.expire.count())) + be64(job.first_lsn)] = id;
    if (job.cancelled && (job.state == State::claimed || job.state == State::running)) all["C" + id] = "";
    if (!job.source.empty() && (!finished || (!job.node.empty() && !job.once))) all["b" + job.source + zero + id] = "";
    if (!job.parent.empty() && !finished) all["T" + job.parent + zero + id] = "";
    CHECK(!job.unborn || !job.parent.empty());
    const bool in_turn = job.state == State::queued || job.state == State::delayed || job.state == State::claimed ||
                         job.state == State::running;
    CHECK(!blocked || !in_turn);
    if (!job.serial.empty() && (in_turn || (job.state == State::waiting && !blocked)))
      all["l" + job.serial + zero + be64(job.first_lsn)] = id;
    CHECK(in_turn == (job.state == State::claimed || job.state == State::running) || job.owner.empty());
    Counters& c = counters[job.function];
    ++c.jobs[static_cast<size_t>(job.state)];
    c.first += job.state == State::delayed && job.starts == 0 && job.failures == 0;
    c.blocked += job.state == State::waiting && blocked;
    c.spooled += job.state == State::pending && job.spooled;
    c.bytes += finished ? 0 : job.size;
    Weight& w = weights[job.first_lsn / weight_step];
    w.bytes += finished ? finished_weight : 500 + (job.is_inline() ? job.size : 0);
    w.bytes += 60 * job.edges;
    w.finished += finished;
    CHECK((job.output_lsn != 0) == (job.output == Kept::whole));
    CHECK(job.output == Kept::not_asked || finished || job.state == State::kept || job.state == State::dead);
    outputs += job.output_size;
    if (job.output_lsn && job.output_size <= max_inline_data)
      weights[job.output_lsn / weight_step].bytes += job.output_size;
  }
  if (outputs) all["O"] = le64(outputs);
  for (const auto& [function, c] : counters) {
    std::string value;
    for (uint64_t n : c.jobs) value += le64(n);
    all["s" + function] = value + le64(c.bytes);
    if (c.first || c.blocked || c.spooled)
      all["z" + function] =
          le64(c.first) + (c.blocked || c.spooled ? le64(c.blocked) : "") + (c.spooled ? le64(c.spooled) : "");
  }
  for (const auto& [part, w] : weights)
    if (w.bytes || w.finished) all["w" + be64(part)] = le64(w.bytes) + le64(w.finished);
  return all;
}

// A cancelled job that no process holds is dead at once. One that a process holds is dead when its end is recorded,
// however it ended; an end that was recorded before counts. Its key is free, and a kick starts it again.
void what_is_cancelled() {
  const std::string c = "01ARZ3NDEKTSV4RRFFQ6000003";
  auto is_cancelled = [](Said& say, const std::string& id) {
    const auto job = say.fold.get(id).value();
    return job.state == State::dead && job.why == "cancelled" && job.cancelled == 0 && job.owner.empty();
  };
  auto run = [](Said& say) {
    say(event::Claim{.ids = {say.a}, .owner = "A.1"});
    say(event::Start{.id = say.a, .owner = "A.1", .start = 1});
  };
  using Ids = std::vector<std::string>;
  for (const Event& end :
       {Event(event::Done{.owner = "A.1", .start = 1}), Event(event::Fail{.owner = "A.1", .start = 1}),
        Event(event::Dead{.owner = "A.1", .start = 1})}) {
    const Event ends = std::visit(
        [](auto e) -> Event {
          if constexpr (requires { e.id; }) e.id = Said{}.a;
          return e;
        },
        end);
    Said say;
    say(event::Add{.id = say.a, .asked = {.function = "f", .key = "k", .window = Millis(1000)}});
    run(say);
    say(event::Cancel{.id = say.a});
    CHECK(say.state(say.a) == State::running && say.fold.cancelled() == Ids{say.a});
    CHECK(decode_job(encode_job(*say.fold.get(say.a))) == say.fold.get(say.a));
    CHECK(state_of(say.a, *say.fold.get(say.a)).cancelled);
    say(ends);
    CHECK(is_cancelled(say, say.a) && say.fold.cancelled().empty() && !say.fold.keyed("f", "k", Millis(1)));
    say(event::Kick{.id = say.a});
    CHECK(say.state(say.a) == State::queued);
  }
  Said say;
  for (const auto& id : {say.a, say.b}) say(event::Add{.id = id, .asked = {.function = "f", .key = id, .serial = "s"}});
  say(event::Add{.id = c, .asked = {.function = "f", .due = Millis(99)}});
  CHECK(say.state(say.b) == State::waiting);
  for (const auto& id : {say.b, say.a, c}) {
    say(event::Cancel{.id = id});
    CHECK(is_cancelled(say, id) && !say.fold.keyed("f", id, Millis(1)));
  }
  say(event::Kick{.id = say.a});
  say(event::Claim{.ids = {say.a}, .owner = "A.0"});
  say(event::Cancel{.id = say.a});
  CHECK(say.state(say.a) == State::claimed && say.fold.cancelled() == Ids{say.a});
  say(event::Fail{.id = say.a, .owner = "A.0", .spent = false});  // its process gives it back
  CHECK(is_cancelled(say, say.a));
  // What a user's own database says stays true.
  say(event::Kick{.id = say.a});
  run(say);
  say(event::Cancel{.id = say.a});
  say(event::Done{.id = say.a});
  CHECK(say.state(say.a) == State::finished && say.fold.cancelled().empty());
  say(event::Cancel{.id = say.a});
  CHECK(say.state(say.a) == State::finished);
  // A node that takes such a job over ends it.
  const std::string there = RandomEvents::store("there", false), me = RandomEvents::store("here", false);
  say(event::Add{
      .id = "01ARZ3NDEKTSV4RRFFQ6000004", .asked = {.function = "f"}, .node = "there", .store = there, .once = true});
  auto told = [&](const std::string& node, const std::string& store, uint32_t term) {
    say(event::State{.id = "01ARZ3NDEKTSV4RRFFQ6000004",
                     .function = "f",
                     .state = "queued",
                     .node = node,
                     .store = store,
                     .term = term,
                     .version = 3,
                     .cancelled = true,
                     .size = 1});
    return say.fold.get("01ARZ3NDEKTSV4RRFFQ6000004").value();
  };
  CHECK(told("there", there, 0).state == State::held && told("there", there, 0).cancelled == 1);
  CHECK(told("here", me, 1).state == State::dead && is_cancelled(say, "01ARZ3NDEKTSV4RRFFQ6000004"));
}

// A job that ends dead becomes a letter once for each death, unless it is a letter itself or another node's.
void what_becomes_a_letter() {
  Said say;
  const std::string c = "01ARZ3NDEKTSV4RRFFQ6000003", d = "01ARZ3NDEKTSV4RRFFQ6000004";
  using Letters = std::vector<std::pair<std::string, std::string>>;
  auto unsent = [&] {
    Letters all;
    say.fold.unsent_letters([&](const std::string& id, const std::string& to) {
      all.emplace_back(id, to);
      return true;
    });
    return all;
  };
  auto add = [&](const std::string& id, const std::string& letter = {}) {
    say(event::Add{.id = id, .asked = {.function = "f"}, .letter = letter});
  };
  auto die = [&](const std::string& id, uint32_t start = 1) {
    say(event::Claim{.ids = {id}, .owner = "A.1"});
    say(event::Start{.id = id, .owner = "A.1", .start = start});
    say(event::Dead{.id = id, .owner = "A.1", .start = start});
    CHECK(say.state(id) == State::dead);
  };
  const Event configured = event::Letter{.function = "f", .to = "g"};
  add(say.a), die(say.a);
  CHECK(unsent().empty() && !say.fold.dead_letters("f"));
  say(configured);
  CHECK(say.fold.dead_letters("f") == "g" && unsent().empty());  // it was dead before
  add(say.b), die(say.b);
  CHECK(unsent() == (Letters{{say.b, "g"}}));
  say(event::Letter{.function = "f"});  // what has died before still becomes a letter
  CHECK(!say.fold.dead_letters("f") && unsent() == (Letters{{say.b, "g"}}));
  add(c, say.b);
  CHECK(unsent().empty());
  say(configured);
  add(c, say.b), die(c);  // the letter itself
  CHECK(unsent().empty());
  // As long as the job is dead, its letter is not forgotten: the letter would be made again.
  const auto forgettable = [&] {
    return say.fold.may_forget(c, *say.fold.get(c), Millis(9), [](Lsn) { return true; });
  };
  say(event::Drop{.id = c});
  CHECK(!forgettable());
  say(event::Kick{.id = say.b});
  CHECK(forgettable());
  die(say.b, 2);
  CHECK(unsent() == (Letters{{say.b, "g"}}) && !forgettable());
  for (const Event& ends : {Event(event::Kick{.id = say.b}), Event(event::Drop{.id = say.b})}) {
    say(ends);
    CHECK(unsent().empty());
    if (say.state(say.b) == State::queued) die(say.b, 3);
  }
  say(event::Forget{.ids = {c}, .position = say.end});
  CHECK(!say.fold.get(c));
  add(c), die(c);  // another job, which is no letter
  CHECK(unsent() == (Letters{{c, "g"}}));
  say(event::Drop{.id = c});
  // A job of another node that is dead there.
  const std::string store = RandomEvents::store("there", false);
  say(event::Add{.id = d, .asked = {.function = "f"}, .node = "there", .store = store, .once = true});
  say(event::State{
      .id = d, .function = "f", .state = "dead", .node = "there", .store = store, .version = 1, .size = 1});
  CHECK(say.state(d) == State::dead && unsent().empty());
}

// Two jobs with one serial key may run at the same time if a record between them was lost. When one ends, the other
// stays running.
void a_job_that_runs_is_not_queued_by_another() {
  Said say;
  for (const auto& id : {say.a, say.b}) say(event::Add{.id = id, .asked = {.function = "f", .serial = "s"}});
  for (const auto& id : {say.a, say.b}) say(event::Claim{.ids = {id}, .owner = "A.1"});
  say(event::Done{.id = say.b});
  CHECK(say.state(say.a) == State::claimed);
  say(event::Done{.id = say.a});
  say.fold.commit();
  for (const auto& [key, value] : say.table.all()) CHECK(key[0] != 'q' && key[0] != 'c' && key[0] != 'h');
}

// The output of a command is kept with its job's end, until the job is started again, is dropped, or is forgotten. Of
// two copies of one end, that is used which was appended last: the sync of the other may have failed.
void an_output_stays_with_its_end() {
  const uint32_t whole = static_cast<uint32_t>(Kept::whole);
  const auto ran = [](Said& say) {
    say(event::Add{.id = say.a, .asked = {.function = "f", .result = true}});
    say(event::Claim{.ids = {say.a}, .owner = "A.1"});
    say(event::Start{.id = say.a, .owner = "A.1", .start = 1});
  };
  const auto output = [](Said& say) { return say.fold.get(say.a).value(); };
  for (const bool dies : {false, true}) {
    Said say;
    ran(say);
    CHECK(output(say).result && output(say).output == Kept::not_asked && output(say).output_lsn == 0);
    const Event end = dies ? Event(event::Dead{.id = say.a, .owner = "A.1", .start = 1, .output = whole})
                           : event::Done{.id = say.a, .output = whole};
    for (int copies = 0; copies < 2; ++copies) {
      const Lsn at = say.end;
      say(end);
      CHECK(output(say).output == Kept::whole && output(say).output_lsn == at && output(say).output_size == 1 &&
            say.fold.outputs() == 1);
    }
    if (dies) {
      say(event::Kick{.id = say.a});
      CHECK(output(say).state == State::queued && output(say).output == Kept::not_asked && say.fold.outputs() == 0);
      say(end);
      say(event::Done{.id = say.a, .output = static_cast<uint32_t>(Kept::too_large)});
      CHECK(output(say).output == Kept::too_large && output(say).output_lsn == 0);
    } else {
      say(event::Done{.id = say.a, .output = static_cast<uint32_t>(Kept::no_room)});  // of a second run
      CHECK(output(say).output == Kept::whole && say.fold.outputs() == 1);
      say(event::Forget{.ids = {say.a}, .position = say.end});
    }
    CHECK(say.fold.outputs() == 0);
    say.fold.commit();
    CHECK(!say.table.all().contains("O"));
  }
  for (const bool kept : {false, true}) {
    Said say;
    ran(say);
    say(event::Done{.id = say.a, .keep = kept, .output = whole});
    const Lsn at = output(say).output_lsn;
    if (kept) say(event::Release{.id = say.a});
    CHECK(output(say).state == State::finished && output(say).output_lsn == at && at != 0);
  }
  Said say;
  ran(say);
  say(event::Dead{.id = say.a, .owner = "A.1", .start = 1, .output = whole});
  say(event::Drop{.id = say.a});
  CHECK(output(say).dropped && output(say).output == Kept::not_asked && say.fold.outputs() == 0);
}

// A job with parents is started when all of them are recorded and have ended. It stands at no later gate before that.
class Family {
 public:
  const std::string c = "01ARZ3NDEKTSV4RRFFQ6000003";
  Said say;

  void add(const std::string& id, Submission asked = {}, const std::string& node = {}) {
    asked.function = "f";
    say(event::Add{.id = id,
                   .at = Millis(1),
                   .asked = asked,
                   .node = node,
                   .store = node.empty() ? node : RandomEvents::store(node, false),
                   .once = !node.empty()});
  }
  void names(uint32_t first, const std::string& parent) { say(event::After{.id = c, .first = first, .ids = {parent}}); }
  void done(const std::string& id, bool keep = false) { say(event::Done{.id = id, .at = Millis(2), .keep = keep}); }
  void die(const std::string& id) {
    say(event::Claim{.ids = {id}, .owner = "A.1"});
    say(event::Dead{.id = id, .at = Millis(2), .owner = "A.1"});
  }
  // Appends what a process that claims appends. Returns how many records.
  size_t wake(size_t most = 100) {
    const auto wakes = say.fold.wakes(most, Millis(1000));
    for (const auto& w : wakes) say(w), say(w);  // the second one has no effect
    return wakes.size();
  }
  State state() { return say.state(c); }
  bool remembers(const std::string& id) {
    return !say.fold.may_forget(id, *say.fold.get(id), Millis(9999), [](Lsn) { return true; });
  }
  size_t relations() {
    say.fold.commit();
    return static_cast<size_t>(std::count_if(say.table.all().begin(), say.table.all().end(), [](const auto& e) {
      return std::string_view("ABU").find(e.first[0]) != std::string_view::npos;
    }));
  }
};

void a_job_runs_after_its_parents() {
  for (const bool first_ended : {false, true}) {
    Family f;
    f.add(f.say.a), f.add(f.say.b);
    if (first_ended) f.done(f.say.a);
    f.add(f.c, {.due = Millis(5), .serial = "s", .after = 2});
    CHECK(f.state() == State::waiting && f.say.fold.counters("f").blocked == 1);
    f.names(0, f.say.a);
    f.names(0, f.say.a);  // appended twice
    CHECK(f.state() == State::waiting && f.say.fold.get(f.c)->edges == 1);
    CHECK(f.say.fold.unmet(f.c, 9).size() == !first_ended && f.wake() == 0 && f.remembers(f.say.a) == true);
    f.say(event::Claim{.ids = {f.c}, .owner = "A.1"});
    CHECK(f.state() == State::waiting && f.say.fold.with_serial("s", 9) == 0);
    f.names(1, f.say.b);
    f.names(2, f.c);  // more than it said
    CHECK(f.say.fold.get(f.c)->edges == 2 && decode_job(encode_job(*f.say.fold.get(f.c))) == f.say.fold.get(f.c));
    f.done(f.say.b, true);
    CHECK(f.state() == State::waiting && f.wake() == 1 && (f.state() == State::delayed) == first_ended);
    f.done(f.say.a);
    CHECK(f.wake() == !first_ended && f.state() == State::delayed && f.say.fold.with_serial("s", 9) == 1);
    // It remembers its parents until it has ended.
    CHECK(f.remembers(f.say.a) && f.say.fold.counters("f").blocked == 0);
    f.say(event::Kick{.id = f.c, .at = Millis(3)});
    f.die(f.c);
    CHECK(f.remembers(f.say.a));
    f.done(f.c);
    CHECK(!f.remembers(f.say.a) && f.relations() == 0 && f.say.fold.get(f.c)->after == 0);
  }
}

void parents_that_fail() {
  for (const bool any : {false, true}) {
    Family f;
    f.add(f.say.a), f.add(f.say.b);
    f.die(f.say.a);
    f.add(f.c, {.after = 2, .after_any = any});
    f.names(0, f.say.a), f.names(1, f.say.b);
    CHECK(f.wake() == any && f.say.fold.get(f.c)->unmet == (any ? 1u : 2u));
    f.say(event::Kick{.id = f.say.a, .at = Millis(3)});
    f.done(f.say.a);
    CHECK(f.wake() == !any && f.say.fold.get(f.c)->unmet == 1 && f.state() == State::waiting);
    f.say(event::Drop{.id = f.say.b, .at = Millis(4)});
    CHECK(f.state() == State::waiting && f.wake() == 1);
    CHECK(f.state() == (any ? State::queued : State::dead));
    if (!any) CHECK(f.say.fold.get(f.c)->why == "after " + f.say.b + ", which was dropped");
    f.say(event::Kick{.id = f.c, .at = Millis(5)});
    CHECK(f.state() == State::queued && f.wake() == 0);
    f.say(event::Drop{.id = f.c, .at = Millis(6)});
    CHECK(f.relations() == 0);
  }
  // A job that waits for a parent can expire, and waits again when it is kicked.
  Family f;
  f.add(f.say.a);
  f.add(f.c, {.expire = Millis(50), .after = 1});
  f.names(0, f.say.a);
  f.say(event::Dead{.id = f.c, .at = Millis(50), .owner = event::nobody, .spent = false, .why = "expired"});
  CHECK(f.state() == State::dead);
  f.say(event::Kick{.id = f.c, .at = Millis(60)});
  CHECK(f.state() == State::waiting);
  f.done(f.say.a);
  CHECK(f.wake() == 1 && f.state() == State::queued);
}

// In a group, the add record names the parents, and those that have ended.
void parents_in_an_add_record() {
  Family f;
  f.add(f.say.a, {}, "here");
  f.say(event::Add{.id = f.c,
                   .at = Millis(1),
                   .asked = {.function = "f", .after = 2},
                   .node = "here",
                   .store = RandomEvents::store("here", false),
                   .copies = 2,
                   .once = true,
                   .parents = {f.say.a, f.say.b},
                   .met = {f.say.b}});
  CHECK(f.state() == State::pending && f.say.fold.get(f.c)->unmet == 1);
  f.say(event::Copied{.ids = {f.c}, .peers = "there"});
  CHECK(f.state() == State::waiting && f.say.fold.unmet(f.c, 9) == std::vector<std::string>{f.say.a});
  f.done(f.say.a);
  CHECK(f.wake() == 1 && f.state() == State::queued);
  f.done(f.c);
  CHECK(f.relations() == 0);
}

// Each node finds out itself that the parents of its jobs have ended, also of those that another node owns; but only
// the owner makes a job dead.
void parents_in_a_group() {
  Family f;
  f.add(f.say.a, {}, "here");
  f.add(f.c, {.after = 2}, "there");
  f.names(0, f.say.a), f.names(1, f.say.b);  // b is not here yet
  CHECK(f.state() == State::held && f.wake() == 0);
  f.done(f.say.a);
  CHECK(f.wake() == 1 && f.state() == State::held);
  const auto told = [](Family& of, const std::string& state, const std::string& node, uint32_t term, uint32_t version) {
    of.say(event::State{.id = of.c,
                        .at = Millis(9),
                        .function = "f",
                        .state = state,
                        .node = node,
                        .store = RandomEvents::store(node, false),
                        .term = term,
                        .version = version,
                        .size = 1});
  };
  f.add(f.say.b, {}, "there");
  f.say(event::State{.id = f.say.b,
                     .at = Millis(5),
                     .function = "f",
                     .state = "finished",
                     .node = "there",
                     .dropped = true,
                     .size = 1});
  CHECK(f.wake() == 0);  // this is for the owner to say
  told(f, "queued", "here", 1, 1);
  CHECK(f.state() == State::waiting && f.wake() == 1 && f.state() == State::dead && f.say.fold.get(f.c)->version == 2);
  // If the owner has made it dead and a user has kicked it there, it does not die again on a node that takes it over.
  Family g;
  g.add(g.say.a, {}, "here");
  g.add(g.c, {.after = 1}, "there");
  g.names(0, g.say.a);
  g.say(event::Drop{.id = g.say.a, .at = Millis(2)});
  CHECK(g.wake() == 0);
  told(g, "dead", "there", 0, 1);
  CHECK(g.state() == State::dead && g.wake() == 1);
  told(g, "queued", "there", 0, 2);
  CHECK(g.state() == State::held && g.wake() == 0);
  told(g, "queued", "here", 1, 3);
  CHECK(g.state() == State::queued && g.wake() == 0);
}

void many_parents_and_children() {
  constexpr uint32_t many = 2500;
  const auto id = [](uint32_t n) {
    char text[27];
    snprintf(text, sizeof text, "01ARZ3NDEKTSV4RRFF%08u", n);
    return std::string(text);
  };
  for (const bool fan_in : {false, true}) {
    Family f;
    const auto child = [&](const std::string& of, const std::vector<std::string>& parents) {
      f.add(of, {.after = static_cast<uint32_t>(parents.size())});
      for (uint32_t at = 0; at < parents.size(); at += 1000)
        f.say(event::After{
            .id = of,
            .first = at,
            .ids = {parents.begin() + at,
                    parents.begin() + std::min<uint32_t>(at + 1000, static_cast<uint32_t>(parents.size()))}});
    };
    std::vector<std::string> ids;
    if (!fan_in) f.add(f.say.a);
    for (uint32_t n = 0; n < many; ++n) {
      if (fan_in) f.add(id(n));
      else child(id(n), {f.say.a});
      ids.push_back(id(n));
    }
    if (fan_in) child(f.c, ids);
    CHECK(f.say.fold.counters("f").blocked == (fan_in ? 1 : many) && f.wake() == 0);
    for (const auto& one : ids)
      if (fan_in) f.done(one);
    if (!fan_in) f.done(f.say.a);
    for (size_t left = many; left > 0; left -= std::min<size_t>(left, 1000)) {
      CHECK(f.say.fold.counters("f").blocked > 0);
      CHECK(f.wake(1000) == (fan_in ? 1 : std::min<size_t>(left, 1000)));
    }
    CHECK(f.wake() == 0 && f.say.fold.counters("f").blocked == 0);
    if (fan_in) f.done(f.c);
    for (const auto& one : ids)
      if (!fan_in) f.done(one);
    CHECK(f.relations() == 0);
  }
}

// The children of a job are born with its end, those of the start that ended; until then nothing runs them, and they
// may be made again, or forgotten. The parent is remembered until they have finished, so that a fold of what the
// cleaner leaves has the same result.
void children_are_born_with_the_end_of_their_parent() {
  const std::string c = "01ARZ3NDEKTSV4RRFFQ6000003";
  const auto clean = [](Lsn) { return true; };
  auto child = [](const std::string& id, const std::string& parent, uint32_t start) {
    return event::Add{.id = id,
                      .at = Millis(5),
                      .given = true,
                      .asked = {.function = "g", .serial = "s"},
                      .descent = {parent, start}};
  };
  auto begin = [](Said& say, uint32_t start) {
    say(event::Claim{.ids = {say.a}, .owner = "A.1"});
    say(event::Start{.id = say.a, .owner = "A.1", .start = start});
  };
  Said say;
  say(event::Add{.id = say.a, .asked = {.function = "f", .serial = "s"}});
  begin(say, 1);
  say(child(say.b, say.a, 1));
  say(child(c, say.a, 1));
  CHECK(say.state(say.b) == State::pending && say.fold.unborn(say.a).size() == 2);
  for (const Event& event : {Event(event::Claim{.ids = {say.b}, .owner = "B.1"}), Event(event::Kick{.id = say.b})}) {
    say(event);
    CHECK(say.state(say.b) == State::pending);
  }
  // The worker dies. The second start makes only one child, with another workload.
  begin(say, 2);
  const Lsn again = say.end;
  say.fold.apply(child(say.b, say.a, 2), {.data_size = 7, .data_sum = 7}, again, say.end += 100);
  CHECK(say.fold.get(say.b)->first_lsn == again && say.fold.get(say.b)->size == 7 && say.fold.get(say.b)->unborn == 2);
  say(child(say.b, say.a, 1));  // an older start changes nothing
  CHECK(say.fold.get(say.b)->unborn == 2);
  say(event::Forget{.ids = {c}, .position = say.end});
  CHECK(!say.fold.get(c) && say.fold.unborn(say.a) == std::vector{say.b});
  say(event::Done{.id = say.a, .at = Millis(9), .owner = "A.1", .start = 1, .children = 1});
  CHECK(say.state(say.b) == State::pending);  // these are not of the start that ended
  Said other;
  other(event::Add{.id = say.a, .asked = {.function = "f", .serial = "s"}});
  other(child(say.b, say.a, 2));
  other(event::Done{.id = say.a, .at = Millis(9), .owner = "A.1", .start = 2, .children = 1});
  CHECK(other.state(say.b) == State::queued && other.fold.get(say.b)->changed_at == Millis(9) &&
        other.fold.unborn(say.a).empty() && other.fold.children(say.a) == std::vector{say.b});
  CHECK(!other.fold.may_forget(say.a, *other.fold.get(say.a), Millis(100), clean));
  other(child(say.b, say.a, 3));  // what is born stays as it is
  CHECK(other.state(say.b) == State::queued && !other.fold.get(say.b)->unborn);
  other(event::Done{.id = say.b});
  CHECK(other.fold.may_forget(say.a, *other.fold.get(say.a), Millis(100), clean));
  // The fold of what the cleaner leaves then: the end of the child alone says that it was born.
  Said rest;
  rest(child(say.b, say.a, 2));
  rest(event::Done{.id = say.b});
  CHECK(rest.state(say.b) == State::finished && !rest.fold.get(say.b)->unborn && rest.fold.children(say.a).empty());
  // A dropped parent gives birth to nobody; a child that a user has dropped stays dropped.
  Said dropped;
  dropped(event::Add{.id = say.a, .asked = {.function = "f"}});
  dropped(child(say.b, say.a, 1));
  dropped(child(c, say.a, 1));
  dropped(event::Drop{.id = c});
  dropped(event::Drop{.id = say.a});
  dropped(event::Done{.id = say.a, .start = 1, .children = 2});
  CHECK(dropped.state(say.b) == State::pending && dropped.state(c) == State::finished);
}

// The tally counts what happens, and follows from what the cleaner leaves: a mark, the values at the mark, and what was
// appended since the mark, in whatever order.
void what_the_tally_counts() {
  using F = FunctionTally;
  using M = MinuteTally;
  Said say;
  const auto run = [&](const std::string& id, const std::string& f, Millis at, Millis waits, Millis runs,
                       const Event& end) {
    std::vector<Event> events = {event::Add{.id = id, .at = at, .asked = {.function = f}},
                                 event::Claim{.ids = {id}, .at = at, .owner = "A.0"},
                                 event::Start{.id = id, .at = at + waits, .owner = "A.1", .start = 1}, end};
    std::visit(
        [&](auto& e) {
          if constexpr (
              requires { e.spent; } || requires { e.children; })
            e.owner = "A.1", e.start = 1;
          e.at = at + waits + runs;
        },
        events.back());
    return events;
  };
  const auto id = [](int n) { return "01ARZ3NDEKTSV4RRFFQ6" + padded(static_cast<uint64_t>(n), 6); };
  const auto tell = [](Said& to, const std::vector<Event>& events) {
    for (const auto& event : events) to(event);
  };
  const Millis minute(60'000), second(1000);
  std::vector<Event> first = run(id(1), "f", minute, 2 * second, second / 2, event::Done{.id = id(1)});
  for (const auto& event : run(id(2), "f", 2 * minute, Millis(0), 5 * minute, event::Dead{.id = id(2), .why = "bad"}))
    first.push_back(event);
  first.push_back(event::Kick{.id = id(2), .at = 8 * minute});
  first.push_back(event::Drop{.id = id(2), .at = 8 * minute});
  first.push_back(event::Add{.id = id(3), .at = 8 * minute, .asked = {.function = "g", .expire = 9 * minute}});
  first.push_back(event::Dead{.id = id(3), .at = 9 * minute, .owner = event::nobody, .spent = false});
  first.push_back(event::Add{.id = id(4), .at = 9 * minute, .asked = {.function = "g"}});
  first.push_back(event::Cancel{.id = id(4), .at = 9 * minute});
  tell(say, first);
  tell(say, first);  // appended again: nothing happens twice
  F f, g;
  f.values[F::queued] = 2, f.values[F::failed] = 1;
  f.values[F::ends + 0] = f.values[F::ends + 1] = f.values[F::ends + 4] = 1;
  f.values[F::waits + bucket_of(2 * second)] = f.values[F::waits + 0] = 1, f.values[F::waited] = 2000;
  f.values[F::runs + bucket_of(second / 2)] = f.values[F::runs + bucket_of(5 * minute)] = 1, f.values[F::ran] = 300'500;
  g.values[F::queued] = 2, g.values[F::ends + 2] = g.values[F::ends + 3] = 1;
  CHECK(say.fold.tally().functions() == (std::map<std::string, F>{{"f", f}, {"g", g}}));
  const auto minutes = say.fold.tally().minutes();
  CHECK(minutes.size() == 5 && minutes.at(1).values == (std::array<uint64_t, M::size>{1, 1, 0, 2000}) &&
        minutes.at(7).values == (std::array<uint64_t, M::size>{0, 0, 1, 0}));
  CHECK(bucket_of(Millis(10)) == 0 && bucket_of(Millis(11)) == 1 && bucket_of(Millis(86'400'001)) == 8);

  // What other processes append while the cleaner does so: before the values, and after them.
  const auto between = run(id(5), "f", 9 * minute, 3 * second, second, event::Done{.id = id(5)});
  auto after = run(id(6), "h", 9 * minute, second, second, event::Fail{.id = id(6), .due = 20 * minute});
  const auto mark = say.fold.tally().mark_record(Millis(5));
  CHECK(mark.size() == 1 && say.fold.tally().value_records(Millis(5)).empty());
  const Event marked = parse_record(mark[0])->event;
  std::vector<Event> values;
  Said rest;  // the fold of what the cleaner leaves
  rest.end = say.end;
  for (Said* to : {&say, &rest}) {
    (*to)(marked);
    tell(*to, between);
    if (to == &say)
      for (const auto& record : say.fold.tally().value_records(Millis(5)))
        values.push_back(parse_record(record)->event);
    (*to)(after[0]);
    tell(*to, values);
    tell(*to, after);
    tell(*to, values);  // again, after a failed sync
  }
  CHECK(values.size() == 1 && say.fold.tally().value_records(Millis(5)).empty());
  CHECK(say.fold.tally().functions() == rest.fold.tally().functions());
  CHECK(say.fold.tally().minutes() == rest.fold.tally().minutes());
  f = say.fold.tally().functions().at("f");
  CHECK(f.values[F::queued] == 3 && f.values[F::waited] == 5000 &&
        rest.fold.tally().minutes().at(9).values == (std::array<uint64_t, M::size>{3, 1, 1, 3000}));
  const auto& said = std::get<event::Counts>(values[0]);
  CHECK(say.fold.tally().needs(said, 0) && say.fold.tally().needs(std::get<event::Counts>(marked), said.mark));

  // The next values replace these. Without anything new there are none.
  const auto again = [](Said& to) {
    std::vector<Event> all;
    for (int i = 0; i < 2; ++i)
      for (const auto& record : i ? to.fold.tally().value_records(Millis(5)) : to.fold.tally().mark_record(Millis(5)))
        all.push_back(parse_record(record)->event), to(all.back());
    return all;
  };
  CHECK(again(say).size() == 2 && !say.fold.tally().needs(said, 0) && again(say).empty());

  // Only so many functions, and only the minutes of a day.
  Said many;
  for (int i = 0; i < 1100; ++i)
    many(event::Add{.id = id(i), .at = i * minute, .asked = {.function = "f" + std::to_string(i)}});
  for (int i = 0; i < 1500; ++i) many(event::Add{.id = id(2000 + i), .at = i * minute, .asked = {.function = "f3"}});
  auto all = many.fold.tally().functions();
  CHECK(all.size() == most_tallied + 1 && all.at(other_functions).values[F::queued] == 100 &&
        all.at("f3").values[F::queued] == 1501);
  CHECK(many.fold.tally().minutes().size() == most_minutes && many.fold.tally().minutes().begin()->first == 60);
  const auto records = again(many);
  CHECK(records.size() > 2);
  Said later;
  later.end = many.end;
  later(event::Add{.id = id(9000), .at = minute, .asked = {.function = "older"}});
  tell(later, records);
  CHECK(later.fold.tally().functions() == all && later.fold.tally().minutes() == many.fold.tally().minutes());
}

// However many functions there are, the labels of metrics are few.
void metrics_have_few_labels() {
  Overview overview;
  for (int i = 0; i < 1100; ++i) overview.functions["f" + padded(static_cast<uint64_t>(i), 4)].counters.bytes = 1;
  FunctionTally tally;
  tally.values[FunctionTally::queued] = 7;
  const auto metrics = metrics_of(overview, {{"f1099", tally}, {other_functions, tally}});
  const auto value = [&](const std::string& name, const std::string& function) {
    double sum = -1;
    for (const auto& metric : metrics)
      for (const auto& sample : metric.samples)
        if (metric.name == name && sample.labels[0].second == function) sum = sample.value;
    return sum;
  };
  for (const auto& metric : metrics)
    if (metric.name == "gq_workload_bytes") CHECK(metric.samples.size() == most_tallied);
  CHECK(value("gq_workload_bytes", "f0000") == 1 && value("gq_workload_bytes", "f1099") == 1);
  CHECK(value("gq_workload_bytes", all_others) == 101 && value("gq_workload_bytes", "f1000") == -1);
  CHECK(value("gq_jobs_queued_total", all_others) == 7 && value("gq_jobs_queued_total", "f1099") == 7);
}

// The age of the oldest job in each minute, from the waits of jobs that were started later, and of those that wait.
void the_age_of_the_oldest_job() {
  const Millis minute(60'000), now = 30'000'000 * minute;
  std::map<uint64_t, MinuteTally> minutes;
  minutes[30'000'000 - 10].values[MinuteTally::longest_wait] = 300'000;
  minutes[30'000'000 - 12].values[MinuteTally::longest_wait] = 250'000;
  const auto ages = ages_of_oldest(minutes, 2 * minute, now);
  const std::vector<uint64_t> last(ages.end() - 17, ages.end());
  CHECK(ages.size() == most_minutes &&
        last == (std::vector<uint64_t>{10'000, 70'000, 130'000, 190'000, 250'000, 240'000, 300'000, 0, 0, 0, 0, 0, 0, 0,
                                       0, 60'000, 120'000}));
}

// Who waits for a job is told its end as sh(1) and timeout(1) tell it; an output that lacks is never a success.
void a_result_has_its_status() {
  const auto status = [](const Job& job, bool needs_output = false) {
    const auto result = result_of(job, needs_output, "here");
    CHECK(!result || (result->status != 0) == !result->problem.empty());
    return result ? result->status : -1;
  };
  CHECK(result_of(std::nullopt, false, "here")->status == status_unknown);
  Job job;
  for (size_t i = 0; i < state_count; ++i) {
    job.state = static_cast<State>(i);
    const bool is_over = has_ended(job) || job.state == State::dead;
    CHECK((status(job) >= 0) == is_over);
  }
  for (const State state : {State::finished, State::kept}) {
    job = {};
    job.state = state, job.exit = 3;  // --on-exit 3=done
    CHECK(status(job) == 0 && status(job, true) == status_unknown);
    job.result = true;
    CHECK(status(job) == status_unknown);
    job.output = Kept::whole, job.output_lsn = 64;
    CHECK(status(job) == 0 && status(job, true) == 0 && result_of(job, true, "here")->has_output);
    for (const Kept lost : {Kept::too_large, Kept::no_room})
      for (const bool asked : {false, true}) {
        job.output = lost, job.output_lsn = 0, job.result = asked;
        CHECK(status(job) == status_unknown);
      }
    job = {};
    job.state = state, job.dropped = 1;
    CHECK(status(job) == status_unknown);
  }
  job = {};
  job.state = State::dead;
  CHECK(status(job) == status_unknown);
  job.exit = 3;
  CHECK(status(job) == 3 && status(job, true) == 3 && !result_of(job, true, "here")->has_output);
  job.output = Kept::whole, job.output_lsn = 64;
  CHECK(status(job, true) == 3 && result_of(job, true, "here")->has_output);
  job.exit = 0;  // --on-exit 0=dead
  CHECK(status(job) == status_unknown);
  job.exit = no_exit, job.signal = 9;
  CHECK(status(job) == 137);
  // What no command ends with is not passed on, least of all as 0, its last 8 bits.
  for (const uint32_t wrong : {128U, 256U, 0U - 256, 0U - 128}) {
    job.exit = no_exit, job.signal = wrong;
    CHECK(status(job) == status_unknown);
    job.exit = wrong == 128 ? 256 : wrong, job.signal = 0;
    CHECK(status(job) == status_unknown);
  }
}

void what_is_kept_is_not_queued_by_its_add() {
  Said say;
  auto add = [&](const std::string& node, Millis at) {
    say(event::Add{.id = say.a,
                   .at = at,
                   .asked = {.function = "f"},
                   .node = node,
                   .store = RandomEvents::store(node, false),
                   .once = true});
  };
  add("there", Millis(1));
  say(event::State{.id = say.a, .at = Millis(2), .function = "f", .state = "kept", .node = "there", .keep = true});
  add("here", Millis(3));
  CHECK(say.state(say.a) == State::kept && say.fold.get(say.a)->node == "there");
}

// Checks that of all jobs with one serial key exactly one does not wait, and that it is the key's entry `h`.
void check_heads(const MapTable::Map& table) {
  std::map<std::string, std::vector<std::string>> in_turn;
  std::set<std::string> serials;
  for (const auto& [key, value] : table) {
    if (key[0] == 'h') serials.insert(key.substr(1));
    if (key[0] != 'l') continue;
    const Job job = decode_job(table.at("j" + value));
    serials.insert(job.serial);
    if (job.state != State::waiting) in_turn[job.serial].push_back(value);
  }
  for (const auto& serial : serials) {
    const auto& jobs = in_turn[serial];
    auto head = table.find("h" + serial);
    CHECK(jobs.size() == 1 && head != table.end() && head->second == jobs[0]);
  }
}

// Checks that a key's entry names a known job that has that key.
void check_keys(const MapTable::Map& table) {
  for (const auto& [key, value] : table) {
    if (key[0] != 'k') continue;
    auto found = table.find("j" + value.substr(0, ulid_size));
    CHECK(found != table.end());
    if (found == table.end()) continue;
    const Job job = decode_job(found->second);
    CHECK(key == "k" + job.function + zero + job.key);
    const bool same =
        (value.substr(ulid_size) == le64(0)) == (job.state != State::kept && job.state != State::finished);
    CHECK(same);
  }
}

// Checks the entries that relate jobs to their parents, and which jobs are marked.
void check_parents(const MapTable::Map& table) {
  const auto job_of = [&](const std::string& id) {
    auto found = table.find("j" + id);
    return found == table.end() ? std::optional<Job>() : decode_job(found->second);
  };
  std::map<std::string, uint32_t> unmet;  // by child
  std::set<std::string> marked, marks;
  size_t pairs = 0, halves = 0;
  for (const auto& [key, value] : table) {
    if (key[0] == 'U') marks.insert(key.substr(1));
    if (key[0] != 'A') continue;
    const std::string id = key.substr(1, ulid_size), other = key.substr(ulid_size + 3);
    const char kind = key[ulid_size + 2];
    if (kind != 'p') {
      ++halves;
      continue;
    }
    ++pairs;
    CHECK(table.contains("A" + other + zero + value + id));
    const auto child = job_of(id), parent = job_of(other);
    CHECK(child && child->after > 0 && !has_ended(*child) && (value == "s" || (value == "a") == child->after_any));
    if (value == "s") continue;
    ++unmet[id];
    if (parent && (has_ended(*parent) || (parent->state == State::dead && value == "a"))) marked.insert(other);
  }
  CHECK(pairs == halves && marks == marked);
  for (const auto& [key, value] : table)
    if (key[0] == 'j') CHECK(decode_job(value).unmet == unmet[key.substr(1)]);
}

// The letters of the states in gq-store(5), in order, and the letter of an unknown job.
constexpr std::string_view letters = "qdcrxwphkf";
constexpr char unknown = 'n';

// Returns all jobs in this state that next() may distinguish.
std::vector<std::optional<Job>> jobs_in(char letter) {
  std::vector<std::optional<Job>> jobs;
  if (letter == unknown) return {std::nullopt};
  for (const char* node : {"", "here", "there"})
    for (uint32_t once : {0, 1})
      for (uint32_t copies : {0, 3})
        for (int due : {0, 5})
          for (uint32_t keep : {0, 1}) {
            Job job;
            job.state = static_cast<State>(letters.find(letter));
            if ((job.state == State::queued && due) || (job.state == State::delayed && !due)) continue;
            job.function = "f";
            job.node = node, job.store = RandomEvents::store(node, false);
            if (!job.node.empty()) job.once = once, job.copies = copies;
            else job.store.clear();
            job.due = Millis(due);
            job.keep = keep;
            // These values show that the job has changed since its add record.
            job.version = job.state == State::dead || job.state == State::kept || job.state == State::finished;
            job.first_lsn = 64, job.size = 1;
            if (job.state == State::claimed || job.state == State::running) job.owner = "A.1";
            jobs.push_back(job);
          }
  return jobs;
}

// Returns the events of a line of the table: they come from the process that holds the job, and are newer than the
// known state.
std::vector<Event> events_of(const std::string& name) {
  const std::string id = "01ARZ3NDEKTSV4RRFFQ6000001", a_node = RandomEvents::store("there", false);
  auto add = [&](const std::string& node, bool once, int due, uint32_t copies) {
    return event::Add{.id = id,
                      .at = Millis(100),
                      .asked = {.function = "f", .due = Millis(due)},
                      .node = node,
                      .store = node.empty() ? "" : RandomEvents::store(node, false),
                      .copies = copies,
                      .once = once};
  };
  auto state = [&](const std::string& what) {
    std::vector<Event> all;
    for (const char* node : {"here", "there"})
      for (int due : {0, 5})
        all.push_back(event::State{.id = id,
                                   .at = Millis(100),
                                   .function = "f",
                                   .state = what,
                                   .node = node,
                                   .store = RandomEvents::store(node, false),
                                   .term = 5,
                                   .due = Millis(due)});
    return all;
  };
  if (name == "add")
    return {add("", false, 0, 0), add("", false, 5, 0), add("here", true, 0, 3), add("here", true, 0, 0),
            add("there", true, 0, 0)};
  if (name == "child") {
    auto child = add("", false, 0, 0);
    child.descent = {"01ARZ3NDEKTSV4RRFFQ6000009", 1};
    return {child};
  }
  if (name == "spool") {
    auto spooled = add("", false, 0, 0);
    spooled.spooled = true;
    return {spooled};
  }
  if (name == "claim") return {event::Claim{.ids = {id}, .owner = "B.0"}};
  if (name == "start") return {event::Start{.id = id, .owner = "A.1", .start = 1}};
  if (name == "done") return {event::Done{.id = id}, event::Done{.id = id, .keep = true}};
  if (name == "fail")
    return {event::Fail{.id = id, .owner = "A.1"}, event::Fail{.id = id, .owner = "A.1", .due = Millis(5)}};
  if (name == "dead") return {event::Dead{.id = id, .owner = "A.1"}};
  if (name == "kick") return {event::Kick{.id = id}};
  if (name == "cancel") return {event::Cancel{.id = id}};
  if (name == "drop") return {event::Drop{.id = id}};
  if (name == "keep") return {event::Keep{.id = id}};
  if (name == "release") return {event::Release{.id = id}};
  if (name == "copied")
    return {event::Copied{.ids = {id}, .peers = "there"}, event::Copied{.ids = {id}, .peers = "there,away"},
            event::Copied{.ids = {id}, .enough = true}};
  if (name == "forget") return {event::Forget{.ids = {id}}};
  if (name.starts_with("state ")) return state(name.substr(6));
  return {};
}

// Compares the table of states and records in gq-store(5) with next(): each cell is the state that next() gives such a
// job.
void the_page_says_what_becomes_of_a_job() {
  std::ifstream page(GQ_MAN "/gq-store.5");
  size_t pairs = 0;
  std::set<std::string> records;
  for (std::string line; std::getline(page, line);) {
    if (!line.starts_with(".It ") || line.find(" Ta ") == std::string::npos) continue;
    std::vector<std::string> cells;
    for (size_t at = 4, end; at <= line.size(); at = end + 4) {
      end = std::min(line.find(" Ta ", at), line.size());
      cells.push_back(line.substr(at, end - at));
    }
    const auto events = events_of(cells[0]);
    if (events.empty()) continue;  // the head
    records.insert(cells[0]);
    const std::string states = std::string(1, unknown) + std::string(letters);
    CHECK(cells.size() == 1 + states.size());
    for (size_t i = 0; i < states.size() && i + 1 < cells.size(); ++i, ++pairs) {
      std::set<char> becomes;
      for (const auto& event : events)
        for (const auto& job : jobs_in(states[i])) {
          const auto to = next(job, event, {.data_size = 1}, 200, here).job;
          becomes.insert(to ? letters[static_cast<size_t>(to->state)] : unknown);
        }
      std::string cell;
      for (char state : states)
        if (becomes.contains(state)) cell += state;
      if (cell == std::string(1, states[i])) cell = "-";
      if (cell == cells[i + 1]) continue;
      printf("%s of %c: %s\n", cells[0].c_str(), states[i], cell.c_str());
      CHECK(false);
    }
  }
  CHECK(records.size() == 19 && pairs == 19 * 11);
}

// Returns the entries of a table that matter to jobs, without the end of the journal and the positions of workloads.
MapTable::Map what_matters(const MapTable& table) {
  MapTable::Map all;
  for (const auto& [key, value] : table.all()) {
    if (std::string_view("mvtfeibw").find(key[0]) != std::string_view::npos) continue;
    auto& kept = all[key] = value;
    if (key[0] != 'j') continue;
    Job job = decode_job(value);
    job.location = job.offset = job.output_lsn = 0;
    job.source.clear();
    kept = encode_job(job);
  }
  return all;
}

// After a failed sync, a process may append a record a second time. It does not append a claim again if other processes
// have appended meanwhile. Of records from users, and of records about what a node knows, the last one counts. Any
// other record has no effect the second time, with these exceptions:
// - A process released a claimed job, or found it dead before the start, and has claimed it again. Then the second
//   record takes effect on the new claim.
// - A user drops a kept job; its key stays reserved for a while. A second drop frees the key.
// - Between the two records, another node has sent a newer state of the job.
void a_record_appended_again_changes_nothing() {
  size_t tried = 0;
  for (uint64_t seed = 1; seed <= 12 * times(); ++seed) {
    MapTable table;
    Fold fold(table, seed % 3 ? here : Self{});
    RandomEvents random(seed, 5 + 3 * (seed % 5), true);
    std::vector<RandomEvents::Item> last;
    auto say = [&](const RandomEvents::Item& item) {
      const auto before = what_matters(table);
      fold.apply(item.event, item.head, item.lsn, item.end);
      fold.commit();
      return before != what_matters(table);
    };
    auto names = [](const Event& event, const std::string& id) {
      if (const auto* copied = std::get_if<event::Copied>(&event))
        return std::find(copied->ids.begin(), copied->ids.end(), id) != copied->ids.end();
      return id_of(event) == id;
    };
    for (int i = 0; i < 1000; ++i) {
      const auto item = random.next(fold);
      const bool counts = say(item);
      if (is_any_of<event::Forget>(item.event)) last.clear();
      // A child comes before the end of its parent.
      const auto* child = std::get_if<event::Add>(&item.event);
      if (is_any_of<event::State, event::Add>(item.event))
        last.erase(std::remove_if(last.begin(), last.end(),
                                  [&](const auto& one) {
                                    return names(one.event, id_of(item.event)) ||
                                           (child && names(one.event, child->descent.parent));
                                  }),
                   last.end());
      if (counts && is_any_of<event::After, event::Wake, event::Add, event::Start, event::Done, event::Fail,
                              event::Dead, event::Drop, event::Copied, event::State>(item.event))
        last.push_back(item);
      if (last.size() > 8) last.erase(last.begin());
      if (last.empty() || !random.once_in(3)) continue;
      const auto again = random.again(last[random.below(last.size())]);
      const auto job = fold.get(id_of(again.event));
      const auto ended_by = std::visit(
          [](const auto& e) {
            if constexpr (requires { e.owner, e.spent; }) return e.owner;
            else return std::string();
          },
          again.event);
      if (job && job->state == State::claimed && job->owner == ended_by) continue;
      if (is_any_of<event::Drop>(again.event) && job && !job->key.empty()) continue;
      ++tried;
      if (!say(again)) continue;
      printf("seed %llu, step %d: %s\n", static_cast<unsigned long long>(seed), i,
             std::string(type_of(again.event)).c_str());
      CHECK(false);
    }
  }
  CHECK(tried > 500);
}

// A spooled job is for another store: nothing claims it here, and the spooled jobs of a function keep their order. It
// is forgotten, becomes dead, or becomes a job of this store.
void what_is_spooled() {
  const std::string c = "01ARZ3NDEKTSV4RRFFQ6000003", d = "01ARZ3NDEKTSV4RRFFQ6000004";
  using Ids = std::vector<std::string>;
  Said say;
  auto spooled = [&] {
    Ids ids;
    std::string cursor;
    say.fold.page('S', "f", 99, cursor, ids);
    CHECK(say.fold.counters("f").spooled == ids.size());
    return ids;
  };
  auto add = [&](const std::string& id, bool spool, const std::string& key = {}) {
    say(event::Add{.id = id, .asked = {.function = "f", .key = key, .serial = "s"}, .spooled = spool});
  };
  auto shown = [&](const std::string& id) { return std::string(state_name(say.fold.get(id).value())); };
  for (const auto& id : {c, say.b, say.a}) add(id, true, id);
  CHECK(spooled() == (Ids{c, say.b, say.a}) && shown(c) == "spooled" && say.state(c) == State::pending);
  CHECK(decode_job(encode_job(*say.fold.get(c))) == say.fold.get(c));
  add(d, true, c);  // the key is in use
  CHECK(!say.fold.get(d));
  say(event::Claim{.ids = {c, say.b}, .owner = "A.1"});
  add(say.b, true);  // spooled again
  CHECK(spooled() == (Ids{c, say.b, say.a}));
  ClaimRequest request{.most = 9, .owner = "A.1"};
  const auto chosen = choose(say.fold, request, {.now = Millis(9), .is_alive = [](const auto&) { return true; }});
  CHECK(chosen.claims.jobs.empty() && chosen.claims.live == 0);
  // The other store has it: its key is free, too.
  say(event::Forget{.ids = {c}, .position = say.end});
  CHECK(!say.fold.get(c) && spooled() == (Ids{say.b, say.a}));
  add(d, true, c);
  CHECK(spooled() == (Ids{say.b, say.a, d}));
  // Refused for good. A kick spools it again, at its place.
  const Event refused = event::Dead{.id = say.b, .owner = event::nobody, .spent = false, .why = "no"};
  say(refused);
  CHECK(shown(say.b) == "dead" && say.fold.get(say.b)->why == "no" && spooled() == (Ids{say.a, d}));
  CHECK(decode_job(encode_job(*say.fold.get(say.b))) == say.fold.get(say.b));
  say(event::Kick{.id = say.b});
  CHECK(spooled() == (Ids{say.b, say.a, d}));
  // This store has accepted it itself. A refusal by another one is too late then.
  add(say.b, false), say(refused);
  CHECK(shown(say.b) == "queued" && spooled() == (Ids{say.a, d}));
  add(say.b, true);
  CHECK(shown(say.b) == "queued");
  say(event::Cancel{.id = say.a});
  CHECK(shown(say.a) == "dead" && spooled() == Ids{d} && !say.fold.keyed("f", say.a, Millis(9)));
  add(say.a, false);
  CHECK(shown(say.a) == "dead");
  say(event::Kick{.id = say.a});
  CHECK(shown(say.a) == "waiting");
  say(event::Drop{.id = d});
  CHECK(shown(d) == "finished" && spooled().empty());
}

// The result does not depend on how much is folded at a time, or on how many processes fold one after the other.
void any_batching_makes_the_same() {
  for (uint64_t seed = 1; seed <= 6 * times(); ++seed) {
    MapTable at_once, in_parts;
    Fold fold(at_once, here);
    auto other = std::make_unique<Fold>(in_parts, here);
    RandomEvents random(seed, 10, false);
    for (int i = 0; i < 1000; ++i) {
      const auto item = random.next(fold);
      fold.apply(item.event, item.head, item.lsn, item.end);
      for (size_t left = 1; !other->apply_part(item.event, item.head, item.lsn, item.end, left); left = 1) {
        other->commit();
        if (random.once_in(2)) other = std::make_unique<Fold>(in_parts, here);
      }
      if (!random.once_in(1 + seed)) continue;
      other->commit();
      if (random.once_in(2)) other = std::make_unique<Fold>(in_parts, here);
    }
    fold.commit(), other->commit();
    CHECK(at_once.all() == in_parts.all());
  }
}

void counters_equal_a_recount() {
  for (uint64_t seed = 1; seed <= 20 * times(); ++seed) {
    const Self self = seed % 2 ? here : Self{};
    MapTable table;
    Fold fold(table, self);
    const bool orderly = seed % 4 < 2;
    RandomEvents random(seed, 10 + 5 * (seed % 5), orderly);
    for (int i = 0; i < 1000; ++i) {
      const auto item = random.next(fold);
      fold.apply(item.event, item.head, item.lsn, item.end);
      if (i % 10 != 0) continue;
      fold.commit();
      MapTable::Map derived;
      for (const auto& [key, value] : table.all())
        if (std::string_view("qdcxynoblszwaOBCTS").find(key[0]) != std::string_view::npos) derived.emplace(key, value);
      const int before = failures;
      CHECK(derived == recount(table.all()));
      if (orderly) check_heads(table.all());
      check_keys(table.all());
      check_parents(table.all());
      if (failures > before) {
        printf("seed %llu, step %d\n", static_cast<unsigned long long>(seed), i);
        break;
      }
    }
  }
}

}  // namespace

void test_state(const std::string& directory) {
  the_page_says_what_becomes_of_a_job();
  both_sides_of_a_table_hold_the_same(directory + "/table");
  what_is_claimed();
  what_the_tally_counts();
  metrics_have_few_labels();
  the_age_of_the_oldest_job();
  what_expires();
  what_is_cancelled();
  what_becomes_a_letter();
  what_is_spooled();
  a_job_that_runs_is_not_queued_by_another();
  what_is_kept_is_not_queued_by_its_add();
  an_output_stays_with_its_end();
  a_job_runs_after_its_parents();
  parents_that_fail();
  parents_in_an_add_record();
  parents_in_a_group();
  many_parents_and_children();
  children_are_born_with_the_end_of_their_parent();
  a_result_has_its_status();
  counters_equal_a_recount();
  a_record_appended_again_changes_nothing();
  any_batching_makes_the_same();
}
