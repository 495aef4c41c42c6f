// gq-bytes DIRECTORY STEP: alters a small journal in every way. With STEP 1, it cuts the journal at each byte, and
// flips each bit of each byte (except a segment's version); with a greater STEP it does so at some bytes, at most STEP
// apart, with one random bit of each. It also appends garbage, and removes, swaps and duplicates segments. After each
// alteration the store must open, show no job and no workload that was not queued, and accept a new job. Only swapped
// segments may lose more than the altered records. A loss must be reported, except at the end of the journal, as after
// a power cut. The same is done with a cleaned journal.
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>

#include "gq/base/text.hpp"
#include "gq/base/ulid.hpp"
#include "gq/database/open_store.hpp"
#include "gq/store/check.hpp"
#include "gq/store/cleaner.hpp"

namespace {

using namespace gq;
namespace fs = std::filesystem;

int failures = 0, cases = 0;

void wrong(const std::string& what, const std::string& text) {
  printf("%s: %s\n", what.c_str(), text.c_str());
  ++failures;
}

std::string read_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void write_file(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

struct Journal_ {
  std::map<std::string, std::string> segments;  // by file name
  std::map<std::string, std::string> jobs;      // workloads by ID
  std::map<std::string, State> states;
};

// Builds a journal of three segments. It contains jobs in every state, and a job whose workload is the journal so far.
// With `cleaned`, it contains many more jobs at first, and the cleaner makes the first two segments one.
Journal_ build(const fs::path& directory, bool cleaned) {
  Journal_ made;
  auto segment = [&] {
    fs::path last;
    for (const auto& e : fs::directory_iterator(directory / "journal"))
      if (e.path().extension() == ".gqj" && e.path() > last) last = e.path();
    return last;
  };
  std::vector<std::string> workloads = {"", "x", std::string(300, 'y'), "four", "five", "six"};
  for (int round = 0; round < 3; ++round) {
    if (cleaned && round == 0) {
      fs::create_directory(directory);
      fs::permissions(directory, fs::perms::owner_all);
      write_file(directory / "gq.json",
                 R"({"format": 1, "store": ")" + new_ulid() + R"(", "clean_after": "0s", "remember": "0s"})");
    }
    Queue store = open_store(directory, true);
    Owners owners(store.owners_directory(), 1);
    Owner owner = owners.take();
    if (cleaned && round < 2) {
      std::string data(300, 'd');
      std::vector<NewJob> jobs(100);
      for (auto& j : jobs) j = make_job({"done"}, data);
      store.add(jobs);
      for (const auto& j : jobs) {
        store.append({encode_record(event::Done{.id = j.add.id, .at = now_ms()})});
      }
      store.settle();
    }
    if (round == 1) workloads.push_back(read_file(segment()));
    std::vector<NewJob> jobs;
    for (const auto& w : workloads) jobs.push_back(make_job({"f"}, w));
    store.add(jobs);
    for (const auto& j : jobs) made.jobs[j.add.id] = j.data;
    ClaimRequest request;
    request.functions = {"f"};
    request.most = 4;
    request.owner = owners.name();
    auto claims = store.claim(request).jobs;
    for (size_t i = 0; i < 3; ++i)
      store.append({encode_record(event::Start{
          .id = claims.at(i).id, .at = now_ms(), .owner = owner.name, .start = claims[i].job.starts + 1})});
    store.append({encode_record(
        event::Done{.id = claims[0].id, .at = now_ms(), .owner = owner.name, .start = claims[0].job.starts + 1})});
    store.append({encode_record(event::Dead{.id = claims[1].id,
                                            .at = now_ms(),
                                            .owner = owner.name,
                                            .start = claims[1].job.starts + 1,
                                            .why = "because"})});
    store.settle();
    workloads.resize(3);
    // The next record begins a new segment.
    if (round < 2) std::ofstream(segment(), std::ios::binary | std::ios::app) << '\0';
  }
  Queue store = open_store(directory, false);
  if (cleaned) {
    ::usleep(200'000);  // younger segments are not cleaned
    Cleaner cleaner(store);
    while (cleaner.step()) continue;
  }
  store.look([&](Fold& fold) {
    for (const auto& [id, data] : made.jobs)
      if (auto job = fold.get(id)) made.states[id] = job->state;
  });
  for (const auto& e : fs::directory_iterator(directory / "journal"))
    if (e.path().extension() == ".gqj") made.segments[e.path().filename()] = read_file(e.path());
  return made;
}

// `lost`: how many jobs may be missing or have an unreadable workload. `reported`: whether something must be reported.
void examine(const fs::path& directory, const Journal_& made, const std::map<std::string, std::string>& segments,
             const std::string& what, size_t lost, bool reported) {
  ++cases;
  for (const auto& e : fs::directory_iterator(directory / "journal")) fs::remove(e.path());
  for (const char* name : {"index.tcb", "index.tcb.wal", "index.seal"}) fs::remove(directory / name);
  if (cases % 2) fs::remove(directory / "append.lock");
  for (const auto& [name, bytes] : segments) write_file(directory / "journal" / name, bytes);
  try {
    std::string added;
    for (int round = 0; round < 2; ++round) {
      Queue store = open_store(directory, false);
      std::vector<Claim> found;
      store.look([&](Fold& fold) {
        for (char order : std::string("cqdx")) {
          std::string cursor;
          std::vector<std::string> ids;
          fold.page(order, "", 10000, cursor, ids);
          for (const auto& id : ids) found.push_back({id, *fold.get(id)});
        }
      });
      size_t missing = 0;
      for (const auto& [id, state] : made.states) {
        auto it = std::find_if(found.begin(), found.end(), [&id = id](const Claim& c) { return c.id == id; });
        missing += it == found.end() && state != State::finished;
      }
      for (const auto& c : found) {
        if (c.id == added) continue;
        auto known = made.jobs.find(c.id);
        if (known == made.jobs.end()) {
          wrong(what, "there is a job that nobody queued: " + c.id);
          continue;
        }
        std::string reason;
        auto w = store.workload(c.id, c.job, reason);
        if (w && w->data != known->second) wrong(what, "a wrong workload would run");
        missing += !w && made.states.count(c.id) && made.states.at(c.id) != State::finished;
      }
      if (missing > lost) wrong(what, counted(missing, "job") + " lost");
      bool said = false;
      check_store(store, [&](const Finding& f) {
        if (std::string_view(f.kind) == "index") wrong(what, f.text);
        said |= f.is_bad || std::string_view(f.kind) == "torn";
      });
      if (reported && !said && (round > 0 || missing > 0)) wrong(what, "nothing is reported");
      if (round == 0) {
        NewJob job = make_job({"f"}, "new");
        added = job.add.id;
        if (store.add({job}).front().outcome != Outcome::queued) wrong(what, "it takes no job");
      } else if (std::none_of(found.begin(), found.end(), [&](const Claim& c) { return c.id == added; })) {
        wrong(what, "the new job is lost");
      }
    }
  } catch (const std::exception& e) {
    wrong(what, std::string("refused: ") + e.what());
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return 64;
  const fs::path directory = argv[1];
  const size_t step = std::max(strtoul(argv[2], nullptr, 10), 1ul);
  const bool all = step == 1;
  std::mt19937 random{std::random_device{}()};
  for (bool cleaned : {false, true}) {
    fs::remove_all(directory);
    const Journal_ made = build(directory, cleaned);
    if (made.segments.size() != (cleaned ? 2 : 3))
      wrong("building", "there are " + counted(made.segments.size(), "segment"));
    const size_t everything = made.jobs.size();
    for (const auto& [name, bytes] : made.segments) {
      auto with = [&, &name = name](const std::string& other) {
        auto segments = made.segments;
        segments[name] = other;
        return segments;
      };
      bool last = name == made.segments.rbegin()->first;
      size_t in_it = cleaned && !last ? 14 : 7;  // jobs that have a record in one segment
      for (size_t n = 0; n < bytes.size(); n += 1 + random() % step) {
        std::string at = name + ", " + std::to_string(n);
        examine(directory, made, with(bytes.substr(0, n)), at + ": cut", in_it, !last);
        for (int bit = all ? 0 : static_cast<int>(random() % 8), end = all ? 8 : bit + 1; bit < end; ++bit) {
          // Bits 8 to 10 of a segment's version would make it a newer format, which is refused.
          if (n >= 8 && n < 12) continue;
          std::string flipped = bytes;
          flipped[n] = static_cast<char>(flipped[n] ^ (1 << bit));
          examine(directory, made, with(flipped), at + ", bit " + std::to_string(bit), 1, n < bytes.size() - 1);
        }
      }
      examine(directory, made, with(bytes + std::string(1000, '\xff')), name + ": garbage behind it", 0, true);
      examine(directory, made, with(bytes + bytes), name + ": twice", 0, true);
      auto segments = made.segments;
      segments.erase(name);
      examine(directory, made, segments, name + ": missing", in_it, !last);
      for (const auto& [other, other_bytes] : made.segments)
        if (other != name) {
          auto swapped = made.segments;
          swapped[name] = other_bytes;
          swapped[other] = bytes;
          examine(directory, made, swapped, name + " and " + other + ": swapped", everything, true);
          examine(directory, made, with(other_bytes), other + " in place of " + name, everything, true);
        }
    }
  }
  printf("%d alterations\n", cases);
  return failures ? 1 : 0;
}
