// Tests of what the records make of the jobs: over random events, and without files but where a table is one.
#include <filesystem>
#include <set>

#include "check.hpp"
#include "events.hpp"
#include "gq/base/bytes.hpp"
#include "gq/state/map_table.hpp"
#include "gq/store/tokyo_table.hpp"

using namespace gq;

namespace {

const Self here{"here", RandomEvents::store("here", false)};

// A fold over memory, and events of two jobs said one after the other.
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
  for (int i = 0; i < 10'000; ++i) {
    const auto item = random.next(in_map);
    for (Fold* fold : {&in_file, &in_map}) fold->apply(item.event, item.head, item.lsn, item.end);
    if (i % 1000 != 0) continue;
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

// Everything of a table that follows from its jobs alone: made from nothing, by the words of fold.hpp.
MapTable::Map recount(const MapTable::Map& table) {
  MapTable::Map all;
  std::map<std::string, Counters> counters;
  std::map<uint64_t, Weight> weights;

  for (const auto& [key, value] : table) {
    if (key[0] == 'p') counters[key.substr(1)];
    if (key[0] != 'j') continue;
    const std::string id = key.substr(1);
    const Job job = decode_job(value);
    const bool finished = job.state == State::finished;
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
        all["n" + job.function + zero + be64(job.first_lsn)] = id;
        break;
      case State::held:
        all["o" + job.node + zero + be64(job.first_lsn)] = id;
        break;
      case State::waiting:
      case State::finished:
        break;
    }
    if (!job.source.empty() && (!finished || (!job.node.empty() && !job.once))) all["b" + job.source + zero + id] = "";
    const bool in_turn = job.state == State::queued || job.state == State::delayed || job.state == State::claimed ||
                         job.state == State::running;
    if (!job.serial.empty() && (in_turn || job.state == State::waiting))
      all["l" + job.serial + zero + be64(job.first_lsn)] = id;
    CHECK(in_turn == (job.state == State::claimed || job.state == State::running) || job.owner.empty());
    Counters& c = counters[job.function];
    ++c.jobs[static_cast<size_t>(job.state)];
    c.first += job.state == State::delayed && job.starts == 0 && job.failures == 0;
    c.bytes += finished ? 0 : job.size;
    Weight& w = weights[job.first_lsn / weight_step];
    w.bytes += finished ? finished_weight : 500 + (job.is_inline() ? job.size : 0);
    w.finished += finished;
  }
  for (const auto& [function, c] : counters) {
    std::string value;
    for (uint64_t n : c.jobs) value += le64(n);
    all["s" + function] = value + le64(c.bytes);
    if (c.first) all["z" + function] = le64(c.first);
  }
  for (const auto& [part, w] : weights) all["w" + be64(part)] = le64(w.bytes) + le64(w.finished);
  return all;
}

// A job that runs stays so when one with its serial key ends that ran beside it: what parted them may be lost.
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

// Of the jobs with one serial key all but one wait, and that one is its head.
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

// What stands for a job by its key: one that is known, and has that key.
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

void counters_equal_a_recount() {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    const Self self = seed % 2 ? here : Self{};
    MapTable table;
    Fold fold(table, self);
    const bool orderly = seed % 4 < 2;
    RandomEvents random(seed, 10 + 5 * (seed % 5), orderly);
    for (int i = 0; i < 3000; ++i) {
      const auto item = random.next(fold);
      fold.apply(item.event, item.head, item.lsn, item.end);
      if (i % 10 != 0) continue;
      fold.commit();
      MapTable::Map derived;
      for (const auto& [key, value] : table.all())
        if (std::string_view("qdcxynoblszw").find(key[0]) != std::string_view::npos) derived.emplace(key, value);
      const int before = failures;
      CHECK(derived == recount(table.all()));
      if (orderly) check_heads(table.all());
      check_keys(table.all());
      if (failures > before) {
        printf("seed %llu, step %d\n", static_cast<unsigned long long>(seed), i);
        break;
      }
    }
  }
}

}  // namespace

void test_state(const std::string& directory) {
  both_sides_of_a_table_hold_the_same(directory + "/table");
  a_job_that_runs_is_not_queued_by_another();
  what_is_kept_is_not_queued_by_its_add();
  counters_equal_a_recount();
}
