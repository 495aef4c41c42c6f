#include <fcntl.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <optional>
#include <set>

#include "gq/base/text.hpp"
#include "gq/base/ulid.hpp"
#include "gq/journal/local_disk.hpp"
#include "gq/store/check.hpp"
#include "gq/store/cleaner.hpp"
#include "gq/store/queue.hpp"
#include "gq/store/snapshot.hpp"
#include "machine.hpp"
#include "simulated_table.hpp"
#include "storage.hpp"

namespace simulate {
namespace {

constexpr char function[] = "f";
constexpr char temporary[] = "tmp";  // the directory with the second table of a check
constexpr char snapshots[] = "/snapshots", restored[] = "/restored";

// A job's ID says its number, so that a seed gives the same IDs each time.
std::string id_of(size_t number) { return gq::padded(number, gq::ulid_size); }

class StoreHistory final : public Machine {
 public:
  StoreHistory(const Plan& plan, std::string* log, Storage* storage)
      : Machine(plan, log),
        m_storage(storage),
        m_remembers(m_random.chance(2)),
        m_checks(m_random.chance(4)),
        m_makes_copies(!storage && m_random.chance(3) && m_setting.disk_size == 0),
        m_hand(hand_of(plan)) {
    if (m_random.chance(2)) m_disk.set_apart(snapshots + 1);
    gq::use_tables(open_simulated_table);
    ::setenv("TMPDIR", (std::string("/") + temporary).c_str(), 1);
  }
  ~StoreHistory() { gq::use_tables({}); }

 private:
  // What the history knows of a job.
  struct Sent {
    std::string data;
    bool acknowledged = false;
    size_t ends = 0;                           // how many records of its end may be on the disk
    bool has_ended = false;                    // one was acknowledged
    const Machine::Process* holder = nullptr;  // the living process that has claimed it
  };
  struct Process : Machine::Process {
    using Machine::Process::Process;
    std::unique_ptr<gq::Queue> store;
    std::unique_ptr<gq::Owners> owners;
    std::vector<gq::Claim> claims;
  };
  // What a snapshot has to hold: the jobs that were acknowledged before it was begun, without those whose end was.
  struct Copy {
    std::set<std::string> jobs, ended;
    bool may_be_gone = false;
  };
  static Process& own(Machine::Process& process) { return static_cast<Process&>(process); }

