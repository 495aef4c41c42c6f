// Unit tests of lib/, for states that a test of the programs cannot produce. Prints the checks that fail, and then
// exits 1.
#include <fcntl.h>
#include <libgearman/gearman.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <random>
#include <thread>

#include "check.hpp"
#include "gq/base/bytes.hpp"
#include "gq/base/directory.hpp"
#include "gq/base/log.hpp"
#include "gq/base/short_hold.hpp"
#include "gq/base/text.hpp"
#include "gq/base/ulid.hpp"
#include "gq/database/open_store.hpp"
#include "gq/gearman/gearman.hpp"
#include "gq/gearman/packets.hpp"
#include "gq/gearman/probe.hpp"
#include "gq/journal/local_disk.hpp"
#include "gq/replication/features.hpp"
#include "gq/replication/intake.hpp"
#include "gq/replication/replicator.hpp"
#include "gq/replication/transfer.hpp"
#include "gq/replication/wire.hpp"
#include "gq/state/map_table.hpp"
#include "gq/store/check.hpp"
#include "gq/store/cleaner.hpp"
#include "gq/store/listing.hpp"
#include "gq/store/parts.hpp"
#include "gq/store/snapshot.hpp"
#include "gq/store/tokyo_table.hpp"
#include "hostile.hpp"

void test_state(const std::string& directory);  // state.cpp
void test_replication();                        // replication.cpp
void test_work();                               // work.cpp
void test_view();                               // view.cpp

namespace {

using namespace gq;

template <typename E>
std::string said(const std::string& id, const std::string& owner, uint32_t start) {
  return encode_record(E{.id = id, .at = now_ms(), .owner = owner, .start = start});
}

// The journal and the blobs of a store, opened a second time, as by another program.
struct OwnJournal {
  OwnJournal(const std::string& directory, const std::string& id)
      : disk(Directory(directory), id), journal(Directory(directory), id, disk) {}
  LocalDisk disk;
  Journal journal;
};

struct OwnBlobs {
  explicit OwnBlobs(const std::string& directory)
      : store(open_store(directory, true)),
        disk(store.directory(), store.id()),
        blobs(store.directory().below(blobs_name), disk) {}
  Queue store;
  LocalDisk disk;
  Blobs blobs;
};

State state_of(Queue& store, const std::string& id) {
  State state = State::finished;
  store.look([&](Fold& fold) { state = fold.get(id)->state; });
  return state;
}

// The index counts the delayed jobs that were never tried, and those of them that are due. If a program without these
// counters has changed the index, they are recomputed.
void jobs_wait_for_their_time(const std::string& directory) {
  Queue store = open_store(directory, true);
  std::vector<NewJob> jobs;
  for (int i = 0; i < 5; ++i) {
    jobs.push_back(make_job(
        {.function = "f", .due = i == 4 ? Millis(0) : now_ms() + (i < 2 ? Millis(3600'000) : Millis(-1000))}, "x"));
  }
  store.add(jobs);
  auto counts = [&](uint64_t first, uint64_t due) {
    store.look([&](Fold& fold) {
      CHECK(fold.counters("f").first == first);
      std::string cursor;
      size_t left = 10;
      CHECK(fold.due_first("f", now_ms(), left, cursor) == due && left > 0);
      uint64_t one_by_one = 0;
      for (left = 0, cursor.clear(); left == 0;) {
        left = 1;
        one_by_one += fold.due_first("f", now_ms(), left, cursor);
      }
      CHECK(one_by_one == due);
    });
  };
  counts(4, 2);
  ClaimRequest request;
  Owners owners(store.owners_directory(), 1);
  request.owner = owners.name();
  request.most = 1;
  auto claims = store.claim(request);
  CHECK(claims.jobs.size() == 1 && claims.jobs[0].job.due.count() != 0);
  counts(3, 1);
  const Claim& claim = claims.jobs.front();
  store.append({said<event::Start>(claim.id, claim.job.owner, claim.job.starts + 1)});
  store.append({encode_record(event::Fail{.id = claim.id,
                                          .at = now_ms(),
                                          .owner = claim.job.owner,
                                          .start = claim.job.starts + 1,
                                          .due = now_ms() - Millis(1000)})});
  counts(3, 1);  // the job has been tried
  for (const std::string& said : {std::string(), std::string("\6\0\0\0", 4), std::string("\xff\xff\xff\xff", 4)}) {
    bool others = said.empty() || said[0] == 6;
    std::string version, counter;
    {
      TokyoTable table(Directory(directory), "index.tcb");
      version = table.get("v").value();
      counter = table.get("zf").value();
      // As a program without these counters, an older program and a newer program leave it.
      table.put("v", said.empty() ? version.substr(0, 4) + std::string(8, '\0') : said + version.substr(4));
      table.put("zf", std::string(1, '\x63') + counter.substr(1));
      table.close();
    }
    counts(others ? 3 : 0x63, 1);
  }
}

// After a failed sync, start and fail records are appended a second time, although the same process has claimed the job
// again.
void repeated_start_is_not_a_new_one(const std::string& directory) {
  Queue store = open_store(directory, true);
  Owners owners(store.owners_directory(), 1);
  Owner owner = owners.take();
  NewJob job = make_job({"f"}, "x");
  const std::string id = job.add.id;
  store.add({job});
  ClaimRequest request;
  request.functions = {"f"};
  request.most = 1;
  request.owner = owners.name();
  CHECK(store.claim(request).jobs.size() == 1);
  auto start = said<event::Start>(id, owner.name, 1), fail = said<event::Fail>(id, owner.name, 1);
  store.append({start});
  CHECK(state_of(store, id) == State::running);
  store.append({fail});
  CHECK(state_of(store, id) == State::queued);
  CHECK(store.claim(request).jobs.size() == 1);
  store.append({start, fail});
  CHECK(state_of(store, id) == State::claimed);
  store.append({said<event::Start>(id, owner.name, 2)});
  CHECK(state_of(store, id) == State::running);
  store.append({said<event::Dead>(id, owner.name, 1)});  // about another start
  CHECK(state_of(store, id) == State::running);
}

// While a process holds the lock, the owner holds its jobs. When worker and command have ended, the lock of a process
// that the command has left running is ignored.
void owners_hold_until_their_command_has_ended() {
  OwnerInfo here = parse_owner("pid 1 since 2\nboot b\nspace s\nhost h\nanything else\n"), file = here;
  CHECK(here.pid == 1 && here.since == 2 && here.boot == "b" && here.space == "s" && here.host == "h");
  file.pid = 100;
  file.since = 5000;
  const ProcessInfo gone{}, runs{true, false, 4990, true}, zombie{true, true, 4990, false},
      group{false, false, 0, true}, reused{true, false, 5001, true}, orphans{true, true, 4990, true},
      hidden{true, false, 0, true};
  CHECK(!is_held(false, false, file, here, runs));  // the lock is free, so the owner has ended
  CHECK(is_held(false, true, file, here, runs) && is_held(false, true, {}, here, gone));  // a command can unlock it
  for (const auto& p : {runs, group, orphans, hidden}) CHECK(is_held(true, false, file, here, p));
  for (const auto& p : {gone, zombie, reused}) CHECK(!is_held(true, false, file, here, p));
  for (const auto& p : {gone, zombie, reused})
    CHECK(is_held(true, true, file, here, p));  // the worker still has to record the end
  for (const char* text :
       {"", "pid 0 since 5000\nboot b\nspace s\n", "pid 100 since 5000\nboot a\nspace s\n",
        "pid 100 since 5000\nboot b\nspace t\n", "pid 100 since 5000\n", "pid 100\nboot b\nspace s\n"})
    CHECK(is_held(true, false, parse_owner(text), here, gone));
  CHECK(is_held(true, false, parse_owner("pid 100 since 5000\n"), OwnerInfo{}, gone));
}

void owner_files_are_reused_only_when_unlocked(const std::string& parent) {
  const Directory directory = Directory(parent).make_below("owners");
  Owners owners(directory, 1);
  Owner first = owners.take();
  const std::string name = first.name;
  CHECK(owner_alive(directory, name));
  ::flock(first.lock.get(), LOCK_UN);  // as a command can do
  sweep_owners(directory);
  CHECK(owner_alive(directory, name) && ::flock(first.lock.get(), LOCK_EX | LOCK_NB) == 0);
  owners.let_go(std::move(first));
  first = owners.take();
  CHECK(first.name == name && owner_alive(directory, name));
  Fd daemon(::dup(first.lock.get()));
  owners.let_go(std::move(first));
  Owner second = owners.take();
  CHECK(second.name != name && !owner_alive(directory, name) && owner_alive(directory, second.name));
  // A sweep has removed the file in between.
  CHECK(directory.remove(second.name));
  owners.let_go(std::move(second));
  CHECK(owner_alive(directory, owners.take().name));
}

// Other nodes receive how a job ended. An older node sends fewer fields.
void ends_of_other_nodes_are_recorded(const std::string& directory) {
  Queue store = open_store(directory, true);
  auto end = [&](const std::function<void(event::State&)>& change) {
    gq::Job job;
    job.function = "f";
    job.state = State::finished;
    job.failures = 1;
    job.tries = 2;
    job.exit = 3;
    job.signal = 4;
    event::State state = state_of(new_ulid(), job);
    change(state);
    store.append({encode_record(state)});
    std::optional<gq::Job> got;
    store.look([&](Fold& fold) { got = fold.get(state.id); });
    return got.value_or(gq::Job{});
  };
  gq::Job job = end([](event::State&) {});
  CHECK(job.attempts() == 2 && job.exit == 3 && job.signal == 4 && !job.dropped);
  CHECK(end([](event::State& s) { s.dropped = true; }).dropped);
  auto before = [](event::State& s) { s.attempts = s.signal = 0, s.exit = no_exit; };
  job = end(before);
  CHECK(job.attempts() == 2 && job.exit == no_exit && !job.dropped);
  job = end([&](event::State& s) { before(s), s.why = "dropped"; });
  CHECK(job.attempts() == 0 && job.dropped);
  // A job as an older program has encoded it.
  std::string bytes = encode_job(end([](event::State&) {}));
  job = decode_job(bytes.substr(0, bytes.size() - 16));
  CHECK(job.tries == 0 && job.exit == no_exit && !job.signal && !job.dropped);
}

// Another node may send the end of a different job with the same ID: a client chose the ID, or a stranger reused it.
// Then the job of this node continues, and a conflict is noted. Older programs send no size and sum: then the end is
// accepted if the function is the same.
void ends_are_of_one_job(const std::string& directory) {
  Queue store = open_store(directory, true);
  auto state_now = [&](const std::string& id) {
    std::optional<gq::Job> job;
    store.look([&](Fold& fold) { job = fold.get(id); });
    return job.value_or(gq::Job{}).state;
  };
  auto conflicts = [&] {
    size_t count = 0;
    store.for_each_trouble([&](const Trouble&) { ++count; });
    return count;
  };
  auto end_of = [&](const NewJob& job, const std::string& function) {
    gq::Job ended;
    ended.function = function;
    ended.state = State::finished;
    ended.size = job.data.size(), ended.sum = job.data_sum;
    return state_of(job.add.id, ended);
  };
  const NewJob job = make_job({"f"}, "work"), late = make_job({"f"}, "late");
  store.add({job});
  gq::Job known;
  store.look([&](Fold& fold) { known = *fold.get(job.add.id); });
  size_t expected = 0;
  for (auto& end : {end_of(make_job({"f"}, "other", job.add.id), "f"), end_of(make_job({"f"}, "WORK", job.add.id), "f"),
                    end_of(job, "g")}) {
    CHECK(verdict_on(end, known, {}).kind == PeerVerdict::Kind::conflict &&
          verdict_on(end, known, {}).record == StateVerdict::Record::nothing);
    store.append({encode_record(end)});
    CHECK(state_now(job.add.id) == State::queued && conflicts() == ++expected);
  }
  // The end comes first. After it comes the job, or a different job.
  store.append({encode_record(end_of(late, "f"))});
  CHECK(store.add({late})[0].outcome == Outcome::queued);
  CHECK(state_now(late.add.id) == State::finished && conflicts() == expected);
  CHECK(store.add({make_job({"f"}, "another", late.add.id)})[0].outcome == Outcome::conflict);
  CHECK(conflicts() == ++expected);
  gq::Job over;
  store.look([&](Fold& fold) { over = *fold.get(late.add.id); });
  CHECK(verdict_on(end_of(job, "f"), over, {}).kind == PeerVerdict::Kind::conflict);
  // A workload may have any checksum.
  event::State often = end_of(job, "f");
  often.version = UINT32_MAX;
  CHECK(verdict_on(often, known, {}).record == StateVerdict::Record::nothing);
  event::State zero = end_of(job, "f");
  zero.sum = 0;
  CHECK(verdict_on(zero, over, {}).kind == PeerVerdict::Kind::conflict);
  // Only the latest of many conflicts are kept.
  const std::vector<std::string> many(500, encode_record(end_of(job, "g")));
  for (int n = 1; n <= 6; ++n) {
    store.append(many);
    CHECK(conflicts() == expected + many.size() * static_cast<size_t>(n) || conflicts() >= most_conflicts);
    CHECK(conflicts() <= most_conflicts + most_conflicts / 4);
  }
  Lsn last = 0;
  store.for_each_trouble([&](const Trouble& t) { last = std::max(last, t.lsn); });
  expected = conflicts();
  store.look([&](Fold& fold) {
    CHECK(last == fold.position().last);
    std::string cursor;
    std::vector<Trouble> some;
    while (!fold.troubles(100, cursor, some)) CHECK(some.size() % 100 == 0);
    CHECK(some.size() == expected);
  });
  auto end = end_of(job, "f");
  CHECK(verdict_on(end, known, {}).kind == PeerVerdict::Kind::have &&
        verdict_on(end, known, {}).record == StateVerdict::Record::received);
  end.size = end.sum = 0;
  CHECK(verdict_on(end, known, {}).record == StateVerdict::Record::received);
  store.append({encode_record(end)});
  CHECK(state_now(job.add.id) == State::finished && conflicts() == expected);
  // A job's conflicts are forgotten with the job.
  store.append({encode_record(end_of(make_job({"f"}, "OTHER", late.add.id), "f"))});
  store.append({encode_record(event::Forget{.ids = {job.add.id}, .at = now_ms(), .position = store.end()})});
  CHECK(conflicts() == 1);
}

void claim_fits_into_one_record(const std::string& directory) {
  Queue store = open_store(directory, true);
  Owners owners(store.owners_directory(), 1);
  std::vector<NewJob> jobs;
  for (int i = 0; i < 5000; ++i) jobs.push_back(make_job({"f"}, "x"));
  store.add(jobs);
  ClaimRequest request;
  request.functions = {"f"};
  request.most = 5000;
  request.owner = owners.name();
  auto first = store.claim(request).jobs.size();
  CHECK(first > 0);
  // A claim returns jobs again that the caller has claimed but does not name as held. It returns no job that the caller
  // holds.
  for (const auto& c : store.claim(request).jobs) request.held.insert(c.id);
  CHECK(request.held.size() == first);
  for (const auto& c : store.claim(request).jobs) CHECK(!request.held.count(c.id));
}

// Each job that exists during the whole listing is listed exactly once, however jobs move between the visits.
void a_listing_misses_no_job(const std::string& directory) {
  Queue store = open_store(directory, true);
  Owners owners(store.owners_directory(), 1);
  Owner owner = owners.take();
  std::vector<NewJob> jobs;
  std::map<std::string, int> seen;
  auto add = [&](const std::string& function, const std::string& serial) {
    jobs.push_back(make_job({.function = function, .serial = serial}, "x"));
    seen[jobs.back().add.id] = 0;
  };
  for (int i = 0; i < 6; ++i) add("f", "");
  for (int i = 0; i < 4; ++i) add("s", "one key");
  add("g", "");
  store.add(jobs);
  auto claim = [&](const std::string& function) {
    ClaimRequest request;
    request.functions = {function};
    request.most = 1;
    request.owner = owners.name();
    return store.claim(request).jobs.at(0).id;
  };
  auto start = [&](const std::string& id) { store.append({said<event::Start>(id, owner.name, 1)}); };
  auto fail = [&](const std::string& id, Millis due) {
    store.append({encode_record(event::Fail{.id = id, .at = now_ms(), .owner = owner.name, .start = 1, .due = due})});
  };
  const std::string running = claim("g"), head = claim("s");
  start(running);
  start(head);
  // Each page has one job. Between two pages, a job that was seen as running is queued again; a queued job becomes
  // delayed, claimed or dead; and the next job with a serial key gets its turn, although no record names it.
  size_t visits = 0;
  list_jobs(store, {{}, {}, 1}, [&](const Claim& c) {
    ++seen[c.id];
    if (++visits == 1) {
      fail(running, Millis(0));
      store.append({said<event::Done>(head, owner.name, 1)});
      const std::string late = claim("f");
      start(late);
      fail(late, now_ms() + Millis(3600'000));
    }
    if (visits == 3) {
      const std::string dead = claim("f");
      start(dead);
      store.append({said<event::Dead>(dead, owner.name, 1)});
    }
    return true;
  });
  for (const auto& [id, times] : seen)
    if (id != head) CHECK(times == 1);
  CHECK(seen[head] <= 1);
  visits = 0;
  list_jobs(store, {{"queued"}, {"s"}, 1}, [&](const Claim&) { return ++visits > 0; });
  CHECK(visits == 1);
  visits = 0;
  list_jobs(store, {{"waiting"}, {}, 1}, [&](const Claim&) { return ++visits > 0; });
  CHECK(visits == 2);
}

// Several visits return the same as one visit: the functions, and the candidates for the oldest job.
void several_visits_read_the_same_as_one(const std::string& directory) {
  Queue store = open_store(directory, true);
  std::vector<NewJob> jobs;
  for (int i = 0; i < 300; ++i) {
    Submission asked{.function = "f" + std::to_string(i % 90)};
    if (i % 3 == 0) asked.due = now_ms() + Millis(3600'000);
    jobs.push_back(make_job(asked, "x"));
  }
  store.add(jobs);
  Owners owners(store.owners_directory(), 1);
  CHECK(store.claim({.functions = {"f1"}, .most = 2, .owner = owners.name()}).jobs.size() == 2);
  store.look([&](Fold& fold) {
    const auto in_pages = [](size_t most, auto read) {
      std::vector<std::string> all;
      std::string cursor;
      for (bool last = false; !last;) {
        const size_t before = all.size();
        last = read(most, cursor, all);
        CHECK(all.size() <= before + most);
      }
      return all;
    };
    const auto functions = [&](size_t most, auto& cursor, auto& names) { return fold.functions(most, cursor, names); };
    const auto oldest = [&](size_t most, auto& cursor, auto& ids) { return fold.oldest(most, cursor, ids); };
    for (size_t most : {1, 7, 90}) {
      CHECK(in_pages(most, functions) == fold.functions());
      CHECK(in_pages(most, oldest) == in_pages(SIZE_MAX / 2, oldest));
    }
    CHECK(fold.functions().size() == 90);
    const auto ids = in_pages(7, oldest);
    CHECK(std::find(ids.begin(), ids.end(), jobs.front().add.id) != ids.end());
    // These are 100 delayed jobs, two claimed jobs, and the first queued job of each of 60 functions.
    CHECK(ids.size() == 162);
  });
  // A record of several jobs counts as that many items.
  CHECK(jobs_in(event::Forget{.ids = {"a", "b", "c"}}) == 3 && jobs_in(event::Stream{}) == 1);
}

// Runs a check. Returns the kinds of its findings.
std::string kinds_found(Queue& store) {
  std::string kinds;
  check_store(store, [&](const Finding& f) { kinds += (kinds.empty() ? "" : " ") + std::string(f.kind); });
  return kinds;
}

// A check reports if the index lacks an entry, has an additional entry, or has another value.
void check_compares_the_index(const std::string& directory) {
  const NewJob kept = make_job({"f"}, "x"), other = make_job({"f"}, "y");
  Queue store = open_store(directory, true);
  store.add({kept, other});
  CHECK(kinds_found(store).empty());
  auto with = [&](const std::string& key, const std::optional<std::string>& value) {
    TokyoTable table(store.directory(), "index.tcb");
    auto before = table.get(key);
    if (value) table.put(key, *value);
    else table.remove(key);
    table.close();
    return before;
  };
  for (const auto& [key, value] : {std::pair("j" + kept.add.id, std::optional<std::string>()),
                                   std::pair(std::string("p") + "f", std::optional(std::string(8, 'x'))),
                                   std::pair(std::string("z") + "z", std::optional(std::string(8, 'x')))}) {
    const auto before = with(key, value);
    CHECK(kinds_found(store) == "index");
    with(key, before);
    CHECK(kinds_found(store).empty());
  }
  // A damaged record is reported if the index has its job. The check also reads records that were appended after it
  // began.
  Lsn at = 0;
  store.look([&](Fold& fold) { at = fold.get(kept.add.id)->location; });
  bool has_added = false;
  std::string damaged;
  {
    std::fstream segment(directory + "/journal/" + segment_name(0), std::ios::in | std::ios::out | std::ios::binary);
    segment.seekp(static_cast<std::streamoff>(at) + 2);
    segment.put('\0');
  }
  check_store(
      store,
      [&](const Finding& f) {
        if (!f.id.empty()) damaged += f.id + f.kind;
      },
      [&](const CheckProgress& p) {
        CHECK(p.read <= p.journal);
        if (!std::exchange(has_added, true)) store.add({make_job({"g"}, "z")});
      });
  CHECK(has_added && damaged == kept.add.id + "damage");
}

// What a journal from elsewhere holds may be longer than what gq writes. Whatever gq makes of it still fits into a
// record; and no record is appended that could not be read back.
void appended_records_can_be_read(const std::string& directory) {
  Queue store = open_store(directory, true);
  Owners owners(store.owners_directory(), 1);
  store.dead_letters("f", "g");
  const NewJob job = make_job({"f"}, "x");
  store.add({job});
  store.commit({encode_record(event::Claim{.ids = {job.add.id}, .owner = "A.0"}),
                encode_record(event::Dead{.id = job.add.id, .owner = "A.0", .why = std::string(12'000, '\1')})},
               Room::completion);
  for (int i = 0; i < 3; ++i) store.claim({.functions = {"h"}, .most = 10, .owner = owners.name()});
  const auto letters = store.claim({.functions = {"g"}, .most = 10, .owner = owners.name()}).jobs;
  CHECK(letters.size() == 1);
  for (const auto& letter : letters) {
    std::string reason;
    CHECK(letter.job.size > max_reason_size && letter.job.is_inline() && store.workload(letter.id, letter.job, reason));
  }
  CHECK(kinds_found(store).empty());

  const Lsn end = store.end();
  const std::string data(max_inline_data + 1, 'x');
  try {
    store.append({encode_record(event::Done{.id = job.add.id}, data)}, Room::completion);
    CHECK(false);
  } catch (const Error& e) {
    CHECK(e.code() == Exit::bug);
  }
  CHECK(store.end() == end);
  // Records with which jobs are let go name their owner, too.
  const std::string longest(255, 'o');
  CHECK(parse_record(encode_record(event::Claim{.ids = {job.add.id}, .owner = longest})));
  CHECK(!parse_record(encode_record(event::Claim{.ids = {job.add.id}, .owner = longest + "o"})));
}

// If an index is sealed and up to date, it stays sealed when a reader uses it, however the reader ends.
void reading_leaves_the_seal(const std::string& directory) {
  const std::string seal = directory + "/index.seal";
  {
    Queue store = open_store(directory, true);
    store.add({make_job({"f"}, "x")});
    store.look([](Fold&) {});
  }
  CHECK(file_exists(seal));
  Queue store = open_store(directory, false);
  uint64_t live = 0;
  store.look([&](Fold& fold) { live = fold.counters("f").live(); });
  CHECK(live == 1 && file_exists(seal));
  store.add({make_job({"f"}, "y")});
  store.look([&](Fold& fold) { live = fold.counters("f").live(); });
  CHECK(live == 2 && !file_exists(seal));
  CHECK(kinds_found(store).empty());
  store.look([](Fold& fold) { fold.drop_forgotten("nobody"); });
  store.leave();
  CHECK(file_exists(seal));
  ClaimRequest request;
  Owners owners(store.owners_directory(), 1);
  request.functions = {"f"};
  request.most = 1;
  request.owner = owners.name();
  CHECK(store.claim(request).jobs.size() == 1 && !file_exists(seal));  // from reading to writing in one visit
}

// The list of a snapshot's files needs memory, so only the last one of the listed snapshots has its list.
void old_snapshots_take_no_memory(const std::string& directory) {
  Queue store = open_store(directory + "/store", true);
  for (int i = 0; i < 3; ++i) {
    std::string data(100'000, 'x');
    store.add({make_job({"f"}, data)});
    create_snapshot(store, directory + "/snapshots", {});
  }
  auto all = list_snapshots(directory + "/snapshots", [](const auto&, const auto&) {});
  CHECK(all.size() == 3);
  for (size_t i = 0; i < all.size(); ++i) {
    CHECK(all[i].file_count == i + 3 && all[i].bytes > (i + 1) * 100'000 &&
          all[i].files.size() == (i == 2 ? all[i].file_count : 0));
    CHECK(verify_snapshot(all[i], [](const auto&, const auto&) {}, {}));
  }
}

void records_survive_hostile_bytes() {
  NewJob job = make_job({"f"}, "workload");
  std::string good = job.head + std::string(job.data);
  CHECK(parse_record(good).has_value());
  for (size_t i = 0; i < job.head.size(); ++i)
    for (int bit = 0; bit < 8; ++bit) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ (1 << bit));
      CHECK(!parse_record(bad) && !parse_record_head(bad));
    }
  for (size_t n = 0; n < job.head.size(); ++n)
    CHECK(!parse_record(good.substr(0, n)) && !parse_record_head(good.substr(0, n)));
  std::string reason;
  CHECK(parse_group(good + good, "f", reason).has_value());
  CHECK(!parse_group(good, "g", reason) && !reason.empty());
  reason.clear();
  std::string damaged = good;
  damaged.back() = 'D';
  CHECK(!parse_group(damaged, "f", reason) && !reason.empty());
}

// A record from another journal is invalid if the name of its owner is invalid. No process would find the jobs of such
// an owner, and they would block all others.
void owners_have_names() {
  const std::string id = new_ulid(), name = new_ulid() + ".0";
  for (const std::string& owner : {name, std::string(), std::string("a\0b", 3), name + std::string(1, '\0')}) {
    const bool good = owner == name;
    CHECK(parse_record(encode_record(event::Claim{.ids = {id}, .owner = owner})).has_value() == good);
    CHECK(parse_record(encode_record(event::Start{.id = id, .owner = owner, .start = 1})).has_value() == good);
    CHECK(parse_record(encode_record(event::Fail{.id = id, .owner = owner})).has_value() == good);
    CHECK(parse_record(encode_record(event::Dead{.id = id, .owner = owner})).has_value() == good);
  }
}

// Returns the fields of an event as a line of tests/golden/records.txt.
std::string describe(const Event& event) {
  std::string text(type_of(event));
  std::visit(
      [&]<typename E>(const E& e) {
        E::fields(e, [&]<typename T>(std::string_view key, const T& member, const T& usual = T()) {
          if (member == usual) return;
          text += " " + std::string(key) + "=";
          if constexpr (std::is_same_v<T, std::string>) text += member;
          else if constexpr (std::is_same_v<T, Millis>) text += std::to_string(member.count());
          else if constexpr (std::is_same_v<T, std::vector<std::string>>)
            for (const auto& id : member) text += (&id == &member[0] ? "" : ",") + id;
          else text += std::to_string(member);
        });
      },
      event);
  return text;
}

// Each record that was ever written must stay readable, and must be encoded in the same way.
void record_format_is_stable() {
  const std::string a = "01J0000000000000000000000A", b = "01J0000000000000000000000B",
                    c = "01J0000000000000000000000C", owner = "01J0000000000000000000000D.3";
  const Millis at{1700000000000};
  // Each type with all its fields, under the keys that the programs use.
  std::vector<Event> all = {
      event::Add{.id = a,
                 .at = at,
                 .given = true,
                 .asked = {.function = "resize",
                           .due = Millis(1700000000500),
                           .priority = low_priority,
                           .max_attempts = 70000,
                           .key = "k\xc3\xb6y",
                           .window = Millis(86400000),
                           .serial = "s"},
                 .part = {.source = c, .offset = 5, .length = UINT64_MAX, .sum = 0xfedcba9876543210},
                 .node = "rep_1",
                 .store = b,
                 .copies = 2,
                 .once = true},
      event::Add{.id = a, .asked = {.function = "resize", .serial = "s", .name = "caf\xc3\xa9.jpg"}},
      event::Add{.id = a, .asked = {.function = "resize", .expire = Millis(1700000000500)}},
      event::Dead{.id = a, .at = at, .owner = event::nobody, .spent = false, .why = "expired"},
      event::State{.id = a, .function = "resize", .state = "queued", .lifted = true},
      event::Add{.id = a, .asked = {.function = "resize", .result = true}},
      event::Add{.id = a, .asked = {.function = "resize", .after = 2, .after_any = true}},
      event::Add{.id = a, .asked = {.function = "resize", .after = 2, .parents_sum = 7}, .parents = {b, c}, .met = {c}},
      event::After{.id = a, .at = at, .first = 1000, .ids = {b, c}},
      event::Wake{.id = a, .at = at, .ids = {b, c}, .dropped = true},
      event::Claim{.ids = {a, b, c}, .at = at, .owner = owner},
      event::Start{.id = a, .at = at, .owner = owner, .start = 3},
      event::Done{.id = a, .at = at, .owner = owner, .start = 1, .exit = 0, .signal = 9, .attempts = 24, .keep = true},
      event::Done{.id = a, .output = static_cast<uint32_t>(Kept::no_room)},
      event::Add{.id = a, .given = true, .asked = {.function = "resize"}, .descent = {b, 3}},
      event::Done{.id = b, .start = 3, .children = 10'000},
      event::Dead{.id = a, .owner = owner, .output = static_cast<uint32_t>(Kept::whole)},
      event::Fail{.id = a,
                  .at = at,
                  .owner = owner,
                  .start = 255,
                  .spent = false,
                  .due = Millis(1700000001000),
                  .why = "exit 1",
                  .exit = 1,
                  .signal = 15},
      event::Dead{
          .id = a, .at = at, .owner = owner, .start = 255, .spent = false, .why = "exit 1", .exit = 1, .signal = 15},
      event::Kick{.id = b, .at = at},
      event::Drop{.id = b, .at = at, .attempts = 256},
      event::Keep{.id = b, .at = at},
      event::Release{.id = b, .at = at},
      event::Pause{.function = "resize", .at = at},
      event::Resume{.function = "resize", .at = at},
      event::Pause{.function = "resize", .at = at, .limit = 4},
      event::Resume{.function = "resize", .at = at, .unlimited = true},
      event::Copied{.ids = {a, b}, .at = at, .peers = "rep_2,rep_3", .enough = true},
      event::State{.id = a,
                   .at = at,
                   .function = "resize",
                   .state = "finished",
                   .node = "rep_1",
                   .store = b,
                   .from = "rep_2",
                   .from_store = c,
                   .term = 1,
                   .version = 4294967294,
                   .due = Millis(65536),
                   .starts = 65535,
                   .failures = 2,
                   .crashes = 3,
                   .why = "exit 2",
                   .exit = 2,
                   .signal = 6,
                   .attempts = 7,
                   .keep = true,
                   .dropped = true,
                   .size = 65537,
                   .sum = 18446744073709551614U},
      event::Peer{.node = "rep_2", .store = b, .at = at, .position = UINT64_MAX, .since = 4294967296},
      event::Forget{.ids = {c, b}, .at = at, .position = 1048576},
      Gap{.at = at, .position = 1048576, .since = 16},
      event::Stream{.at = at, .version = 1},
      event::End{.at = at, .jobs = 12},
      event::Counts{.at = at,
                    .mark = 1048576,
                    .last = true,
                    .functions = {"resize 2 1", " 5"},
                    .minutes = {"28333333 4"}},
      event::Add{.id = a, .asked = {.function = "resize"}, .letter = c},
      event::Letter{.function = "resize", .at = at, .to = "mail"},
      event::Cancel{.id = a, .at = at},
      event::State{.id = a, .function = "resize", .state = "queued", .node = "rep_1", .store = b, .cancelled = true},
      event::Add{.id = a, .asked = {.function = "resize"}, .spooled = true},
      event::Rate{.function = "resize", .at = at, .starts = 10, .period = Millis(60000)},
  };
  CHECK(all.size() == std::variant_size_v<Event> + 16);
  std::ifstream in(GQ_GOLDEN "/records.txt");
  size_t lines = 0;
  for (std::string line; std::getline(in, line); ++lines) {
    if (line.starts_with("#")) continue;
    const std::string what = line.substr(0, 4), hex = line.substr(5, line.find(' ', 5) - 5),
                      says = line.substr(6 + hex.size());
    std::string bytes;
    for (size_t i = 0; i < hex.size(); i += 2) bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
    auto record = parse_record(bytes);
    CHECK(record.has_value() == (what != "none") && is_whole_head(bytes));
    if (!record) continue;
    CHECK(describe(record->event) == says);
    const std::string written = std::visit(
        [&](const auto& e) { return encode_record_head(e, record->data_size, record->data_sum); }, record->event);
    auto again = parse_record(written);
    CHECK(again && describe(again->event) == says && (written == bytes) == (what == "both"));
    std::erase_if(all, [&](const Event& event) { return encode_record(event) == bytes; });
  }
  CHECK(lines > 150 && all.empty());
}

// From a client's record on FUNCTION.gq, only the fields that a client may set are kept, each within its limit.
void client_records_are_bounded() {
  const Millis now{1'700'000'000'000};
  // Returns what is kept of a record that `say` has changed; if nothing is kept, sets the reason.
  std::string problem, reason;
  auto kept = [&](auto say, const std::string& why = {}) -> std::optional<event::Add> {
    WithEveryKey<event::Add> crafted{.said = make_job({"f"}, "x").add, .why = why};
    crafted.said.at = now;
    say(crafted.said);
    reason.clear();
    auto jobs = parse_group(encode_record(crafted, "x"), "f", reason);
    if (!jobs) return std::nullopt;
    auto bad = submit(jobs->front(), now);
    problem = bad.value_or("");
    if (bad) return std::nullopt;
    auto record = parse_record(jobs->front().head);
    auto* add = record ? std::get_if<event::Add>(&record->event) : nullptr;
    CHECK(add && record->head_size == jobs->front().head.size() && describe(*add) == describe(jobs->front().add) &&
          add->id == crafted.said.id);
    return *add;
  };
  // Fields that only a node may set.
  using Add = event::Add;
  for (auto say : {+[](Add& a) { a.once = true; }, +[](Add& a) { a.copies = 5; }, +[](Add& a) { a.letter = a.id; },
                   +[](Add& a) { a.node = "rep_1", a.store = new_ulid(); }}) {
    auto add = kept(say);
    CHECK(add && !add->once && add->copies == 0 && add->node.empty() && add->store.empty() && add->letter.empty());
  }
  Add good{.at = now - Millis(9),
           .given = true,
           .asked = {.function = "f",
                     .due = now + Millis(1),
                     .priority = high_priority,
                     .max_attempts = 7,
                     .key = "k",
                     .window = Millis(5),
                     .serial = "s",
                     .name = "x.jpg",
                     .expire = now + Millis(2),
                     .result = true}};
  auto add = kept([&](Add& a) { good.id = a.id, a = good; });
  CHECK(add && describe(*add) == describe(good));
  add = kept([&](Add& a) { a.at = now + Millis(1); });
  CHECK(add && add->at == now);
  for (const char* name : {"a/b", "/", ".", "..", "a\nb", "\xff"})
    CHECK(!kept([&](Add& a) { a.asked.name = name; }) && name_problem(name));
  for (const char* name : {"-", "...", "a b"}) CHECK(kept([&](Add& a) { a.asked.name = name; }) && !name_problem(name));
  // No client can send a child: it becomes a job of its own.
  CHECK(!kept([](Add& a) { a.descent = {new_ulid(), 1}; }));
  Add child = make_job({"f"}, "x").add;
  child.descent = {new_ulid(), 1};
  reason.clear();
  auto sent = parse_group(encode_record(child, "x"), "f", reason);
  CHECK(sent && !submit(sent->front(), now) && sent->front().add.descent.parent.empty());
  auto nothing = [](Add&) {};
  CHECK(kept(nothing, std::string(7000, 'y')) && !kept(nothing, std::string(9000, 'y')) &&
        problem.find("8 KiB") != std::string::npos);
  CHECK(kept([](Add& a) { a.asked.window = longest_window; }) &&
        !kept([](Add& a) { a.asked.window = longest_window + Millis(1); }));
  CHECK(kept([&](Add& a) { a.asked.expire = now + longest_wait; }) &&
        !kept([&](Add& a) { a.asked.expire = now + longest_wait + Millis(1); }));
  CHECK(kept([](Add& a) { a.asked.due = last_time; }) && !kept([](Add& a) { a.asked.due = last_time + Millis(1); }));
  CHECK(kept([](Add& a) { a.asked.max_attempts = most_attempts; }) &&
        !kept([](Add& a) { a.asked.max_attempts = most_attempts + 1; }));
}

// A parsed record is within its limits, whatever program wrote it, so that a node has room to add its own fields.
void parsed_records_can_be_written() {
  const std::string why(65000, 'y');
  auto read = [&](const auto& every, auto look) {
    auto record = parse_record(encode_record(every));
    CHECK(record && record->event.index() == Event(every.said).index());
    auto& event = std::get<std::remove_cvref_t<decltype(every.said)>>(record->event);
    look(event);
    event.node = "rep_1";
    event.store = new_ulid();
    auto again = parse_record(encode_record(record->event));
    CHECK(again && again->head_size < 5000 && describe(again->event) == describe(record->event));
  };
  event::Add add{
      .id = new_ulid(),
      .asked = {.function = "x", .due = Millis(7), .max_attempts = 7, .key = "x", .window = Millis(7), .serial = "x"},
      .copies = 7,
      .once = true};
  read(WithEveryKey<event::Add>{.said = add, .why = why},
       [&](const event::Add& a) { CHECK(describe(a) == describe(add)); });
  event::State state{.id = new_ulid(),
                     .function = "x",
                     .state = "dead",
                     .from = "x",
                     .from_store = "x",
                     .term = 7,
                     .version = 7,
                     .due = Millis(7),
                     .starts = 7,
                     .failures = 7,
                     .crashes = 7,
                     .why = why,
                     .exit = 7,
                     .signal = 7,
                     .attempts = 7,
                     .keep = true,
                     .dropped = true};
  read(WithEveryKey<event::State>{.said = state},
       [&](const event::State& s) { CHECK(s.function == "x" && s.why.size() == max_reason_size); });
  std::string text(4095, 'x');
  limit_reason(text += "\u20ac");
  CHECK(text == std::string(4095, 'x'));  // nothing is cut within a character
}

// A small record may refer to a large part of another job's workload. The total size of these parts in one delivery is
// limited.
void references_grow_to_a_bound(const std::string& directory) {
  Queue store = open_store(directory, true);
  std::string data(max_inline_data, 'x');
  NewJob source = make_job({"f"}, data);
  store.add({source});
  std::vector<NewJob> jobs;
  for (int i = 0; i < 600; ++i)
    jobs.push_back(make_job({"f"}, {}, {}, {.source = source.add.id, .length = to_the_end}));
  auto answers = resolve(store, jobs);
  size_t refused = 0;
  for (size_t i = 0; i < jobs.size(); ++i) {
    refused += answers[i].has_value();
    CHECK(answers[i] ? i >= 512 && answers[i]->outcome == Outcome::refused : jobs[i].data.size() == max_inline_data);
  }
  CHECK(refused == 600 - 512);
  // If the source is in a blob, each part is read for its sum.
  constexpr uint64_t blob_size = 70 << 20;
  data.assign(blob_size, 'x');
  NewJob large = make_job({"f"}, data);
  CHECK(store.add({large})[0].outcome == Outcome::queued);
  jobs.clear();
  for (const uint64_t length : {blob_size, blob_size - 1, blob_size - 1, blob_size - 1, blob_size - 1, uint64_t{1}})
    jobs.push_back(make_job({"f"}, {}, {}, {.source = large.add.id, .length = length}));
  answers = resolve(store, jobs);
  for (size_t i = 0; i < jobs.size(); ++i)
    CHECK(answers[i].has_value() == (i == 4) && (i == 4 || jobs[i].add.part.sum != 0));
  CHECK(jobs[0].add.part.sum == large.data_sum && answers[4]->outcome == Outcome::refused);
  PartsCost cost;
  CHECK(cost.add(0, 1ULL << 40) && !cost.add(0, 1) && cost.add(0, 0) && cost.add(PartsCost::most_copied, 0) &&
        !cost.add(1, 0) && !cost.add(UINT64_MAX, UINT64_MAX));
}

// Two large workloads have one ID, and the first job is queued together with the second or by another process. Only the
// second job is not queued (conflict or unknown), and the reason is not a lack of room.
void an_id_twice_is_no_lack_of_room(const std::string& directory) {
  Queue store = open_store(directory, true);
  const std::string data(max_inline_data + 1, 'x'), other(max_inline_data + 1, 'y');
  const NewJob first = make_job({"f"}, data);
  NewJob second = first;
  second.data = other, second.data_sum = sum64(other), second.encode();
  const auto answers = store.add({first, second});
  CHECK(answers[0].outcome == Outcome::queued && answers[1].outcome == Outcome::conflict);
  const NewJob late = make_job({"f"}, data);
  const Fd held =
      store.directory().below(blobs_name).make_below(blob_part(late.add.id)).open(late.add.id, O_RDWR | O_CREAT);
  write_all_at(held.get(), other, 0, "a blob");
  const FileLock lock(held.get(), FileLock::Mode::shared);
  const auto answer = store.add({late, make_job({"f"}, "x")});
  CHECK(answer[0].outcome == Outcome::unknown && answer[0].reason.find("being queued") != std::string::npos);
  CHECK(answer[1].outcome == Outcome::queued);
}

// However many jobs are after one that has ended, other jobs need not wait until all of them are woken.
void jobs_are_woken_by_and_by(const std::string& directory) {
  Queue store = open_store(directory, true);
  const NewJob parent = make_job({.function = "f"}, "parent");
  std::vector<NewJob> children;
  for (int i = 0; i < 1500; ++i) {
    children.push_back(make_job({.function = "g", .due = now_ms() + Millis(3600'000), .after = 1}, "child"));
    children.back().parents = {parent.add.id};
  }
  store.add({parent});
  store.add(children);
  store.change(Change::drop, {parent.add.id});
  store.add({make_job({.function = "h"}, "other")});
  Owners owners(store.owners_directory(), 1);
  const ClaimRequest request{.functions = {"h"}, .most = 1, .owner = owners.name()};
  const auto waiting = [&] {
    uint64_t n = 0;
    store.look([&](Fold& fold) { n = fold.counters("g").jobs[static_cast<size_t>(State::waiting)]; });
    return n;
  };
  CHECK(waiting() == 1500);
  const Claims first = store.claim(request);
  CHECK(first.jobs.size() == 1 && first.again && waiting() == 500);
  int claims = 1;
  while (store.claim(request).again && ++claims < 5) continue;
  CHECK(claims == 2 && waiting() == 0);
}

// Of many jobs with one key that have expired when they come, one takes the key of a job before. They do not take it
// from each other: that would be several syncs for each of them.
void a_key_is_freed_once_for_a_group(const std::string& directory) {
  Queue store = open_store(directory, true);
  const auto make = [] { return make_job({.function = "f", .key = "k", .expire = Millis(1)}, "x"); };
  CHECK(store.add({make()})[0].outcome == Outcome::queued);
  const auto answers = store.add({make(), make(), make()});
  CHECK(answers[0].outcome == Outcome::queued);
  CHECK(answers[1].outcome == Outcome::unknown && answers[2].outcome == Outcome::unknown);
}

// The index fails after the records of a claim were appended, and is rebuilt. The claim appends them only once, and
// returns each job, and each job that has expired.
void a_claim_is_not_chosen_twice(const std::string& directory) {
  struct Failing final : IndexTable {
    explicit Failing(std::unique_ptr<IndexTable> all, bool& fails) : table(std::move(all)), fails_once(fails) {}
    std::optional<std::string> get(std::string_view key) override { return table->get(key); }
    void put(std::string_view key, std::string_view value) override {
      if (key[0] == 'x' && std::exchange(fails_once, false)) throw TableError("a test");
      table->put(key, value);
    }
    void remove(std::string_view key) override { table->remove(key); }
    void commit() override { table->commit(); }
    std::unique_ptr<Cursor> walk(std::string_view from) override { return table->walk(from); }
    uint64_t count() const override { return table->count(); }
    uint64_t file_size() const override { return table->file_size(); }
    void close() override { table->close(); }
    std::unique_ptr<IndexTable> table;
    bool& fails_once;
  };
  bool fails_once = false;
  use_tables([&](const Directory& place, const std::string& name, IndexTable::Use use, auto before_write) {
    return std::make_unique<Failing>(std::make_unique<TokyoTable>(place, name, use, before_write), fails_once);
  });
  {
    Queue store = open_store(directory, true);
    std::vector<NewJob> jobs{make_job({.function = "f", .expire = Millis(1)}, "x")};
    for (int i = 0; i < 3; ++i) jobs.push_back(make_job({"f"}, "x"));
    store.add(jobs);
    const Lsn before = store.end();
    fails_once = true;
    Owners owners(store.owners_directory(), 1);
    const Claims claims = store.claim({.functions = {"f"}, .most = 2, .owner = owners.name()});
    CHECK(!fails_once && claims.jobs.size() == 2 && claims.expired == std::vector{jobs[0].add.id});
    EventReader reader = store.read(before);
    size_t records = 0;
    while (reader.next() != JournalReader::Item::end) ++records;
    CHECK(records == 2);
  }
  use_tables({});
}

void one_bad_record_does_not_block_a_group() {
  std::string payload, result;
  std::vector<std::string> ids, said;
  for (int i = 0; i < 3; ++i) {
    NewJob job = make_job({"f"}, "x");
    ids.push_back(job.add.id);
    payload += job.head + "x";
  }
  auto take = [&](Exit code) {
    return answer_group(
        payload,
        [&](std::string_view part) {
          std::string answers, reason;
          const auto jobs = parse_group(part, "f", reason);
          for (const auto& job : *jobs) {
            if (job.add.id == ids[1]) throw Error(code, "no");
            answers += encode_answer(job.add.id, {Outcome::queued, {}, 0});
          }
          return answers;
        },
        [&](const std::string& why) { said.push_back(why); });
  };
  CHECK(take(Exit::bug) == "queued " + ids[0] + "\nbad " + ids[1] + " no\nqueued " + ids[2] + "\n");
  CHECK(said == std::vector<std::string>{"no"});
  bool thrown = false;
  try {
    take(Exit::storage);  // the store is at fault, not the record
  } catch (const Error&) {
    thrown = true;
  }
  CHECK(thrown);
}

void small_values() {
  CHECK(parse_duration("1.5s") == Millis(1500) && parse_duration("2h") == Millis(7200000));
  CHECK(!parse_duration("") && !parse_duration("-1") && !parse_duration("1x") && !parse_duration("99999999999d"));
  CHECK(parse_size("64K") == 65536 && parse_size("1GiB") == 1u << 30 && !parse_size("99999999999T") &&
        !parse_size("K"));
  CHECK(parse_servers("[::1]:4731,host")->at(0).port == 4731 && parse_servers("[::1]:4731,host")->at(0).host == "::1");
  for (const char* bad : {"", ",", "a:", "a:0", "a:65536", "[::1", "a b", ":1"}) CHECK(!parse_servers(bad));
  CHECK(is_utf8("\xc3\xa4") && !is_utf8("\xc3") && !is_utf8("\xed\xa0\x80") && !is_utf8("\xc0\x80"));
  std::string one = new_ulid(), two = new_ulid();
  CHECK(one < two && parse_ulid("01arz3ndektsv4rrffq69g5fav") && !parse_ulid("81ARZ3NDEKTSV4RRFFQ69G5FAV"));
  // Many are of one millisecond. They are in order, and whoever knows one cannot guess the next.
  for (int i = 0; i < 10000; ++i) {
    one = std::exchange(two, new_ulid());
    CHECK(one < two && one.substr(0, 22) != two.substr(0, 22));
  }
  CHECK(ulid_time("01ARZ3NDEKTSV4RRFFQ69G5FAV") == Millis(1469922850259) &&
        now_ms() - ulid_time(two) < Millis(600'000));
  for (const std::string& name :
       {"tmp." + one, "tmp." + one + ".18446744073709551615", "tmp." + one + ".wal", std::string("tmp.restoring")})
    CHECK(is_temporary_name(name));
  for (const std::string& name : {std::string("tmp."), std::string("tmp.kL3v9wQxYz"), "tmp." + one + "x",
                                  "tmp." + one + ".", "tmp." + one + ".x", one, "Tmp." + one})
    CHECK(!is_temporary_name(name));
}

void merged_jobs_are_known() {
  using namespace std::string_literals;
  std::string known =
                  "\0RES\0\0\0\x2a\0\0\0\x0bu\0"
                  "1\0"
                  "1\0"
                  "0\0"
                  "0\0"
                  "3"s,
              echo = "\0RES\0\0\0\x11\0\0\0\2gq"s;
  for (size_t n = 0; n < known.size(); ++n)
    CHECK(!parse_client_count(known.substr(0, n)).clients && !parse_client_count(known.substr(0, n)).bad);
  CHECK(parse_client_count(known).clients == 3u && !parse_client_count(known).echo);
  CHECK(parse_client_count(known + echo).clients == 3u && parse_client_count(known + echo).echo);
  CHECK(!parse_client_count(echo).clients && parse_client_count(echo).echo);
  CHECK(parse_client_count("HTTP/1.1 400 Bad Request").bad && parse_client_count("\0RES\0\0\0\x2a\x7f\0\0\0"s).bad);
  CHECK(is_made_of_payload("-", "f", "x") && is_made_of_payload("x", "f", "x") && !is_made_of_payload("y", "f", "x"));
  // SHA-1 of "abc", and of a text whose length field needs an additional block.
  CHECK(is_made_of_payload("a9993e364706816aba3e25717850c26c9cd0d89d", "a", "bc") &&
        !is_made_of_payload("a9993e364706816aba3e25717850c26c9cd0d89d", "a", "bd"));
  CHECK(is_made_of_payload("84983e441c3bd26ebaae4aa1f95129e5e54670f1", "abcdbcdecdefdefgefgh",
                           "fghighijhijkijkljklmklmnlmnomnopnopq"));
}

void raw_jobs_are_decided() {
  CHECK(next_raw_step(Outcome::queued, false) == RawStep::answer &&
        next_raw_step(Outcome::queued, true) == RawStep::answer);
  CHECK(next_raw_step(Outcome::same, true) == RawStep::answer &&
        next_raw_step(Outcome::conflict, false) == RawStep::answer &&
        next_raw_step(Outcome::bad, false) == RawStep::give_back);
  CHECK(next_raw_step(Outcome::unknown, false) == RawStep::again &&
        next_raw_step(Outcome::unknown, true) == RawStep::again);
  CHECK(next_raw_step(Outcome::refused, false) == RawStep::give_back &&
        next_raw_step(Outcome::refused, true) == RawStep::again);
  // Receivers are added when all of them have been busy with the same jobs.
  CHECK(are_stuck({2, 1, 7}, {2, 2, 7}) && !are_stuck({2, 2, 6}, {2, 2, 7}) && !are_stuck({2, 1, 7}, {2, 1, 7}) &&
        !are_stuck({0, 0, 0}, {0, 0, 0}));
}

// A stream of packets is accepted in pieces of any size, up to the first byte that gearmand never sends.
void packets_are_checked() {
  auto packet = [](uint32_t command, const std::string& body) {
    std::string p("\0RES", 4);
    for (uint32_t value : {command, static_cast<uint32_t>(body.size())})
      for (int shift = 24; shift >= 0; shift -= 8) p += static_cast<char>(value >> shift);
    return p + body;
  };
  auto passes = [](const std::string& stream, size_t piece, uint32_t most = 1 << 20) {
    PacketCheck check(most);
    for (size_t at = 0; at < stream.size(); at += piece)
      if (!check.feed(stream.data() + at, std::min(piece, stream.size() - at))) return false;
    return true;
  };
  using namespace std::string_literals;
  std::string good = packet(6, "") + packet(8, "H:host:1") + packet(10, "") +
                     packet(31, "H:host:1\0f\0unique\0da\0ta"s) + packet(13, "H:host:1\0"s) + packet(17, "gq") +
                     packet(17, "") + packet(19, "ERR\0text"s) + packet(13, "H:host:1\0"s + std::string(100000, 'x')) +
                     packet(14, "H:host:2");
  for (size_t piece : {1, 2, 3, 7, 12, 13, 1000, 1000000}) CHECK(passes(good, piece));
  const std::string bad[] = {"HTTP/1.1 400 Bad Request\r\n",
                             "\0REQ"s + packet(6, "").substr(4),
                             packet(0, ""),
                             packet(7, "f\0u\0"s),
                             packet(1000, ""),
                             packet(40, "H:host:1\0f\0unique\0reducer\0data"s),  // no client of gq asks for this packet
                             packet(6, "x"),
                             packet(31, "H:host:1\0f\0unique"s),
                             packet(13, "H:host:1"),
                             packet(13, ""),
                             packet(14, ""),
                             packet(14, std::string(65, 'H')),
                             packet(25, "H\0"s),
                             packet(13, std::string(65, 'H') + '\0'),
                             packet(14, std::string(10000, 'H'))};
  for (const auto& b : bad)
    for (size_t piece : {1, 5, 1000}) CHECK(!passes(good + b, piece) && !passes(b, piece));
  // A packet that is too long is recognised by its header. Only the packet of a job may have any length.
  CHECK(passes(good, 1000, 100009) && !passes(good, 1000, 100008));
  for (uint32_t command : {13u, 17u, 25u, 28u, 29u, 19u, 14u, 8u}) {
    PacketCheck check;
    const std::string head = packet(command, std::string(most_data + 1, 'x')).substr(0, 12);
    CHECK(check.feed(head.data(), 11) && !check.is_too_long() && !check.feed(head.data() + 11, 1) &&
          check.is_too_long() == (command != 25));
  }
}

// Jobs get memory in the order of their requests.
void room_is_given_in_turn() {
  WorkloadRoom room;
  room.grow_to(100);
  room.grow_to(10);
  int a = 0, b = 0, c = 0, d = 0, server = 0;
  auto take = [&](const int& who, uint64_t size) { return room.take(&who, &server, size, {}); };
  CHECK(take(a, 60) && !take(b, 100) && !take(c, 10) && !take(c, 10));  // small jobs wait after a large one
  room.give_back(60);
  CHECK(!take(c, 10) && take(b, 100) && !take(c, 10) && !take(d, 20));
  room.give_back(100);
  CHECK(!take(d, 20) && take(c, 10) && take(d, 20) && take(a, 70) && !take(b, 1));
  room.leave(&b);
  room.give_back(70);
  CHECK(take(c, 70));
}

// The servers take turns, however many requests of one server wait. For a while, a server that was too slow comes last.
void no_server_has_all_the_room() {
  using namespace std::chrono_literals;
  WorkloadRoom room;
  room.grow_to(100);
  const WorkloadRoom::Time now{};
  int slow = 0, good = 0, s[4] = {}, g[4] = {};
  auto from = [&](const int& server, const int& who, uint64_t size, std::chrono::seconds at = 0s) {
    return room.take(&who, &server, size, now + at);
  };
  CHECK(from(slow, s[0], 100) && !from(slow, s[1], 100) && !room.keeps_waiting_others_than(&slow) &&
        room.keeps_waiting_others_than(&good));
  CHECK(!from(slow, s[2], 100) && !from(good, g[0], 1) && !from(good, g[1], 100) &&
        room.keeps_waiting_others_than(&slow));
  room.give_back(100);
  CHECK(!from(slow, s[1], 100) && from(good, g[0], 1) && !from(good, g[1], 100) && !from(slow, s[1], 100));
  room.give_back(1);
  CHECK(!from(good, g[1], 100) && from(slow, s[1], 100));
  room.put_off(&slow, now + 60s);
  room.give_back(100);
  CHECK(!from(slow, s[2], 1, 1s) && from(good, g[1], 50, 1s) && from(good, g[0], 40, 2s) && from(slow, s[2], 1, 2s) &&
        !from(slow, s[0], 50, 3s) && from(good, g[2], 9, 3s));
  room.give_back(9);
  CHECK(!from(good, g[2], 50, 59s) && !from(slow, s[0], 9, 59s) && from(slow, s[0], 9, 60s));
}

// A workload is slow if too little of it came in the last few seconds, at its beginning or at its end.
void slow_workloads_are_recognized() {
  const Flow::Time now{};
  auto ms = [&](int n) { return now + Millis(n); };
  Flow drips(now), flows(now), stalls(now);
  for (int t = 0; t < 9000; t += 500) CHECK(drips.is_slow(static_cast<uint64_t>(t) / 500, 1000, ms(t)) == (t >= 3000));
  for (int t = 0; t < 9000; t += 50) CHECK(!flows.is_slow(static_cast<uint64_t>(t), 1000, ms(t)));
  CHECK(!stalls.is_slow(1'000'000, 1000, ms(100)) && !stalls.is_slow(1'000'000, 1000, ms(3000)) &&
        stalls.is_slow(1'000'000, 1000, ms(6000)) && stalls.is_slow(2'000'000, 1000, ms(8999)) &&
        !stalls.is_slow(2'000'000, 1000, ms(9000)));
}

// A wait ends if the server is silent for long. If the program stops, only answers that have already come are read.
void silent_servers_are_given_up() {
  using namespace std::chrono_literals;
  using enum ServerWait::Way;
  auto hopeless = [](ServerWait::Way way, bool waits, std::chrono::seconds waited,
                     std::optional<std::chrono::seconds> stops = {}) {
    const ServerWait::Time now{1h};
    return is_hopeless({way, waits, now - waited, now, {}}, stops ? std::optional(now - *stops) : std::nullopt);
  };
  for (auto way : {in, out})
    CHECK(!hopeless(way, true, 0s) && !hopeless(way, true, 29s) && hopeless(way, true, 30s) &&
          !hopeless(way, false, 30s));
  CHECK(hopeless(in, true, 0s, 0s) && hopeless(in, false, 0s, 0s) && !hopeless(out, true, 0s, 0s) &&
        hopeless(out, true, 0s, 1s));
}

// A large answer is sent from its file. A server that takes it too slowly gets only a part.
void answers_are_sent_from_files(const std::string& path) {
  std::string content;
  for (int i = 0; i < 600'000; ++i) content += static_cast<char>(i % 251);
  Fd file = open_file(path, O_RDWR | O_CREAT);
  write_all_at(file.get(), content + "more", 0, path);
  auto send = [&](Millis limit, bool is_taken) {
    int ends[2];
    CHECK(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    Fd own(ends[0]), other(ends[1]);
    bool sent = false;
    std::thread sender([&] {
      wait_for_servers([](const ServerWait&) { return false; });
      sent = send_answer(own.get(), "H:x:1", file.get(), content.size(), limit);
      own.reset();
    });
    std::string got;
    char piece[65536];
    if (!is_taken) sender.join();
    for (ssize_t n; (n = ::read(other.get(), piece, sizeof piece)) > 0;) got.append(piece, static_cast<size_t>(n));
    other.reset();
    if (is_taken) sender.join();
    return std::pair(sent, got);
  };
  const auto whole = request_packet(GEARMAN_COMMAND_WORK_COMPLETE, std::string("H:x:1") + '\0' + content);
  CHECK(send(std::chrono::seconds(60), true) == std::pair(true, whole));
  const auto [sent, part] = send(Millis(300), false);
  CHECK(!sent && part.size() < whole.size() && whole.starts_with(part));
}

// The size of a job is known before its workload has come.
void job_sizes_are_known_before_workloads() {
  using namespace std::string_literals;
  auto packet = [](uint32_t command, uint32_t size, const std::string& body) {
    std::string p("\0RES", 4);
    for (uint32_t value : {command, size})
      for (int shift = 24; shift >= 0; shift -= 8) p += static_cast<char>(value >> shift);
    return p + body;
  };
  for (uint32_t command : {11u, 31u}) {
    const std::string args = command == 11 ? "H:host:1\0f.gq\0"s : "H:host:1\0f.gq\0unique\0"s;
    const std::string head = packet(6, 0, "") + packet(command, static_cast<uint32_t>(args.size()) + 300'000'000, args);
    for (size_t pace : {size_t{1}, size_t{5}, head.size()}) {
      PacketCheck check;
      for (size_t at = 0; at < head.size(); at += pace) {
        CHECK(!check.take_job() && !check.workload_left());
        CHECK(check.feed(head.data() + at, std::min(pace, head.size() - at)));
      }
      CHECK(check.workload_left() == 300'000'000 && check.feed("xyz", 3) && check.workload_left() == 299'999'997);
      auto job = check.take_job();
      CHECK(job && job->handle == "H:host:1" && job->function == "f.gq" && job->size == 300'000'000 &&
            !check.take_job());
    }
  }
  CHECK(request_packet(14, "H:1") == "\0REQ\0\0\0\x0e\0\0\0\x03H:1"s);
}

void repeated_messages_do_not_fill_the_log() {
  LogLimit limit;
  const LogLimit::Time now{};
  auto at = [&](int seconds) { return limit.admit("kind", now + std::chrono::seconds(seconds)); };
  CHECK(at(0) == "" && !at(1) && !at(59) && at(60).value_or("").find("2 more") != std::string::npos && !at(61) &&
        limit.admit("other", now) == "");
  for (int i = 0; i < 1000; ++i) limit.admit(std::to_string(i), now);
  // Further kinds of messages are left out for a while, so that they need no more memory.
  CHECK(!limit.admit("1000", now));
  CHECK(limit.admit("1001", now + std::chrono::seconds(100)) == "");
  LogLimit other;
  for (int i = 0; i < 5; ++i) other.admit(i < 4 ? "a" : "b", now);
  CHECK(other.take_left_out() == (std::map<std::string, uint64_t>{{"a", 3}}) && other.take_left_out().empty());
  CHECK(kind_of("the job 01ARZ3NDEKTSV4RRFFQ69G5FAV has 17 bytes") == kind_of("the job 1 has 2 bytes") &&
        kind_of("a") != kind_of("b"));
}

// Transfers between nodes: they are accepted only from a node with a key, each transfer is accepted once, and an answer
// must belong to its question.
void transfers_are_checked(const std::string& directory) {
  auto key = [&](const char* name, char digit, char second) {
    std::string path = directory + "/" + name;
    Directory(directory).publish(name, std::string(64, digit) + "\n" + (second ? std::string(64, second) + "\n" : ""),
                                 true);
    return Keys(path);
  };
  Keys a = key("key.a", '1', 0), b = key("key.b", '2', 0), both = key("key.both", '2', '1'), none;
  std::string me = new_ulid(), other = new_ulid(), reason;
  Transfer t{"take", "rep_1:all", "rep_1", me, "rep_2", new_ulid(), "-", 7, {}, {}};
  std::string sent = encode_transfer(t, "body", a);
  auto heard = parse_transfer(sent, both, reason);
  CHECK(heard && heard->body == "body" && heard->number == 7 && heard->store == me);
  CHECK(!parse_transfer(sent, b, reason) && !parse_transfer(sent, none, reason));
  CHECK(!parse_transfer(encode_transfer(t, "body", none), a, reason));
  for (size_t i = 0; i < sent.size(); ++i) {
    std::string altered = sent;
    altered[i] ^= 1;
    CHECK(!parse_transfer(altered, a, reason));
  }
  Reply r{"rep_2", other, new_ulid(), "have\n"};
  std::string answer = encode_reply(r, heard->line, a);
  CHECK(parse_reply(answer, heard->line, both) && !parse_reply(answer, "another line", a) &&
        !parse_reply(answer, heard->line, b));
  ReplayGuard guard;
  CHECK(guard.is_new("s", 1) && !guard.is_new("s", 1) && guard.is_new("s", 3) && guard.is_new("s", 2) &&
        !guard.is_new("s", 2));
  CHECK(guard.is_new("s", 100) && !guard.is_new("s", 36) && guard.is_new("s", 37) && !guard.is_new("s", 3) &&
        guard.is_new("t", 3));
}

// A signed transfer that was delayed is accepted only within two periods, and only once.
void sessions_end() {
  using V = Sessions::Verdict;
  const Millis s{1000};
  Sessions sessions(10 * s);
  const std::string first = sessions.current(s);
  CHECK(sessions.current(10 * s) == first && sessions.take(first, "a", 1, 10 * s) == V::taken &&
        sessions.take("other", "a", 2, 10 * s) == V::unknown);
  const std::string second = sessions.current(11 * s);  // the call is late, but the first session ends in time
  CHECK(second != first && sessions.take(second, "a", 3, 12 * s) == V::taken);
  CHECK(sessions.take(first, "a", 1, 20 * s) == V::repeated && sessions.take(first, "a", 2, 20 * s) == V::taken &&
        sessions.current(20 * s) == second);
  CHECK(sessions.take(first, "a", 4, 21 * s) == V::unknown && sessions.current(21 * s) != second);
  CHECK(sessions.take(second, "a", 3, 30 * s) == V::repeated && sessions.take(second, "a", 5, 31 * s) == V::unknown);
  // No transfer came for a long time.
  const std::string last = sessions.current(40 * s);
  CHECK(sessions.take(last, "a", 1, 60 * s) == V::unknown);
  // The period is shorter from now on.
  const std::string longer = sessions.current(61 * s);
  sessions.set_period(s);
  CHECK(sessions.take(longer, "a", 1, 63 * s) == V::unknown);
  // When the guard of the session is full, the next session begins, and this one ends.
  const std::string full = sessions.current(64 * s);
  for (int i = 0; i < 10000; ++i) CHECK(sessions.take(full, std::to_string(i), 1, 64 * s) == V::taken);
  CHECK(sessions.take(full, "0", 2, 64 * s) == V::unknown && sessions.current(64 * s) != full);
  Sessions endless(Millis::max());
  const std::string one = endless.current(Millis(0));
  CHECK(endless.current(Millis::max() - s) == one);
  CHECK(session_period(24 * 3600 * s, 5 * s) == 6 * 3600 * s && session_period(4 * s, 5 * s) == 10 * s);
}

// For which jobs an answer to a client must wait until other nodes are known to have them.
void copies_are_counted_before_an_answer() {
  const Self self{"rep_1", new_ulid()};
  gq::Job job;
  job.copies = 3;
  auto count = [&](State state, const std::string& node, const std::string& store, uint32_t once) {
    job.state = state, job.node = node, job.store = store, job.once = once;
    return copies_to_count(job, self, false, 4);
  };
  const std::string other = new_ulid();
  for (uint32_t once : {0, 1}) {
    job.version = 0;
    CHECK(count(State::queued, "", "", once) == 0);
    CHECK(count(State::pending, "rep_1", self.store, once) == 3);
    for (State s : {State::queued, State::running, State::dead, State::finished})
      CHECK(count(s, "rep_1", self.store, once) == 0);
    CHECK(count(once ? State::held : State::queued, "rep_2", other, once) == 3);
    CHECK(count(once ? State::held : State::queued, "rep_1", other, once) ==
          3);  // the job belonged to this node before it was set up again
    job.version = 1;
    CHECK(count(once ? State::held : State::delayed, "rep_2", other, once) == (once ? 0u : 3u));
    CHECK(count(State::finished, "rep_2", other, once) == 0);
  }
  // A job that was taken over may not have had all its copies before.
  job.term = 1, job.copies = 0;
  CHECK(count(State::queued, "rep_1", self.store, 1) == 4 && count(State::held, "rep_2", other, 1) == 4);
  CHECK(count(State::finished, "rep_1", self.store, 1) == 0 && count(State::queued, "rep_1", self.store, 0) == 0);
}

// The answer to a client whose job has to be on three nodes.
void a_quorum_counts_identities() {
  using Kind = PeerVerdict::Kind;
  const Self self{"rep_1", new_ulid()};
  const std::string id = new_ulid(), first = new_ulid(), second = new_ulid(), third = new_ulid();
  Quorum::Others others{{{"rep_2", first}, {"rep_3", second}}, 2};
  const Quorum::Time begun{};
  const Millis timeout{1000};
  auto begin = [&](Quorum& quorum, bool later) {
    auto append = std::get<Quorum::Append>(quorum.next(begun, others));
    CHECK(append.then_send == !later);
    if (!later) CHECK(quorum.to_send({0}).numbers == std::vector<size_t>{0});
    quorum.stored({{Outcome::queued}}, {std::nullopt});
    if (later) CHECK(std::get<Quorum::Send>(quorum.next(begun, others)).numbers == std::vector<size_t>{0});
    quorum.sent(2, begun);
    CHECK(std::get<Quorum::Wait>(quorum.next(begun, others)).until == begun + timeout);
  };
  auto end = [&](Quorum& quorum, Quorum::Time now) {
    auto effect = quorum.next(now, others);
    if (std::holds_alternative<Quorum::Record>(effect)) quorum.recorded(true), effect = quorum.next(now, others);
    return std::get<Quorum::Reply>(effect);
  };
  for (bool later : {false, true}) {
    Quorum quorum({3, false, true, timeout}, self, {{id, later}});
    begin(quorum, later);
    quorum.answered(0, "rep_2", first, {Kind::have});
    quorum.ended();
    CHECK(std::holds_alternative<Quorum::Wait>(quorum.next(begun, others)));
    quorum.answered(0, "rep_3", second, {Kind::have});
    quorum.ended();
    auto record = std::get<Quorum::Record>(quorum.next(begun, others));
    CHECK(!record.commit && record.copied.size() == 1 && record.copied[0].peers == "rep_2,rep_3");
    quorum.recorded(true);
    auto reply = std::get<Quorum::Reply>(quorum.next(begun, others));
    CHECK(reply.counted && reply.answers[0].outcome == Outcome::queued && reply.answers[0].note.empty());
  }
  // A node with a new identity does not count, and a node that answers twice counts once.
  for (bool owe : {false, true}) {
    Quorum quorum({3, owe, true, timeout}, self, {{id}});
    begin(quorum, false);
    quorum.answered(0, "rep_2", first, {Kind::have});
    quorum.answered(0, "rep_2", first, {Kind::have});
    quorum.answered(0, "rep_3", third, {Kind::have});
    quorum.ended(), quorum.ended();
    auto reply = end(quorum, begun);
    CHECK(!reply.counted && reply.answers[0].outcome == (owe ? Outcome::queued : Outcome::unknown));
    CHECK(owe ? reply.answers[0].note == "copies=2/3" : reply.answers[0].reason.find("copies=2/3") == 0);
  }
  // The answer names a node that refuses. A node that stays silent is given up when the time is over.
  Quorum quorum({3, false, true, timeout}, self, {{id}});
  begin(quorum, false);
  quorum.answered(0, "rep_2", first, {Kind::refused, "no room"});
  quorum.ended();
  quorum.progressed(begun + Millis(500));
  CHECK(std::holds_alternative<Quorum::Wait>(quorum.next(begun + Millis(1499), others)));
  CHECK(end(quorum, begun + Millis(1500)).answers[0].reason == "copies=1/3: rep_2 refuses it: no room");
  quorum.answered(0, "rep_3", second, {Kind::have});  // it comes too late, and has no effect
  // A pending job has the key: that job is sent in place of the new job, and its copies are counted.
  Quorum keyed({2, false, true, timeout}, self, {{id, true}});
  CHECK(!std::get<Quorum::Append>(keyed.next(begun, others)).then_send);
  gq::Job pending;
  pending.state = State::pending;
  pending.copies = 2;
  keyed.stored({{Outcome::same, third}}, {Quorum::Known{pending}});
  CHECK(std::get<Quorum::Send>(keyed.next(begun, others)).numbers.size() == 1 && keyed.stands_for(0)->id == third);
  keyed.sent(0, begun);
  CHECK(end(keyed, begun).answers[0].outcome == Outcome::unknown);
  // If too few nodes can be reached, nothing is stored.
  others.up = 1;
  CHECK(
      std::get<Quorum::Reply>(Quorum({3, false, true, timeout}, self, {{id}}).next(begun, others)).answers[0].outcome ==
      Outcome::refused);
}

// A node with a new identity has none of the copies that the store with the old identity had, whenever these were
// recorded.
void another_store_has_no_copies() {
  const Self self{"rep_1", new_ulid()};
  const std::string id = new_ulid(), first = new_ulid(), second = new_ulid(), third = new_ulid();
  event::Add add{.id = id, .at = Millis(1), .node = self.node, .store = self.store, .copies = 3, .once = true};
  add.asked.function = "f";
  for (bool noted_late : {false, true}) {
    MapTable table;
    Fold fold(table, self);
    Lsn at = 0;
    auto happens = [&](const Event& event) { fold.apply(event, {}, at, at + 100), at += 100; };
    happens(event::Peer{.node = "rep_2", .store = first});
    happens(event::Peer{.node = "rep_3", .store = third});
    happens(add);
    const event::Copied there{.ids = {id}, .peers = "rep_2", .stores = first};
    if (!noted_late) happens(there);
    happens(event::Peer{.node = "rep_2", .store = second});
    if (noted_late) happens(there);
    happens(event::Copied{.ids = {id}, .peers = "rep_3", .stores = third});
    CHECK(fold.get(id)->state == State::pending);
    if (noted_late) {
      happens(event::Copied{.ids = {id}, .peers = "rep_2", .stores = second});
    } else {  // the first store has come back
      happens(event::Peer{.node = "rep_2", .store = first});
      happens(there);
    }
    CHECK(fold.get(id)->state == State::queued);
  }
}

// A record that changes many jobs or notes is folded in parts: a call changes only some of them, and another process
// may go on.
void a_record_is_folded_in_parts() {
  MapTable parts, whole;
  const Self self{"rep_1", new_ulid()};
  Lsn end = 64;
  auto happens = [&](const Event& event) {
    for (MapTable* table : {&parts, &whole}) {
      Fold fold(*table, self);
      fold.apply(event, {}, end, end + 100);
      fold.commit();
    }
    end += 100;
  };
  const size_t jobs = 95, most = 10;
  const std::string first = new_ulid();
  happens(event::Peer{.node = "rep_2", .store = first});
  event::Copied copied{.peers = "rep_2", .stores = first};
  for (size_t i = 0; i < jobs; ++i) {
    copied.ids.push_back(new_ulid());
    happens(event::Add{.id = copied.ids.back(),
                       .asked = {.function = "f"},
                       .node = self.node,
                       .store = self.store,
                       .copies = 3,
                       .once = true});
    for (MapTable* table : {&parts, &whole}) {
      std::string note = "e", until(1, '\0');
      put_be64(note, i);
      put_le<uint64_t>(until, i + 1);
      table->put(note, until);
    }
  }
  happens(copied);
  auto count = [&](char kind) {
    size_t n = 0;
    for (const auto& [key, value] : parts.all()) n += key[0] == kind;
    return n;
  };
  auto folds_in_parts = [&](const Event& event, char kind) {
    CHECK(count(kind) == jobs);
    bool is_whole = false;
    for (size_t n = 1; !is_whole; ++n) {
      Fold fold(parts, self);
      size_t left = most;
      is_whole = fold.apply_part(event, {}, end, end + 100, left);
      CHECK(is_whole == (n * most >= jobs) && count(kind) == jobs - std::min(n * most, jobs));
      CHECK((fold.position().end == end + 100) == is_whole);
      fold.commit();
    }
    Fold fold(whole, self);
    fold.apply(event, {}, end, end + 100);
    fold.commit();
    CHECK(parts.all() == whole.all());
    end += 100;
  };
  folds_in_parts(event::Peer{.node = "rep_2", .store = new_ulid()}, 'u');
  folds_in_parts(Gap{.position = jobs, .since = 0}, 'e');
}

// When a node gets a new identity, the jobs with copies on it lose these copies. No other job is read.
void copies_are_lost_where_they_were() {
  struct Counting final : Table {
    MapTable table;
    size_t read = 0;
    std::optional<std::string> get(std::string_view key) override {
      ++read;
      return table.get(key);
    }
    void put(std::string_view key, std::string_view value) override { table.put(key, value); }
    void remove(std::string_view key) override { table.remove(key); }
    void commit() override {}
    std::unique_ptr<Cursor> walk(std::string_view from) override { return table.walk(from); }
  } table;
  const Self self{"rep_1", new_ulid()};
  Fold fold(table, self);
  Lsn end = 64;
  auto happens = [&](const Event& event) {
    fold.apply(event, {}, end, end + 100);
    end += 100;
  };
  std::vector<std::string> ids;
  for (int i = 0; i < 1000; ++i) {
    ids.push_back(new_ulid());
    happens(event::Add{.id = ids.back(),
                       .asked = {.function = "f"},
                       .node = self.node,
                       .store = self.store,
                       .copies = 3,
                       .once = true});
  }
  const std::string first = new_ulid();
  happens(event::Peer{.node = "rep_2", .store = first});
  happens(event::Copied{.ids = {ids[0], ids[1]}, .peers = "rep_2", .stores = first});
  happens(event::Copied{.ids = {ids[1]}, .enough = true});
  CHECK(fold.get(ids[0])->peers == "rep_2" && fold.get(ids[0])->state == State::pending);
  CHECK(table.get("u" + ids[0]) && !table.get("u" + ids[1]));
  table.read = 0;
  happens(event::Peer{.node = "rep_2", .store = new_ulid()});
  CHECK(fold.get(ids[0])->peers.empty() && !table.get("u" + ids[0]) && table.read < 20);
}

// Of the copies that a record from another journal names, only as many are kept as fit into a job.
void foreign_copies_are_bounded() {
  const Self self{"rep_1", new_ulid()};
  event::Add add{
      .id = new_ulid(), .at = Millis(1), .node = self.node, .store = self.store, .copies = 2000, .once = true};
  add.asked.function = "f";
  MapTable table;
  Fold fold(table, self);
  Lsn at = 0;
  auto happens = [&](const Event& event) { fold.apply(event, {}, at, at + 100), at += 100; };
  happens(add);
  happens(event::Copied{.ids = {add.id}, .peers = std::string(60'000, 'x')});
  CHECK(fold.get(add.id)->peers.empty());
  for (int n = 0; n < 1500; ++n)
    happens(
        event::Copied{.ids = {add.id}, .peers = "rep_" + std::string(50, 'x') + padded(static_cast<uint64_t>(n), 10)});
  CHECK(fold.get(add.id)->state == State::pending && fold.get(add.id)->peers.size() < UINT16_MAX);
}

// All nodes choose the same owner of a job that several nodes have accepted. If a node accepts the job twice, its later
// time decides.
void all_see_the_same_owner() {
  const std::string id = new_ulid(), one = new_ulid(), two = new_ulid();
  auto add = [&](int at, const std::string& node, const std::string& store) {
    event::Add e{.id = id, .at = Millis(at), .given = true, .node = node, .store = store, .once = true};
    e.asked.function = "f";
    return e;
  };
  const event::Add adds[] = {add(1, "rep_2", two), add(3, "rep_2", two), add(2, "rep_1", one)};
  for (const auto& [self, order] : {std::pair{Self{"rep_1", one}, std::vector{2, 0, 1}},
                                    {Self{"rep_2", two}, {0, 1, 2}},
                                    {{"rep_3", id}, {1, 2, 0}}}) {
    MapTable table;
    Fold fold(table, self);
    Lsn at = 0;
    for (int n : order) fold.apply(adds[n], {}, at, at + 100), at += 100;
    CHECK(fold.get(id)->node == "rep_2" && (fold.get(id)->state == State::held) == (self.node != "rep_2"));
  }
}

// What a node sends to others about a job that another node owns.
void jobs_of_other_nodes_are_sent() {
  const Self self{"rep_1", new_ulid()};
  const std::string id = new_ulid(), other = new_ulid(), peer = new_ulid();
  gq::Job job;
  job.node = "rep_2", job.store = other, job.once = 1, job.copies = 2, job.state = State::held;
  Quorum quorum({2, false, true, Millis(1000)}, self, {{id, true}});
  const Quorum::Others others{{{"rep_2", other}, {"rep_3", peer}}, 2};
  quorum.next({}, others);
  quorum.stored({{Outcome::queued}}, {Quorum::Known{job}});
  quorum.next({}, others);
  CHECK(quorum.stands_for(0) && quorum.stands_for(0)->id == id);
  // A finished job is not sent to any node.
  gq::Job over = job;
  over.state = State::finished, over.version = 1;
  Quorum ended({2, false, true, Millis(1000)}, self, {{id, true}});
  ended.next({}, others);
  ended.stored({{Outcome::queued}}, {Quorum::Known{over}});
  const auto effect = ended.next({}, others);
  const auto* reply = std::get_if<Quorum::Reply>(&effect);
  CHECK(reply && reply->answers[0].outcome == Outcome::queued);
  // An add record that created no job, because another job had its key, does not belong to a later job with that ID.
  event::Add add{.id = id, .node = self.node, .store = self.store, .copies = 2, .once = true};
  for (Lsn first : {Lsn{0}, Lsn{100}}) {
    Walk walk(self.node, "rep_3", peer, 0, 0, {});
    walk.see(add, {}, 0, 100, "record", [](const std::string&, const std::string&) { return true; });
    job.first_lsn = first;
    for (const auto& touched : walk.jobs()) walk.looked_up(touched, job);
    CHECK(walk.debts().size() == (first == 0 ? 1 : 0));
    // This node has accepted the job, too, but rep_2 owns it. So this node does not send its own record.
    if (first == 0) CHECK(walk.debts()[0].add.empty() && walk.debts()[0].state);
  }
  // Another node sends a fresh job that this node owns. This node sends the job to all nodes, including that node, and
  // counts their copies.
  const event::State state{.id = id, .node = self.node, .store = self.store, .from = "rep_3", .from_store = peer};
  job.node = self.node, job.store = self.store, job.state = State::pending;
  for (const std::string to : {"rep_2", "rep_3"}) {
    Walk walk(self.node, to, to == "rep_2" ? other : peer, 0, 0, {});
    walk.see(state, {}, 100, 200, "", [](const std::string&, const std::string&) { return false; });
    for (const auto& touched : walk.jobs()) walk.looked_up(touched, job);
    CHECK(walk.copied() == std::vector{id} && walk.debts().size() == (to == "rep_2" ? 1 : 0));
  }
  job.node = "rep_2", job.store = other, job.changed_at = Millis(7);
  const event::Add sent = add_to_send(add, job);
  CHECK(sent.node == "rep_2" && sent.store == other && sent.at == Millis(7) && sent.id == id && sent.copies == 2);
  job.term = 1;  // now the job's state names the owner
  CHECK(add_to_send(add, job).store == self.store);
}

void answers_travel() {
  const std::string a = new_ulid(), b = new_ulid();
  const Answer all[] = {{Outcome::queued, {}, 0},   {Outcome::queued, {}, 0, "copies=1/2"},
                        {Outcome::same, b, 0},      {Outcome::same, b, 0, "copies=1/2"},
                        {Outcome::conflict, {}, 0}, {Outcome::unknown, "no answer", 0}};
  for (const auto& answer : all) {
    auto heard = parse_answers(encode_answer(a, answer), {a});
    CHECK(heard && heard->front().outcome == answer.outcome && heard->front().reason == answer.reason &&
          heard->front().note == answer.note);
  }
  CHECK(encode_answer(a, all[2]) == "same " + a + " " + b + "\n");
  CHECK(encode_answer(a, all[3]).substr(0, 5) == "owed ");  // an old client must not take the note for a part of the ID
  for (const std::string& bad : {"queued " + b + "\n", "queued " + a + "x\n", "owes " + a + "\n", "queued " + a})
    CHECK(!parse_answers(bad, {a}));
}

// A process that waits for a lock gives up after some time, and names the holder.
void waiting_ends(const std::string& directory) {
  const std::string path = directory + "/waited.lock";
  Fd held = open_file(path, O_RDWR | O_CREAT), other = open_file(path, O_RDWR);
  FileLock lock(held.get(), FileLock::Mode::shared);
  FileLock as_well(other.get(), FileLock::Mode::shared);
  std::string why;
  try {
    FileLock never(open_file(path, O_RDWR).get(), FileLock::Mode::exclusive, Millis(1000));
  } catch (const Error& e) {
    CHECK(e.code() == Exit::retry);
    why = e.what();
  }
  CHECK(why.find("process " + std::to_string(::getpid()) + " (gq-unit) holds " + path) != std::string::npos);
}

// A hint that is older or newer than the journal, as after a power cut, is not trusted.
void wrong_hints_are_not_believed(const std::string& directory) {
  std::filesystem::create_directory(directory);
  std::filesystem::permissions(directory, std::filesystem::perms::owner_all);
  Directory(directory).publish("gq.json", R"({"format": 1, "store": ")" + new_ulid() + R"(", "segment_size": "4K"})",
                               true);
  const std::string hint = directory + "/append.lock";
  std::vector<std::string> ids;
  auto add = [&](Queue& store) {
    std::vector<NewJob> jobs;
    for (int i = 0; i < 5; ++i) ids.push_back(jobs.emplace_back(make_job({"f"}, "x")).add.id);
    for (const auto& a : store.add(jobs)) CHECK(a.outcome == Outcome::queued);
  };
  auto all_readable = [&](Queue& store) {
    for (const auto& id : ids) {
      std::optional<gq::Job> job;
      store.look([&](Fold& fold) { job = fold.get(id); });
      std::string reason;
      CHECK(job && store.workload(id, *job, reason));
    }
  };
  {
    Queue store = open_store(directory, true);
    add(store);
    std::filesystem::copy(hint, hint + ".old");
    while (store.segments().size() < 3) add(store);
    add(store);
  }
  std::filesystem::copy(hint, hint + ".new");
  auto put = [&](const char* which) {
    std::filesystem::copy(hint + which, hint, std::filesystem::copy_options::overwrite_existing);
  };
  put(".old");
  Lsn end = 0;
  {
    Queue store = open_store(directory, false);
    end = store.segments().back().end;
    CHECK(store.end() == end);
    all_readable(store);
    add(store);
    all_readable(store);
  }
  // The hint names a segment that does not exist any more.
  put(".new");
  std::filesystem::resize_file(hint, 40);
  std::filesystem::remove(directory + "/journal/" +
                          segment_name(list_segments(Directory(directory + "/journal")).back()));
  remove_index(Directory(directory));
  Queue store = open_store(directory, false);
  CHECK(store.end() == store.segments().back().end && !store.synced());
  ids.clear();
  add(store);
  CHECK(store.synced() == store.end());
  all_readable(store);
}

// A process that has synced less does not lower the mark of another process.
void synced_end_only_grows(const std::string& directory) {
  Lsn first = 0;
  for (int i = 0; i < 2; ++i) {
    pid_t pid = ::fork();
    if (pid == 0) {
      Queue store = open_store(directory, true);
      store.add({make_job({"f"}, "x")});
      ::_exit(store.synced() == store.end() ? 0 : 1);
    }
    int status = 1;
    CHECK(::waitpid(pid, &status, 0) == pid && status == 0);
    Queue store = open_store(directory, true);
    CHECK(store.synced().value_or(0) > first);
    first = store.synced().value_or(0);
  }
  Queue two = open_store(directory, false);
  OwnJournal one(directory, two.id());
  NewJob job = make_job({"f"}, "x");
  const std::vector<RecordBytes> records{RecordBytes(job.head, job.data)};
  auto placed = one.journal.append(records, Room::intake);
  two.add({make_job({"f"}, "x")});
  const auto end = two.synced();
  one.journal.make_safe(records, placed, Room::intake);  // this sync began earlier and ends later
  CHECK(end == one.journal.end() && one.journal.synced() == end);
  Queue another = open_store(directory + ".other", true);  // the hint is not valid in another store
  std::filesystem::copy(directory + "/append.lock", directory + ".other/append.lock",
                        std::filesystem::copy_options::overwrite_existing);
  CHECK(!another.synced());
}

// In a new store, a power cut removes everything from append.lock that was written after the store's creation. It must
// still be known that nothing later was synced.
void a_new_store_knows_that_nothing_was_synced(const std::string& directory) {
  const std::string lock = directory + "/append.lock", fresh = directory + ".fresh";
  const std::string data(60'000, 'x');
  const NewJob job = make_job({"f"}, data);
  Placed placed;
  {
    Queue store = open_store(directory, true);
    CHECK(store.synced() == Lsn(0));
    std::filesystem::copy(lock, fresh);
    placed = store.append({RecordBytes(job.head, job.data)}, Room::intake).front();
  }
  std::filesystem::copy(fresh, lock, std::filesystem::copy_options::overwrite_existing);
  const std::string segment = directory + "/journal/" + segment_name(0);
  write_all_at(open_file(segment, O_RDWR).get(), std::string(4096, '\0'), placed.end - 4096, segment);
  Queue store = open_store(directory, false);
  CHECK(store.add({make_job({"f"}, "x")}).front().outcome == Outcome::queued);
  EventReader reader = store.read(0);
  bool seen = false;
  for (auto item = reader.next(true); item != JournalReader::Item::end; item = reader.next(true)) {
    if (reader.lsn() == placed.lsn) seen = reader.never_synced();
    else CHECK(!reader.never_synced());
  }
  CHECK(seen);
}

// A cleaned segment may keep a torn workload, and it may also replace the segment whose beginning says that it is torn.
void a_torn_workload_stays_torn_when_it_is_cleaned(const std::string& directory) {
  const std::string lock = directory + "/append.lock", fresh = directory + ".fresh";
  const std::string data(60'000, 'x');
  auto open = [&] {
    const Directory opened = Directory::of_store(directory, true);
    Settings settings = open_settings(opened, true);
    settings.limits = {.remember = Millis(0), .clean_after = Millis(0), .segment_size = 200'000};
    return std::make_unique<Queue>(opened, settings, std::make_shared<LocalDisk>(opened, settings.store_id));
  };
  auto store = open();
  auto add = [&](int count) {
    std::vector<NewJob> jobs;
    for (; count > 0; --count) jobs.push_back(make_job({"f"}, data));
    for (const auto& answer : store->add(jobs)) CHECK(answer.outcome == Outcome::queued);
    std::vector<std::string> ids;
    for (const auto& job : jobs) ids.push_back(job.add.id);
    return ids;
  };
  auto drop = [&](const std::vector<std::string>& ids) {
    for (const auto& why : store->change(Change::drop, ids)) CHECK(!why);
  };
  // Adds garbage, so that the segments before it are cleaned, and cleans.
  auto clean = [&] {
    for (int i = 0; i < 2; ++i) drop(add(3));
    Cleaner cleaner(*store);
    while (cleaner.step()) continue;
  };
  auto gaps = [&] {
    size_t found = 0;
    EventReader reader = store->read(0);
    for (auto item = reader.next(); item != JournalReader::Item::end; item = reader.next())
      if (item == JournalReader::Item::record)
        if (const auto* gap = std::get_if<Gap>(&reader.event())) found += is_at_begin(*gap, reader.lsn());
    return found;
  };
  std::filesystem::copy(lock, fresh);
  auto garbage = add(2);
  const std::string torn = add(1).front();
  const Lsn end = store->end();
  store.reset();
  std::filesystem::copy(fresh, lock, std::filesystem::copy_options::overwrite_existing);
  const std::string segment = directory + "/journal/" + segment_name(0);
  write_all_at(open_file(segment, O_RDWR).get(), std::string(4096, '\0'), end - 4096, segment);
  store = open();
  drop(garbage);
  CHECK(kinds_found(*store) == "torn" && gaps() == 1);
  clean();
  const auto segments = store->segments();
  CHECK(segments.front().cleaned && segments.front().end > end + 100'000);  // it has replaced more than one
  CHECK(kinds_found(*store) == "torn" && gaps() == 1);
  clean();
  CHECK(kinds_found(*store) == "torn" && gaps() == 1);
  drop({torn});
  clean();
  clean();
  CHECK(kinds_found(*store).empty() && gaps() == 0);
}

struct Later {
  static constexpr std::string_view type = "later";
  static void fields(auto&, auto) {}
};

// A record of a type that came later is in a segment that older programs refuse; so are the records behind it.
void later_types_have_a_format_of_their_own(const std::string& directory) {
  Directory::of_store(directory, true);
  OwnJournal own(directory, "store");
  Journal& journal = own.journal;
  const NewJob job = make_job({"f"}, "x");
  const std::string later = encode_record(Later{});
  auto version_of = [](const std::string& path) {
    char bytes[12];
    CHECK(read_at(open_file(path, O_RDONLY).get(), bytes, sizeof bytes, 0) == sizeof bytes);
    return get_le<uint32_t>(std::string_view(bytes, sizeof bytes), 8);
  };
  auto append = [&](const RecordBytes& record) {
    const Lsn lsn = journal.append({record}, Room::intake).front().lsn;
    Lsn base = 0;
    for (Lsn segment : list_segments(journal.directory()))
      if (segment < lsn) base = segment;
    return std::pair(base, version_of(directory + "/journal/" + segment_name(base)));
  };
  const auto first = append({job.head, job.data});
  CHECK(first.second == 1);
  const auto second = append({later});
  CHECK(second.first > first.first && second.second == 7);
  CHECK(append({job.head, job.data}) == second);
  for (const bool has_later : {false, true}) {
    CleanedSegment segment(journal, second.first, second.first);
    segment.add(second.first + segment_header_size, has_later ? later : job.head, has_later ? "" : job.data);
    segment.finish(journal.end(), journal.end());
    segment.publish();
    CHECK(version_of(directory + "/journal/" + segment_name(second.first)) == (has_later ? 8 : 2));
  }
}

// A group takes a record with a new feature when each other node has answered that it reads it.
void a_group_reads_what_each_node_reads(const std::string& directory) {
  const std::string rep_2 = new_ulid(), rep_3 = new_ulid();
  std::filesystem::create_directory(directory);
  std::filesystem::permissions(directory, std::filesystem::perms::owner_all);
  Directory(directory).publish("gq.json",
                               R"({"format": 1, "store": ")" + new_ulid() + R"(", "node": "rep_1", "identity": ")" +
                                   new_ulid() +
                                   R"(", "group": ["rep_1", "rep_2", "rep_3"], "copies": 1, "run": "all"})",
                               true);
  Queue store = open_store(directory, true);
  auto knows = [&](const std::string& node, const std::string& identity) {
    store.commit({encode_record(event::Peer{.node = node, .store = identity})}, Room::completion);
  };
  auto why = [&] { return why_unread(store, Feature::expire).value_or("no reason"); };
  CHECK(features_read().count("expire") == 1);
  const std::string silent = "rep_3 has not answered yet whether it knows --expire";
  CHECK(why() == "rep_2 has not answered yet whether it knows --expire");
  knows("rep_2", rep_2), knows("rep_3", rep_3);
  publish_reads(store, "rep_2", {rep_2, features_read()});
  CHECK(why() == silent);
  publish_reads(store, "rep_3", {rep_3, {}});
  CHECK(why() == "rep_3 does not know --expire: it runs an older gq");
  publish_reads(store, "rep_3", {rep_3, {"more", "expire"}});
  CHECK(why() == "no reason");
  // Another store has the node's name now, and has not answered yet.
  knows("rep_3", new_ulid());
  CHECK(why() == silent);
  std::vector<NewJob> jobs{make_job({"f"}, "x"), make_job({.function = "f", .expire = now_ms() + longest_wait}, "x")};
  std::vector<std::optional<Answer>> answers(jobs.size());
  refuse_unread(store, jobs, answers);
  CHECK(!answers[0] && answers[1]->outcome == Outcome::refused && answers[1]->reason == silent);
}

// In a journal from elsewhere, positions near the largest number neither overflow nor cause an endless loop.
void positions_are_bounded(const std::string& directory) {
  CHECK(parse_segment_name(segment_name(max_lsn - 1)) == max_lsn - 1);
  CHECK(!parse_segment_name(segment_name(max_lsn)) && !parse_segment_name(segment_name(UINT64_MAX)));
  NewJob job = make_job({"f"}, "x");
  int number = 0;
  auto read = [&](std::vector<Lsn> lsns, Lsn end) {
    const std::string made = directory + "." + std::to_string(++number);
    Directory::of_store(made, true);
    LocalDisk disk(Directory(made), "store");
    Journal journal(Directory(made), "store", disk);
    CleanedSegment segment(journal, 0, 0);
    for (Lsn lsn : lsns) segment.add(lsn, job.head, job.data);
    segment.finish(end, 0);
    segment.publish();
    JournalReader reader(journal, 0);
    size_t records = 0, steps = 0;
    for (auto item = reader.next(); item != JournalReader::Item::end && steps < 20; item = reader.next(), ++steps)
      records += item == JournalReader::Item::record;
    CHECK(steps < 20 && reader.position() < max_lsn);
    bool appended = true;
    try {
      journal.append({RecordBytes(job.head, job.data)}, Room::intake);
    } catch (const Error& e) {
      appended = false;
      CHECK(e.code() == Exit::storage);
    }
    return std::pair(records, appended);
  };
  CHECK(read({50}, 5000) == std::pair(size_t(1), true));
  CHECK(read({50, UINT64_MAX - 1, UINT64_MAX}, 5000) == std::pair(size_t(1), true));
  CHECK(read({50, UINT64_MAX - 1}, UINT64_MAX).first == 1);
  CHECK(read({50}, max_lsn - 100) == std::pair(size_t(1), false));
}

// The search chooses the right server, and ends at the right time.
void a_server_is_chosen() {
  using enum Probe::State;
  using What = Choice::What;
  const auto begun = Probe::Clock::now();
  const auto at = [&](int ms) { return begun + Millis(ms); };
  auto what = [&](std::vector<Probe::State> states, int now, bool patient, std::optional<int> found = {}) {
    Search search{begun, at(10000), {}, patient};
    if (found) search.found = at(*found);
    return choose(states, search, at(now));
  };
  auto takes = [](const Choice& c, size_t index) { return c.what == What::take && c.index == index; };
  CHECK(takes(what({yes, pending, yes}, 5, true, 5), 0));
  CHECK(takes(what({failed, no, yes, pending}, 5, true, 5), 2));  // no earlier server can be better
  CHECK(what({pending, yes}, 5, true, 5).what == What::wait);     // the preferred server gets a little more time
  CHECK(what({pending, yes}, 254, true, 5).what == What::wait);
  CHECK(takes(what({pending, yes}, 255, true, 5), 1));
  for (bool patient : {false, true}) {
    CHECK(what({failed, failed}, 5, patient).what == What::unreachable);
    CHECK(what({failed, pending}, 9999, patient).what == What::wait);  // its name may resolve slowly
    CHECK(what({failed, pending}, 10000, patient).what == What::unreachable);
    CHECK(what({no, pending}, 10000, patient).what == What::no_worker);
  }
  CHECK(what({failed, no}, 5, true).what == What::wait);  // a worker may come later
  CHECK(what({failed, no}, 5, false).what == What::no_worker);
  CHECK(what({pending, no}, 1999, false).what == What::wait);
  CHECK(what({pending, no}, 2000, false).what == What::no_worker);
}

#ifdef GQ_DEVELOPER
// Under a ShortHold, nothing is synced or logged, except where a LongWorkInHold allows it.
void long_work_is_not_done_in_a_short_hold(const std::string& directory) {
  auto ends_with = [&](const std::function<void()>& work) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::close(2);
      ShortHold hold;
      work();
      ::_exit(0);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
  };
  CHECK(ends_with([&] { Directory(directory).sync(); }) == SIGABRT);
  CHECK(ends_with([] { log(Level::warning, "text"); }) == SIGABRT);
  CHECK(ends_with([&] {
          LongWorkInHold named;
          Directory(directory).sync();
        }) == 0);
  // prepare() was called before, so the append syncs nothing, however full its segment is.
  Queue store = open_store(directory + "/store", true);
  store.add({make_job({"f"}, "x")});
  const std::string record = encode_record(event::Pause{.function = "f", .at = now_ms()});
  OwnJournal other(directory + "/store", store.id());
  CHECK(ends_with([&] { other.journal.append({record}, Room::completion); }) == SIGABRT);
  other.journal.prepare();
  CHECK(ends_with([&] { other.journal.append({record}, Room::completion); }) == 0);
}
#endif

// Enough of the disk is kept free for accepted jobs; and what happens if little is free.
void room_is_left() {
  const uint64_t job = room_to_run(1, 90);
  CHECK(job >= 340 + 313 && job < 1000);  // as measured
  CHECK(room_to_run(1000, 90'000) == 1000 * job);
  CHECK(room_to_run(1, 90 + 200) >= job + 3 * 200);  // the index has a key in up to three places
  // A job in the index needs no more room than before, however many there are.
  for (uint64_t jobs : {1000ULL, 100'000ULL, 10'000'000ULL})
    CHECK(room_to_finish(jobs) < jobs * job + (4 << 20) && room_to_finish(jobs) > jobs * (313 + 122));
  CHECK(room_to_finish(0) < spare_size);
  // Each record changes pages of the index, which are logged. All records together log each page at most once.
  CHECK(room_to_fold(1, 0, 1 << 30) - room_to_fold(0, 0, 1 << 30) >= 3 * 12'000);
  CHECK(room_to_fold(1000, 0, 2'000'000) == room_to_fold(0, 0, 0) + 2'000'000);
  // Without records to fold, no room is needed. With less room, the chunks become smaller, and at last nothing is
  // folded.
  constexpr uint64_t large = 1ULL << 30;
  CHECK(records_to_fold(0, 0, large, 10000) == 10000 && records_to_fold(UINT64_MAX, large, large, 10000) == 10000);
  CHECK(records_to_fold(room_to_fold(10000, 500, 0), 500, 0, 10000) == 10000 && records_to_fold(0, 500, 0, 10000) == 0);
  for (uint64_t size : {0ULL, 1ULL << 20, 1ULL << 30}) {
    size_t last = 10000;
    for (uint64_t free = 1 << 30; free > 0; free /= 2) {
      const size_t most = records_to_fold(free, 1'000'000'000, size, 10000);
      CHECK(most <= last && (most == 0 || free >= room_to_fold(most, most * usual_record, size)));
      CHECK(most == 10000 || free < room_to_fold(most + 1, (most + 1) * usual_record, size));
      last = most;
    }
    CHECK(last == 0);
    // In the room that an intake leaves free, some records can be folded at a time, however large the index is.
    CHECK(records_to_fold(spare_size, 1'000'000'000, size, 10000) >= few_claims);
  }
}

// The store knows without the index how much room the accepted jobs need. After an older program has appended, it does
// not know this until it reads the index.
void owed_room_is_counted(const std::string& directory) {
  Queue store = open_store(directory, true);
  auto owed = [&] { return store.reserved() - spare_size; };
  CHECK(owed() == 0);
  std::vector<NewJob> jobs;
  const std::string data(1000, 'x');
  for (int i = 0; i < 10; ++i) jobs.push_back(make_job({"f"}, data));
  store.add(jobs);
  const uint64_t ten = owed();
  CHECK(ten == room_to_run(10, 10 * jobs[0].head.size()));
  store.add({make_job({"f"}, "x")});
  CHECK(owed() > ten);
  store.pause("g", true);  // this does not need room later
  CHECK(owed() > ten && owed() < 2 * ten);
  OwnJournal own(directory, store.id());
  own.journal.set_owed(store.end(), 5);
  CHECK(owed() == 5);
  own.journal.set_owed(store.end() - 1, 6);
  CHECK(owed() == 5);
  const std::string path = directory + "/append.lock";
  Fd lock = open_file(path, O_RDWR);
  char hint[40];
  CHECK(read_at(lock.get(), hint, sizeof hint, 0) == sizeof hint);
  store.add({make_job({"f"}, "x")});
  write_all_at(lock.get(), std::string_view(hint, sizeof hint), 0, path);  // the value belongs to another end now
  CHECK(store.reserved() == spare_size);
  CHECK(own.journal.has_room(0, 0, 0) && !own.journal.has_room(1ULL << 60, 0, 0) &&
        !own.journal.has_room(0, 1ULL << 60, 0));
}

// A workload arrives in parts. A late, repeated or wrong part changes nothing.
void parts_make_a_workload(const std::string& directory) {
  OwnBlobs own(directory);
  const std::string data(300000, 'x'), id = new_ulid();
  const uint64_t sum = sum64(data);
  Blobs& blobs = own.blobs;
  auto put = [&](uint64_t offset, size_t size) {
    auto arrived = blobs.put_part(id, sum, offset, std::string_view(data).substr(offset, size));
    return file_size(arrived.file.get());
  };
  CHECK(put(0, 0) == 0);
  CHECK(put(0, 100000) == 100000);
  CHECK(put(0, 100000) == 100000 && put(200000, 100000) == 100000 && put(50000, 100000) == 100000);
  CHECK(put(100000, 100000) == 200000);
  auto arrived = blobs.put_part(id, sum, 200000, std::string_view(data).substr(200000));
  const std::string name = arrived.name;
  CHECK(blobs.directory().has(name) && blobs.put(id, data, sum, &arrived) && !blobs.directory().has(name));
  CHECK(file_size(blobs.open(id).get()) == data.size());
}

// A process that dies while it writes a part leaves bytes that the disk may have lost, although they can be read.
void a_part_in_doubt_is_not_used(const std::string& directory) {
  OwnBlobs own(directory);
  const std::string id = new_ulid();
  auto put = [&](uint64_t offset) { return own.blobs.put_part(id, 1, offset, "part"); };
  const std::string name = put(0).name, doubt = doubt_of(name);
  CHECK(doubted_by(doubt) == name && doubted_by(name).empty() && !own.blobs.directory().has(doubt));
  own.blobs.directory().open(doubt, O_RDWR | O_CREAT);
  CHECK(file_size(put(4).file.get()) == 0 && !own.blobs.directory().has(doubt));
  CHECK(file_size(put(0).file.get()) == 4);
}

// Other processes get the index in between.
void many_new_records_are_folded_in_rounds(const std::string& directory) {
  const Queue store = open_store(directory, true);
  OwnJournal own(directory, store.id());
  Index index(store.directory(), own.journal, {});
  const size_t ids = 1000;
  const event::Forget forget{.ids = std::vector<std::string>(ids, new_ulid()), .at = now_ms()};
  own.journal.prepare();
  Lsn end = 0;
  size_t calls = 0;
  index.visit([&](Fold& fold) {
    for (size_t left = calls++ ? 0 : 2 * fold_chunk / ids; left > 0; --left)
      end = own.journal.append({encode_record(forget)}, Room::completion).back().end;
    index.fold_on(fold, end);
    CHECK(fold.position().end == end);
  });
  CHECK(calls == 2);
}

// A program that can send transfers in the name of a node could begin any number of workloads and never finish them.
void unfinished_workloads_are_bounded(const std::string& directory) {
  OwnBlobs own(directory);
  Blobs& blobs = own.blobs;
  auto begin = [&] { return blobs.put_part(new_ulid(), 1, 0, "x"); };
  const Arrived written = begin();
  const std::string oldest = begin().name;
  for (size_t i = 0; i < most_arriving; ++i) begin();
  const std::string newest = begin().name;
  const auto there = blobs.directory().names();
  CHECK(there.size() <= most_arriving && there.size() > most_arriving / 2);
  CHECK(blobs.directory().has(written.name) && !blobs.directory().has(oldest) && blobs.directory().has(newest));
}

void parts_grow_with_quick_answers() {
  size_t size = least_part_size;
  for (int i = 0; i < 10; ++i) size = next_part_size(size, Millis(5));
  CHECK(size == most_part_size);
  CHECK(next_part_size(size, Millis(100)) == size && next_part_size(least_part_size, Millis(100)) == least_part_size);
  CHECK(next_part_size(size, Millis(250)) == least_part_size);
}

void verdicts_are_read() {
  auto kind = [](const std::string& line) { return parse_verdict(line).kind; };
  using Kind = PeerVerdict::Kind;
  CHECK(kind("have") == Kind::have && kind("need") == Kind::need && kind("conflict") == Kind::conflict);
  CHECK(kind("refused the disk is full") == Kind::refused &&
        parse_verdict("refused the disk is full").reason == "the disk is full" && kind("refused") == Kind::refused);
  CHECK(kind("refused " + new_ulid()) == Kind::conflict);  // the answer of an older node if another job has the key
  for (const char* line : {"", "havex", "refusedx", "taken", "bad"}) CHECK(kind(line) == Kind::nonsense);
}

// Printed text cannot control a terminal. Stored text stays unchanged.
void printed_text_controls_no_terminal() {
  using namespace std::string_literals;
  const std::map<std::string, std::string> hidden = {{"\x1b"s, "\x1b"s},
                                                     {"\x7f"s, "\\u007f"},
                                                     {"\xc2\x80"s, "\\u0080"},
                                                     {"\xc2\x9b"s, "\\u009b"},
                                                     {"\xc2\x9f"s, "\\u009f"},
                                                     {"\xc2\xad"s, "\\u00ad"},
                                                     {"\u061c"s, "\\u061c"},
                                                     {"\u200b"s, "\\u200b"},
                                                     {"\u200e"s, "\\u200e"},
                                                     {"\u200f"s, "\\u200f"},
                                                     {"\u2028"s, "\\u2028"},
                                                     {"\u2029"s, "\\u2029"},
                                                     {"\u202a"s, "\\u202a"},
                                                     {"\u202e"s, "\\u202e"},
                                                     {"\u2060"s, "\\u2060"},
                                                     {"\u2066"s, "\\u2066"},
                                                     {"\u2069"s, "\\u2069"},
                                                     {"\ufeff"s, "\\ufeff"},
                                                     {"\U000e0001"s, "\\udb40\\udc01"},
                                                     {"\xff"s, "\\ufffd"},
                                                     {"\xed\xa0\x80"s, "\\ufffd\\ufffd\\ufffd"},
                                                     {"\xc0\x9b"s, "\\ufffd\\ufffd"},
                                                     {"\xc2"s, "\\ufffd"}};
  for (const auto& [text, escaped] : hidden) {
    const std::string shown = printable("a" + text + "b");
    CHECK(shown == "a" + std::string(shown.size() - 2, '?') + "b" && shown.size() > 2);
    CHECK(json_printable("\"" + text + "\"") == "\"" + escaped + "\"");
  }
  for (std::string text :
       {"", "a b~", "\u00a0\u00ac\u00ae\u00e9", "\u200c\u200d\u2010\u2027\u202f\u2070\u65e5", "\U0001f600"})
    CHECK(printable(text) == text && json_printable(text) == text);
  CHECK(printable("\u00e9\u00e9\u00e9", 5) == "\u00e9\u00e9" && printable("\xc2\x9b\xc2\x9b", 1) == "?" &&
        printable("a\tb\nc\0d"s) == "a?b?c?d");
  CHECK(json_printable("{\n  \"a\\n\": 1}\n") == "{\n  \"a\\n\": 1}\n");
  CHECK(!key_problem("a\xc2\x9b\u202e") && !function_name_problem("a\xc2\x9b\u202e"));
  for (std::string text : {"a\x1b", "a\n", "a\x7f", "a\xff"}) CHECK(key_problem(text) && function_name_problem(text));
  CHECK(key_problem("") && !key_problem("a b") && function_name_problem("a b"));
  const std::string id = "01ARZ3NDEKTSV4RRFFQ69G5FAV", other = "01ARZ3NDEKTSV4RRFFQ69G5FAW";
  for (std::string line : {"same " + id + " " + other, "owed " + id + " " + other + " copies=1/2"}) {
    auto answers = parse_answers(line + "\n", {id});
    CHECK(answers && answers->at(0).reason == other);
  }
  for (std::string line : {"same " + id, "same " + id + " EVIL", "same " + id + " " + other + " and more",
                           "owed " + id + " EVIL copies=1/2", "owed " + id + " " + other + "\xc2\x9b copies=1/2"})
    CHECK(!parse_answers(line + "\n", {id}));
}

}  // namespace

// In a manifest from anywhere, each name must be the name of a store's file.
void manifests_name_files_of_a_store(const std::string& directory) {
  Queue store = open_store(directory + ".store", true);
  create_snapshot(store, directory, {});
  const Directory snapshot = list_snapshots(directory, [](const auto&, const auto&) {}).at(0).directory();
  const auto text = read_all(snapshot.open("manifest", O_RDONLY).get(), 1 << 20, "manifest").value();
  const std::string begin = text.substr(0, text.rfind("sum "));
  auto with_lines = [&](const std::string& lines) {
    const std::string body = begin + lines;
    snapshot.publish("manifest", body + "sum " + hex64(sum64(body)) + "\n", true);
    std::string why;
    list_snapshots(directory, [&](const auto&, const std::string& text_of_it) { why = text_of_it; });
    return why;
  };
  auto with = [&](const std::string& name) { return with_lines("file 0 0000000000000000 " + name + "\n"); };
  CHECK(with_lines("created 253402300799000\n").empty());
  // With such a date, all later snapshots would be older than this one.
  for (const char* created : {"253402300799001", "9223372036854775807", "18446744073709551615"})
    CHECK(with_lines("created " + std::string(created) + "\n") == "it is damaged");
  rusage before, after;
  ::getrusage(RUSAGE_SELF, &before);
  CHECK(with_lines(std::string(16 << 20, '\n')) == "it is damaged");
  ::getrusage(RUSAGE_SELF, &after);
  CHECK(after.ru_maxrss - before.ru_maxrss < 256 << 10);  // KiB
  for (const char* name : {"blobs/AV/01ARZ3NDEKTSV4RRFFQ69G5FAV", "journal/00000000000000000099.gqj", "gq.json"})
    CHECK(with(name).empty());
  for (const char* name :
       {"database", "/etc/passwd", "journal/../database", "journal/x", "blobs/AV/x",
        "blobs/AA/01ARZ3NDEKTSV4RRFFQ69G5FAV", "blobs/01ARZ3NDEKTSV4RRFFQ69G5FAV", "journal/01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "gq.json/x", "./gq.json", "blobs/AV/../AV/01ARZ3NDEKTSV4RRFFQ69G5FAV"})
    CHECK(with(name).find("it names a file that no store has") == 0);
}

// Below a directory, only plain files of that directory are opened, whatever process created them and wherever the path
// leads now.
void only_plain_files_are_opened_below(const std::string& path) {
  namespace fs = std::filesystem;
  fs::create_directory(path);
  std::ofstream(path + ".outside") << "precious";
  fs::create_symlink(path + ".outside", path + "/link");
  fs::create_symlink(path + ".new", path + "/dangling");
  fs::create_directory_symlink("/tmp", path + "/away");
  CHECK(::mkfifo((path + "/fifo").c_str(), 0600) == 0);
  fs::create_directory_symlink(path, path + ".link");
  const Directory directory(path + ".link");  // links in the path of the directory itself are followed
  for (const char* name : {"link", "dangling", "away", "fifo", ".", "..", "", "../unit.outside", "away/x"})
    for (int flags : {O_RDONLY, O_RDWR | O_CREAT, O_WRONLY | O_CREAT | O_TRUNC})
      CHECK(!directory.try_open(name, flags));
  for (const char* name : {"away", "link", "fifo"}) {
    try {
      directory.below(name);
      CHECK(false);
    } catch (const Error& e) {
      CHECK(e.code() == Exit::config);
    }
  }
  CHECK(fs::file_size(path + ".outside") == 8 && !fs::exists(path + ".new"));
  const Directory sub = directory.make_below("sub");
  CHECK(!directory.link("link", sub, "x") && !sub.has("x"));
  CHECK(sub.publish("file", "one", false) && !sub.publish("file", "two", false) && sub.publish("file", "three", true));
  CHECK(sub.link("file", directory, "same") && directory.is(sub.open("file", O_RDONLY).get(), "same"));
  Fd before = sub.open("file", O_RDONLY);
  CHECK(directory.publish("new", "five", false) && !directory.rename_new("new", sub, "file") && errno == EEXIST &&
        sub.is(before.get(), "file"));
  CHECK(directory.rename("new", sub, "file") && !sub.is(before.get(), "file"));
  struct stat st;
  CHECK(sub.look_at("file", st) && sub.trusts(st));
  if (::geteuid() == 0 &&
      ::fchownat(sub.fd(), "file", 65533, static_cast<gid_t>(-1), 0) == 0) {  // it belongs to another user
    CHECK(sub.look_at("file", st) && !sub.trusts(st) && !sub.try_open("file", O_WRONLY | O_TRUNC));
    CHECK(sub.look_at("file", st) && st.st_size == 4);
  }
  fs::create_directory_symlink("/tmp", path + "/sub/away");
  fs::rename(path, path + ".moved");  // the open Directory still refers to the moved directory
  CHECK(directory.has("same") && file_size(directory.open("same", O_RDONLY).get()) == 5);
  directory.remove_tree("sub");
  directory.remove_tree("away");
  CHECK(!directory.has("sub") && fs::exists("/tmp"));
  CHECK(directory.identity() == Directory(path + ".moved").identity());
}

// Changes a table on a small disk again and again. When the disk is full, the table has its content from before the
// change.
void a_full_disk_leaves_a_table_as_it_was(const std::string& disk) {
  std::mt19937 random(1);
  std::map<std::string, std::string> content;
  const Directory directory(disk);
  int full = 0;
  for (int round = 0; round < 200; ++round) {
    const std::string fill = disk + "/fill";
    if (round % 2 == 1) {
      struct statvfs space;
      CHECK(::statvfs(disk.c_str(), &space) == 0);
      const uint64_t left = random() % 300 * 1024, available = space.f_bavail * space.f_frsize;
      std::ofstream(fill) << std::string(available - std::min(available, left), 'x');
    }
    auto changed = content;
    try {
      TokyoTable table(directory, "table");
      for (auto changes = random() % 1000; changes > 0; --changes) {
        const std::string key = std::to_string(random() % 3000) + std::string(random() % 30, 'k');
        if (random() % 3 == 0) {
          table.remove(key);
          changed.erase(key);
        } else {
          const std::string value(random() % 300, static_cast<char>('a' + random() % 26));
          table.put(key, value);
          changed[key] = value;
        }
        if (random() % 100 == 0) table.walk("");  // writes the changes
      }
      table.commit();
      content = changed;
      table.close();
    } catch (const TableFull&) {
      ++full;
    }
    std::filesystem::remove(fill);
    std::map<std::string, std::string> found;
    TokyoTable table(directory, "table", TokyoTable::Use::read);
    for (auto at = table.walk(""); at->valid(); at->next()) found.emplace(at->key(), at->value());
    CHECK(found == content);
  }
  CHECK(full > 50);
}

int main(int argc, char** argv) {
  if (argc == 3 && argv[1] == std::string_view("--small-disk")) {
    a_full_disk_leaves_a_table_as_it_was(argv[2]);
    return failures ? 1 : 0;
  }
  if (argc > 2) return 64;
  char own[] = "/tmp/gq-unit.XXXXXX";  // without an argument, it uses its own directory
  std::string directory = argc == 2 ? argv[1] : mkdtemp(own);
  repeated_start_is_not_a_new_one(directory + "/a");
  owners_hold_until_their_command_has_ended();
  owner_files_are_reused_only_when_unlocked(directory);
  claim_fits_into_one_record(directory + "/b");
  ends_of_other_nodes_are_recorded(directory + "/ends");
  ends_are_of_one_job(directory + "/of-one");
  only_plain_files_are_opened_below(directory + "/plain");
  manifests_name_files_of_a_store(directory + "/manifests");
  a_listing_misses_no_job(directory + "/listing");
  several_visits_read_the_same_as_one(directory + "/pages");
  check_compares_the_index(directory + "/check");
  appended_records_can_be_read(directory + "/readable");
  reading_leaves_the_seal(directory + "/seal");
  old_snapshots_take_no_memory(directory + "/old");
  records_survive_hostile_bytes();
  owners_have_names();
  record_format_is_stable();
  client_records_are_bounded();
  parsed_records_can_be_written();
  references_grow_to_a_bound(directory + "/references");
  an_id_twice_is_no_lack_of_room(directory + "/twice");
  a_key_is_freed_once_for_a_group(directory + "/expired");
  a_claim_is_not_chosen_twice(directory + "/claimed-once");
  jobs_are_woken_by_and_by(directory + "/woken");
  one_bad_record_does_not_block_a_group();
  small_values();
  printed_text_controls_no_terminal();
  packets_are_checked();
  job_sizes_are_known_before_workloads();
  room_is_given_in_turn();
  no_server_has_all_the_room();
  slow_workloads_are_recognized();
  silent_servers_are_given_up();
  answers_are_sent_from_files(directory + "/answer");
  repeated_messages_do_not_fill_the_log();
  test_replication();
  copies_are_counted_before_an_answer();
  a_quorum_counts_identities();
  another_store_has_no_copies();
  foreign_copies_are_bounded();
  all_see_the_same_owner();
  jobs_of_other_nodes_are_sent();
  answers_travel();
  parts_make_a_workload(directory + "/parts");
  unfinished_workloads_are_bounded(directory + "/arriving");
  a_part_in_doubt_is_not_used(directory + "/doubt");
  many_new_records_are_folded_in_rounds(directory + "/rounds");
  verdicts_are_read();
  parts_grow_with_quick_answers();
  merged_jobs_are_known();
  raw_jobs_are_decided();
  transfers_are_checked(directory);
  sessions_end();
  a_server_is_chosen();
  waiting_ends(directory);
  wrong_hints_are_not_believed(directory + "/c");
  synced_end_only_grows(directory + "/d");
  a_new_store_knows_that_nothing_was_synced(directory + "/fresh");
  a_torn_workload_stays_torn_when_it_is_cleaned(directory + "/torn");
  positions_are_bounded(directory + "/positions");
  later_types_have_a_format_of_their_own(directory + "/later-types");
  a_group_reads_what_each_node_reads(directory + "/reads");
  test_work();
  test_view();
#ifdef GQ_DEVELOPER
  long_work_is_not_done_in_a_short_hold(Directory(directory).make_below("holds").path());
#endif
  a_record_is_folded_in_parts();
  copies_are_lost_where_they_were();
  room_is_left();
  owed_room_is_counted(directory + "/e");
  jobs_wait_for_their_time(directory + "/later");
  test_state(directory);
  if (argc < 2) std::filesystem::remove_all(directory);
  return failures ? 1 : 0;
}