  std::unique_ptr<Machine::Process> make_process(uint64_t seed, long number) override {
    return std::make_unique<Process>(*this, seed, number);
  }
  bool is_open(const Machine::Process& process) const override {
    return static_cast<const Process&>(process).owners != nullptr;
  }
  void open(Machine::Process& process) override { open_at(own(process), "/"); }
  void open_at(Process& p, const std::string& path) {
    close(p);
    const gq::Directory directory = gq::Directory::of_store(path, true);
    const auto mirror = m_storage ? m_storage->open(directory, p.disk, p.number) : nullptr;
    gq::Settings settings = gq::open_settings(directory, true);
    if (m_store_id.empty()) m_store_id = settings.store_id;
    if (!p.disk.is_dead() && settings.store_id != m_store_id) fault("the store is another one");
    settings.limits = {.remember = gq::Millis(m_remembers ? 24 * 3600'000 : 0),
                       .clean_after = gq::Millis(0),
                       .segment_size = m_setting.segment_size};
    p.store = mirror
                  ? std::make_unique<gq::Queue>(directory, settings, mirror, mirror)
                  : std::make_unique<gq::Queue>(
                        directory, settings, std::make_shared<gq::LocalDisk>(directory, settings.store_id, p.number));
    p.owners = std::make_unique<gq::Owners>(p.store->owners_directory(), 0);
  }
  void close(Machine::Process& process) override {
    Process& p = own(process);
    for (auto& [id, sent] : m_sent)
      if (sent.holder == &process) sent.holder = nullptr;
    if (m_maker == &process) m_maker = nullptr;
    p.claims.clear();
    p.owners.reset();
    p.store.reset();
  }
  void stop() override {
    const auto event = m_storage ? m_storage->stop(m_disk) : Storage::Event::none;
    if (event == Storage::Event::saved) m_saved = m_sent;
    if (event != Storage::Event::set_back) return;
    note("set back");
    for (auto& [id, sent] : m_sent) {
      const auto was = m_saved.find(id);
      sent = was == m_saved.end() ? Sent{.data = sent.data} : was->second;
    }
  }
  // The process ends. Another one takes its place.
  void give_up(Machine::Process& process) override { close(process); }

  void step(Machine::Process& process) override {
    Process& p = own(process);
    if (m_checks && p.random.chance(10)) {
      finds_fault(p);
      return;
    }
    if (m_makes_copies && p.random.chance(8)) return p.random.chance(4) ? prune(p) : make_snapshot(p);
    switch (p.random.below(m_setting.cleans ? 10 : 8)) {
      case 0:
      case 1:
        return add(p);
      case 2:
      case 3:
        return claim(p, 1 + p.random.below(3));
      case 4:
      case 5:
        return end(p);
      case 6:
        return look(p);
      case 7:
        return drop(p);
      case 8:
        return gq::Cleaner(*p.store).sweep(true);
      default:
        gq::Cleaner(*p.store).step();
    }
  }

  // Small jobs, seldom a large one, and jobs that were sent before and come again.
  void add(Process& p) {
    std::vector<gq::NewJob> jobs;
    std::vector<std::string> ids;
    for (uint64_t left = 1 + p.random.below(3); left > 0; --left) {
      std::string id = id_of(m_sent.size());
      const bool again = m_remembers && !m_sent.empty() && p.random.chance(6);
      if (again) {
        id = id_of(p.random.below(m_sent.size()));
      } else {
        const uint64_t size = p.random.chance(10) ? gq::max_inline_data + 1 + p.random.below(1000)
                              : is_small()        ? p.random.below(60'000)
                                                  : p.random.below(p.random.chance(3) ? 2000 : 100);
        m_sent[id].data.assign(size, static_cast<char>('a' + m_sent.size() % 26));
      }
      if (std::find(ids.begin(), ids.end(), id) != ids.end()) continue;
      ids.push_back(id);
      jobs.push_back(gq::make_job({.function = function}, m_sent[id].data, id));
      jobs.back().add.given = m_remembers && p.random.chance(2);
      jobs.back().encode();
    }
    const auto answers = p.store->add(jobs);
    for (size_t i = 0; i < jobs.size() && !p.disk.is_dead(); ++i) {
      if (answers[i].outcome == gq::Outcome::queued) acknowledge(ids[i]);
      else if (answers[i].outcome != gq::Outcome::refused && answers[i].outcome != gq::Outcome::unknown)
        fault("job " + ids[i] + " is answered: " + answers[i].reason);
      else note("refused " + ids[i] + ": " + answers[i].reason);
    }
  }
  void acknowledge(const std::string& id) {
    note("acknowledged " + id);
    m_played.acknowledged += !std::exchange(m_sent[id].acknowledged, true);
  }

  void claim(Process& p, size_t most) {
    std::set<std::string> held;
    for (const auto& c : p.claims) held.insert(c.id);
    auto claims =
        p.store->claim({.functions = {function}, .most = most, .owner = p.owners->name(), .held = std::move(held)});
    if (p.disk.is_dead()) return;
    for (auto& c : claims.jobs) {
      note("P" + std::to_string(p.number) + " has claimed " + c.id);
      auto at = m_sent.find(c.id);
      if (at == m_sent.end()) return fault("a job is claimed that nobody sent, " + c.id);
      if (at->second.has_ended) return fault("job " + c.id + " is claimed after its end");
      if (at->second.holder) return fault("job " + c.id + " is claimed twice");
      at->second.holder = &p;
      p.claims.push_back(std::move(c));
    }
  }

  // Runs a job that the process has claimed. Of a job that was not acknowledged, a power cut may have taken a part of
  // the workload. It is dead then.
  void end(Process& p) {
    if (p.claims.empty()) return;
    const auto at = p.claims.begin() + static_cast<long>(p.random.below(p.claims.size()));
    const gq::Claim claim = *at;
    const bool is_whole = has_workload(p, claim.id, claim.job);
    if (p.disk.is_dead() || m_played.fault) return;
    p.claims.erase(at);
    const uint32_t start = claim.job.starts + 1;
    const std::string& owner = claim.job.owner;
    const gq::Millis now = gq::now_ms();
    Sent& sent = m_sent.at(claim.id);
    ++sent.ends;
    if (is_whole) {
      p.store->append({gq::encode_record(gq::event::Start{.id = claim.id, .at = now, .owner = owner, .start = start})});
      if (m_storage && !p.disk.is_dead() && p.random.chance(3)) {
        note("marked as done " + claim.id);
        m_storage->mark_done(claim.id);
        sent.has_ended = true;
        if (p.number > 0 && p.random.chance(2)) return close(p);  // the process dies
      }
      p.store->append({gq::encode_record(gq::event::Done{.id = claim.id, .at = now, .owner = owner, .start = start})});
    } else {
      p.store->append(
          {gq::encode_record(gq::event::Dead{.id = claim.id, .at = now, .owner = owner, .start = start - 1})});
    }
    p.store->settle();
    if (p.disk.is_dead()) return;
    note("ended " + claim.id);
    sent.has_ended = true;
    sent.holder = nullptr;
    if (std::string blob = gq::blob_of(claim.id, claim.job); !blob.empty()) p.store->forget_blob(blob);
  }
  bool has_workload(Process& p, const std::string& id, const gq::Job& job) {
    std::string reason;
    const auto workload = p.store->workload(id, job, reason);
    if (p.disk.is_dead()) return false;
    const Sent& sent = m_sent.at(id);
    if (!workload && sent.acknowledged) fault("job " + id + " has no workload: " + reason);
    if (!workload) return false;
    if (workload->blob ? job.size != sent.data.size() || job.sum != gq::sum64(sent.data) : workload->data != sent.data)
      fault("job " + id + " has another workload");
    return true;
  }

  void drop(Process& p) {
    if (m_sent.empty()) return;
    auto at = m_sent.begin();
    std::advance(at, static_cast<long>(p.random.below(m_sent.size())));
    auto& [id, sent] = *at;
    if (!sent.acknowledged) return;
    ++sent.ends;
    const auto why = p.store->change(gq::Change::drop, {id}).front();
    if (p.disk.is_dead()) return;
    if (!why) {
      note("dropped " + id);
      if (sent.holder) fault("job " + id + " is dropped, although a process runs it");
      sent.has_ended = true;
    } else {
      --sent.ends;
    }
  }

  // Each job that was acknowledged is there.
  void look(Process& p) {
    std::set<std::string> all;
    for (const auto& [id, sent] : m_sent)
      if (sent.acknowledged && sent.ends == 0) all.insert(id);
    std::vector<gq::Claim> jobs;
    p.store->look([&](gq::Fold& fold) {
      jobs.clear();
      for (const auto& id : all)
        if (auto job = fold.get(id)) jobs.push_back({id, *job});
    });
    if (p.disk.is_dead()) return;
    for (const auto& c : jobs) {
      if (gq::has_ended(c.job) && m_sent.at(c.id).ends == 0) return fault("job " + c.id + " ended by itself");
      all.erase(c.id);
    }
    for (const auto& id : all)
      if (m_sent.at(id).ends == 0) return fault("job " + id + " was acknowledged and is not there");
  }

  // Checks the store. Returns whether the check found something, or could not find out. If the disk is honest, nothing
  // is damaged or missing, and what is torn was never acknowledged.
  bool finds_fault(Process& p) {
    gq::Directory("/").make_below(temporary);
    std::map<gq::Lsn, std::string> records;  // of the jobs that were acknowledged
    p.store->look([&](gq::Fold& fold) {
      records.clear();
      for (const auto& [id, sent] : m_sent)
        if (auto job = sent.acknowledged && sent.ends == 0 ? fold.get(id) : std::nullopt) records[job->location] = id;
    });
    bool is_sound = true;
    gq::check_store(*p.store, [&](const gq::Finding& f) {
      if (p.disk.is_dead()) return;
      const std::string what = std::string(f.kind) + " at " + std::to_string(f.lsn) + " " + f.id + ": " + f.text;
      note("the check says: " + what);
      const bool is_torn = std::string_view(f.kind) == "torn";
      is_sound = is_sound && !f.is_bad && std::string_view(f.kind) != "unknown";
      if (may_blame_disk() || m_is_meddled) return;
      if (f.is_bad) return fault("nothing failed, but the check says: " + what);
      const auto at = records.lower_bound(f.lsn);
      if (is_torn && at != records.end() && at->first < f.lsn + std::strtoull(f.text.c_str(), nullptr, 10))
        fault("job " + at->second + " was acknowledged, but the check says: " + what);
    });
    return !is_sound;
  }

  // One process at a time makes or removes snapshots, because the clock would decide about the names of two that are
  // made at once.
  void make_snapshot(Process& p) try {
    if (m_maker) return;
    m_maker = &p;
    Copy copy;
    for (const auto& [id, sent] : m_sent) {
      if (sent.has_ended) copy.ended.insert(id);
      else if (sent.acknowledged && sent.ends == 0) copy.jobs.insert(id);
    }
    m_unfinished.push_back(copy);
    const gq::Snapshot made = gq::create_snapshot(*p.store, snapshots, {});
    if (p.disk.is_dead()) return;
    note("made snapshot " + made.name);
    if (made.damaged && !may_blame_disk()) fault("nothing failed, but a snapshot is marked as damaged");
    forget_ended(copy);
    m_copies[made.name] = std::move(copy);
    m_unfinished.pop_back();
    m_maker = nullptr;
  } catch (const gq::Error& e) {  // an older snapshot that cannot be read is bad data
    throw gq::Error(may_blame_disk() ? gq::Exit::storage : e.code(), e.what());
  }
  // A job that has ended since may have ended before the snapshot's position.
  void forget_ended(Copy& copy) const {
    std::erase_if(copy.jobs, [&](const auto& id) { return m_sent.at(id).ends > 0; });
  }

  void prune(Process& p) try {
    constexpr size_t kept = 2;
    if (m_maker || !gq::file_exists(snapshots)) return;
    m_maker = &p;
    // If a snapshot cannot be read here, the call below may read it, and then remove others than this function expects.
    bool may_remove_any = false;
    const auto all =
        gq::list_snapshots(snapshots, [&](const std::string&, const std::string&) { may_remove_any = true; });
    for (const auto& snapshot : all) may_remove_any |= snapshot.damaged;
    std::set<std::string> removed;
    for (size_t i = 0; i + kept < all.size(); ++i) removed.insert(all[i].name);
    for (auto& [name, copy] : m_copies) copy.may_be_gone |= may_remove_any || removed.contains(name);
    const auto ignore = [](const std::string&, const std::string&) {};
    gq::prune_snapshots(snapshots, {.last = kept}, ignore);
    m_maker = nullptr;
  } catch (const gq::Error& e) {  // "there is none" and "it is damaged" are failed calls, too
    throw gq::Error(may_blame_disk() ? gq::Exit::storage : e.code(), e.what());
  }

  // Each finished snapshot is there, and each one that is there is whole. Returns one of them.
  std::optional<gq::Snapshot> check_snapshots() {
    for (auto& copy : m_unfinished) forget_ended(copy);
    if (!gq::file_exists(snapshots)) {
      if (!m_copies.empty()) fault("all snapshots are gone");
      return std::nullopt;
    }
    const auto bad = [&](const std::string& path, const std::string& why) {
      if (!may_blame_disk()) fault("nothing failed, but of a snapshot, " + path + ": " + why);
    };
    const auto all = gq::list_snapshots(snapshots, bad);
    std::set<std::string> names;
    for (const auto& snapshot : all) names.insert(snapshot.name);
    for (const auto& [name, copy] : m_copies)
      if (!copy.may_be_gone && !names.contains(name)) fault("snapshot " + name + " was made and is not there");
    if (all.empty()) return std::nullopt;
    const gq::Snapshot& one = all[m_hand.below(all.size())];
    gq::verify_snapshot(one, bad, {});
    return one;
  }

  // Restores a snapshot to another store, after which the power may be cut, and runs all jobs there.
  void run_copy(Process& p, const gq::Snapshot& snapshot) {
    note("restores " + snapshot.name);
    gq::restore_snapshot(snapshot, restored, {});
    close(p);
    p.disk.die();
    if (m_hand.chance(2)) m_disk.lose_power();
    const auto process = make_process(2, 0);
    gq::use_disk(&process->disk);
    Process& q = own(*process);
    open_at(q, restored);
    finds_fault(q);
    std::set<std::string> found;
    for (bool more = true; more && !m_played.fault;) {
      const auto claims =
          q.store->claim({.functions = {function}, .most = 100, .owner = q.owners->name(), .held = found});
      more = !claims.jobs.empty();
      for (const auto& c : claims.jobs) {
        if (!m_sent.contains(c.id)) return fault("a snapshot has a job that nobody sent, " + c.id);
        if (!found.insert(c.id).second) return fault("job " + c.id + " of a snapshot is claimed twice");
        has_workload(q, c.id, c.job);
        q.store->append({gq::encode_record(
            gq::event::Dead{.id = c.id, .at = gq::now_ms(), .owner = c.job.owner, .start = c.job.starts})});
      }
      q.store->settle();
    }
    const auto is_in = [&](const Copy& copy) {
      return std::includes(found.begin(), found.end(), copy.jobs.begin(), copy.jobs.end()) &&
             std::none_of(copy.ended.begin(), copy.ended.end(), [&](const auto& id) { return found.contains(id); });
    };
    const auto known = m_copies.find(snapshot.name);
    if (known != m_copies.end() ? !is_in(known->second) : std::none_of(m_unfinished.begin(), m_unfinished.end(), is_in))
      fault("snapshot " + snapshot.name + " does not have the jobs of the time when it was begun");
    close(q);
    q.disk.die();
    gq::use_disk(nullptr);
  }

  // A hand from outside removes or alters a file, after all was synced. Then either the check says so, or says that it
  // cannot tell; or the change does no harm, and each job can be run.
  void meddle(Process& p) {
    p.store->sync_all();
    close(p);
    const gq::Directory root("/");
    std::vector<std::pair<gq::Directory, std::string>> files;
    auto choose_in = [&](const gq::Directory& directory) {
      for (const auto& name : directory.names()) files.emplace_back(directory, name);
    };
    const auto kind = m_hand.below(8);
    if (kind < 4) choose_in(root.below("journal"));
    else if (kind < 6)
      for (const auto& part : root.below("blobs").names()) choose_in(root.below("blobs/" + part));
    else files.emplace_back(root, kind == 6 ? "append.lock" : gq::index_name);
    if (files.empty()) return;
    const auto& [directory, name] = files[m_hand.below(files.size())];
    m_is_meddled = true;
    const gq::Fd file = directory.find(name, O_RDWR);
    const uint64_t size = file ? gq::file_size(file.get()) : 0;
    if (size == 0 || m_hand.chance(4)) {
      note("a hand removes " + name);
      directory.remove(name);
    } else if (const uint64_t at = m_hand.below(size); m_hand.chance(3)) {
      note("a hand truncates " + name + " to " + std::to_string(at));
      gq::disk().ftruncate(file.get(), static_cast<off_t>(at));
    } else {
      std::string bytes(std::min(size - at, 1 + m_hand.below(100)), '\0');
      gq::read_at(file.get(), bytes.data(), bytes.size(), at);
      note("a hand alters " + std::to_string(bytes.size()) + " bytes of " + name + " at " + std::to_string(at));
      for (char& c : bytes) c = static_cast<char>(c ^ (1 + m_hand.below(255)));
      gq::write_all_at(file.get(), bytes, at, name);
    }
  }

  // Each job that was acknowledged can be run to its end.
  void run_all(Process& p) {
    for (bool more = true; more && !m_played.fault;) {
      claim(p, 100);
      more = !p.claims.empty();
      while (!p.claims.empty() && !m_played.fault) end(p);
    }
    for (const auto& [id, sent] : m_sent)
      if (sent.acknowledged && sent.ends == 0) return fault("job " + id + " was acknowledged and is not run");
  }

  void check(Machine::Process& process, bool last) override {
    Process& p = own(process);
    look(p);
    if (is_small()) return check_small(p, last);
    finds_fault(p);
    const auto snapshot = check_snapshots();
    add(p);
    if (!last || m_played.fault) return;
    if (!m_hand.chance(4)) {
      run_all(p);
      // One that is marked as damaged may lack workloads that could not be read.
      if (snapshot && !snapshot->damaged && !m_played.fault) run_copy(p, *snapshot);
      return;
    }
    meddle(p);
    try {
      open(p);
      if (finds_fault(p)) return;
    } catch (const gq::Error& e) {
      note(e.what());
      return;
    }
    note("the check says that all is sound");
    look(p);
    if (!m_played.fault) run_all(p);
    if (m_played.fault)
      m_played.fault = "a hand has changed a file, and the check says that all is sound, but " + *m_played.fault;
  }

  // On a disk of fixed size jobs may be refused, but each job that was acknowledged can be run, and cleaning makes
  // room.
  bool is_small() const { return m_setting.disk_size > 0; }
  // Adds jobs until the store refuses one.
  void fill(Process& p) {
    for (auto before = m_played.acknowledged - 1; m_played.acknowledged > before && !m_played.fault;) try {
        before = m_played.acknowledged;
        add(p);
      } catch (const gq::Error& e) {
        if (e.code() != gq::Exit::storage) throw;
        note(e.what());
      }
  }
  void check_small(Process& p, bool last) {
    try {
      add(p);
      finds_fault(p);
    } catch (const gq::Error& e) {
      if (e.code() != gq::Exit::storage) throw;
      note(e.what());
    }
    if (!last || m_played.fault) return;
    if (!m_plan.is_short || m_hand.chance(8)) fill(p);
    run_all(p);
    // To the cleaner all files of the simulated disk are old. So it would clean finished jobs that it must not forget
    // again and again.
    if (m_remembers) return;
    gq::Cleaner cleaner(*p.store);
    for (int steps = 0; cleaner.step(); ++steps)
      if (steps == 30) return;  // very small segments take very many calls
    cleaner.sweep(true);
    const auto before = m_played.acknowledged;
    add(p);
    if (m_played.acknowledged == before) fault("all jobs have ended, and the store is clean, but it takes no job");
  }

  static uint64_t hand_of(const Plan& plan) { return plan.seed * 31 + plan.cut_at * 7 + plan.turn; }

  Storage* const m_storage;   // null: the disk
  const bool m_remembers;     // finished IDs
  const bool m_checks;        // processes check the store while others change it
  const bool m_makes_copies;  // processes make snapshots
  Random m_hand;
  bool m_is_meddled = false;
  std::string m_store_id;
  std::map<std::string, Sent> m_sent, m_saved;  // m_saved: when the storage was saved
  std::map<std::string, Copy> m_copies;         // by the name of the snapshot
  std::vector<Copy> m_unfinished;               // nobody knows the name
  const Machine::Process* m_maker = nullptr;
};

// An owner's file says what machine it is of; the library asks once. So that a history is played again alike, that is
// done before the first one.
struct Always final : SimulatedProcess::Kernel {
  bool runs(SimulatedProcess&, const char*, const std::string&) override { return true; }
  void wait(SimulatedProcess&) override {}
};
void warm_up() {
  SimulatedDisk disk(sector, 1);
  Always always;
  SimulatedProcess process(disk, always);
  gq::use_disk(&process);
  gq::Owners(gq::Directory("/"), 0);
  gq::use_disk(nullptr);
}

}  // namespace

Played play_store(const Plan& plan, std::string* log) { return play_store(plan, log, nullptr); }

Played play_store(const Plan& plan, std::string* log, Storage* storage) {
  [[maybe_unused]] static const bool is_warm = (warm_up(), true);
  return StoreHistory(plan, log, storage).play();
}

}  // namespace simulate
