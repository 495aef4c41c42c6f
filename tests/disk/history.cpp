#include "history.hpp"

#include <fcntl.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <memory>
#include <set>

#include "fiber.hpp"
#include "gq/base/text.hpp"
#include "gq/base/ulid.hpp"
#include "gq/journal/journal.hpp"
#include "gq/journal/local_disk.hpp"
#include "gq/store/blobs.hpp"

namespace simulate {
namespace {

using gq::Lsn;
using Item = gq::JournalReader::Item;

constexpr char store_id[] = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
constexpr uint64_t most_calls = 200'000;  // the limit in one boot: a process that makes more calls does not end

// The event of each record: it has only the number of the record.
struct Note {
  static constexpr std::string_view type = "note";
  uint64_t number = 0;
  static void fields(auto& self, auto visit) { visit("n", self.number); }
};

std::string blob_id(uint64_t number) { return gq::padded(number, gq::ulid_size); }

struct Setting {
  size_t page_size, processes, steps, boots;
  uint64_t segment_size;
  unsigned turns;  // on average, another process runs after one call in this many
  unsigned kills;  // on average, a process dies at one call in this many; 0: never
  bool cleans, fills;
  SimulatedDisk::Faults faults;
};

Setting setting_of(const Plan& plan, Random& random) {
  auto any = [&](std::initializer_list<uint64_t> values) { return *(values.begin() + random.below(values.size())); };
  Setting s{};
  s.page_size = any({64, 512, 4096});
  s.segment_size = any({200, 600, 3000, 100'000});
  s.processes = 1 + random.below(3);
  s.steps = plan.is_short ? 1 + random.below(4) : 2 + random.below(30);
  s.boots = plan.is_short ? 2 : 1 + random.below(4);
  s.turns = static_cast<unsigned>(any({1, 2, 5, 40}));
  s.kills = plan.is_short || random.chance(2) ? 0 : 30 + static_cast<unsigned>(random.below(300));
  s.cleans = random.chance(2);
  s.fills = random.chance(4);
  if (random.chance(2)) s.faults.write_backs = static_cast<unsigned>(any({2, 8, 30}));
  if (random.chance(2)) s.faults.losses = static_cast<unsigned>(any({2, 5, 20}));
  if (random.chance(4)) s.faults.rereads = 4;
  if (random.chance(4)) s.faults.calls = static_cast<unsigned>(any({20, 100, 400}));
  return s;
}

class History : SimulatedProcess::Kernel {
 public:
  History(const Plan& plan, std::string* log)
      : m_plan(plan),
        m_log(log),
        m_random(plan.seed),
        m_setting(setting_of(plan, m_random)),
        m_disk(m_setting.page_size, plan.seed ^ (plan.cut_at * 1000003 + plan.turn) << 20) {}

  Played play() {
    for (size_t boot = 0; boot < m_setting.boots && !m_played.fault; ++boot) {
      ++m_played.boots;
      note("boot");
      run_boot(boot == 0);
      m_disk.set_faults({});
      m_disk.set_full(false);
      if (m_is_cut || m_random.chance(2)) {
        m_disk.lose_power();
        note("power cut\n" + m_disk.to_text());
      }
      if (!m_played.fault) check();
    }
    m_played.losses = m_disk.losses();
    return m_played;
  }

 private:
  struct Sent {
    std::string head, data;
    std::string blob;  // empty: the record has no blob
  };
  using Found = std::map<Lsn, uint64_t>;  // the numbers of records, by position

  // A process that has the journal open, and the records that it has appended but not synced.
  struct Process {
    Process(History& history, uint64_t seed) : disk(history.m_disk, history), random(seed) {}
    void open(uint64_t segment_size) {
      close();
      const gq::Directory store("/");
      durability = std::make_unique<gq::LocalDisk>(store, store_id, number);
      blobs = std::make_unique<gq::Blobs>(store.make_below("blobs"), *durability);
      journal = std::make_unique<gq::Journal>(store, store_id, *durability, segment_size);
    }
    void close() {
      unsettled.clear();
      blobs.reset();
      journal.reset();
      durability.reset();
    }
    SimulatedProcess disk;
    Random random;
    std::unique_ptr<gq::LocalDisk> durability;
    std::unique_ptr<gq::Journal> journal;
    std::unique_ptr<gq::Blobs> blobs;
    std::vector<uint64_t> unsettled;
    std::vector<gq::Placed> placed;
    std::unique_ptr<Fiber> fiber;
    long number = 0;
  };

  void note(const std::string& line) {
    if (m_log) *m_log += line + "\n";
  }
  void fault(const std::string& what) {
    if (!m_played.fault) m_played.fault = what;
    note("FAULT: " + what);
  }

  // Called before each call of a process. Returns false if the process dies there.
  bool runs(SimulatedProcess&, const char* call, const std::string& what) override {
    if (m_log) note("P" + std::to_string(m_current ? m_current->number : 0) + " " + call + " " + what);
    ++m_played.calls;
    if (!m_current) return true;
    if (++m_boot_calls == most_calls) fault("a process does not come to its end");
    if (m_boot_calls == m_cut_at) {
      m_is_cut = m_played.was_cut = true;
      note("all die");
    }
    if (m_is_cut || m_played.fault) return false;
    if (m_setting.kills && m_random.chance(m_setting.kills)) {
      note("killed");
      return false;
    }
    if (m_random.chance(m_setting.turns)) {
      m_current->fiber->yield();
      if (m_is_cut || m_played.fault) return false;
    }
    if (m_setting.fills && m_random.chance(50)) m_disk.set_full(m_random.chance(2));
    return true;
  }
  void wait(SimulatedProcess&) override {
    if (m_current) m_current->fiber->yield();
    else fault("a lock is held by nobody");
  }

  void run_boot(bool first) {
    m_boot_calls = 0;
    m_is_cut = false;
    m_cut_at = !first || m_plan.is_short ? first ? m_plan.cut_at : 0
               : m_random.chance(3)      ? 0
                                         : 1 + m_random.below(2000);
    if (!first && !m_plan.is_short && m_random.chance(2)) m_cut_at = 1 + m_random.below(500);
    m_disk.set_faults(m_setting.faults);
    std::vector<std::unique_ptr<Process>> processes;
    for (size_t n = 0; n < m_setting.processes; ++n) {
      auto& p = *processes.emplace_back(std::make_unique<Process>(*this, m_random.next()));
      p.number = static_cast<long>(n) + 1;
      p.fiber = std::make_unique<Fiber>([this, &p] { live(p); });
    }
    for (auto left = processes.size(); left > 0;) {
      size_t at = m_random.below(processes.size());
      while (processes[at]->fiber->has_ended()) at = (at + 1) % processes.size();
      m_current = processes[at].get();
      gq::use_disk(&m_current->disk);
      m_current->fiber->resume();
      left -= m_current->fiber->has_ended();
    }
    gq::use_disk(nullptr);
    m_current = nullptr;
  }

  void live(Process& p) {
    for (size_t left = m_setting.steps; left > 0 && !p.disk.is_dead(); --left) {
      try {
        if (!p.journal || p.random.chance(20)) p.open(m_setting.segment_size);
        step(p);
      } catch (const gq::Error& e) {
        note("P" + std::to_string(p.number) + " " + e.what());
        if (e.code() != gq::Exit::storage && e.code() != gq::Exit::retry)
          fault(std::string("a process says: ") + e.what());
        p.unsettled.clear();
      }
    }
    p.close();
    p.disk.die();
  }

  void step(Process& p) {
    switch (p.random.below(m_setting.cleans ? 10 : 9)) {
      case 0:
      case 1:
      case 2:
        return commit(p);
      case 3:
        return append(p);
      case 4:
        return settle(p);
      case 5:
        return sync_all(p);
      case 6: {
        const Found acknowledged = m_acknowledged;
        return look_for(acknowledged, read(*p.journal, p), p, false);
      }
      case 7:
        return look_up(p);
      case 8:
        return commit_again(p);
      default:
        return clean(p);
    }
  }

  std::vector<uint64_t> send(Process& p) {
    std::vector<uint64_t> numbers;
    for (uint64_t left = 1 + p.random.below(3); left > 0; --left) {
      const uint64_t number = m_sent.size();
      numbers.push_back(number);
      std::string data(p.random.below(p.random.chance(3) ? 2000 : 100), static_cast<char>('a' + number % 26));
      std::string blob(p.random.chance(4) ? 1 + p.random.below(6000) : 0, static_cast<char>('A' + number % 26));
      const std::string head = gq::encode_record_head(Note{number}, data.size(), gq::sum64(data));
      m_sent.push_back({head, std::move(data), std::move(blob)});
    }
    return numbers;
  }
  std::vector<gq::RecordBytes> bytes_of(const std::vector<uint64_t>& numbers) const {
    std::vector<gq::RecordBytes> bytes;
    for (auto number : numbers) bytes.emplace_back(m_sent[number].head, m_sent[number].data);
    return bytes;
  }
  static gq::Room room_of(Process& p) { return p.random.chance(3) ? gq::Room::completion : gq::Room::intake; }

  void acknowledge(Process& p, Lsn lsn, uint64_t number) {
    if (p.disk.is_dead()) return;
    auto [at, is_new] = m_acknowledged.emplace(lsn, number);
    if (!is_new && at->second != number) fault("two records are acknowledged at " + std::to_string(lsn));
    if (is_new) note("acknowledged " + std::to_string(number) + " at " + std::to_string(lsn));
    m_played.acknowledged += is_new;
  }
  void acknowledge(Process& p, const std::vector<gq::Placed>& placed, const std::vector<uint64_t>& numbers) {
    for (size_t i = 0; i < placed.size(); ++i) acknowledge(p, placed[i].lsn, numbers[i]);
  }

  // Stores the blob of a record, which must be on the disk before the record is appended. Returns the blob's locked
  // file. Some blobs arrive in parts.
  gq::Fd put_blob(Process& p, uint64_t number) {
    const std::string id = blob_id(number), &blob = m_sent[number].blob;
    const uint64_t sum = gq::sum64(blob);
    gq::Arrived arrived;
    if (p.random.chance(2)) {
      const uint64_t part = 1 + blob.size() / (1 + p.random.below(3));
      for (uint64_t offset = 0; offset < blob.size(); offset += part) {
        arrived.file.reset();  // releases its lock, too
        arrived = p.blobs->put_part(id, sum, offset, std::string_view(blob).substr(offset, part));
      }
      if (gq::file_size(arrived.file.get()) != blob.size() || gq::sum_part(arrived.file.get(), 0, blob.size()) != sum) {
        p.blobs->remove(arrived);
        arrived.file.reset();
      }
    }
    auto held = p.blobs->put(id, blob, sum, &arrived);
    if (!held && !p.disk.is_dead()) fault("the blob of record " + std::to_string(number) + " is another one");
    return held ? std::move(*held) : gq::Fd();
  }
  std::vector<gq::Fd> put_blobs(Process& p, const std::vector<uint64_t>& numbers) {
    std::vector<gq::Fd> held;
    for (auto number : numbers)
      if (!m_sent[number].blob.empty()) held.push_back(put_blob(p, number));
    return held;
  }

  void commit(Process& p) { commit(p, send(p)); }
  void commit(Process& p, const std::vector<uint64_t>& numbers) {
    const auto held = put_blobs(p, numbers);
    if (!p.disk.is_dead()) acknowledge(p, p.journal->commit(bytes_of(numbers), room_of(p)), numbers);
  }
  // Appends a record again, as for a client that has received no answer and repeats its request.
  void commit_again(Process& p) {
    if (!m_sent.empty()) commit(p, {p.random.below(m_sent.size())});
  }

  void append(Process& p) {
    if (!p.unsettled.empty()) return settle(p);
    const auto numbers = send(p);
    const auto held = put_blobs(p, numbers);
    p.placed = p.journal->append(bytes_of(numbers), room_of(p));
    p.unsettled = numbers;
  }
  void settle(Process& p) {
    if (p.unsettled.empty()) return;
    const auto numbers = std::exchange(p.unsettled, {});
    acknowledge(p, p.journal->make_safe(bytes_of(numbers), p.placed, room_of(p)), numbers);
  }
  void sync_all(Process& p) {
    Found found = read(*p.journal, p);
    p.journal->sync_all();
    // If the kernel reads a lost page again from the disk, records in it that the process had read are gone.
    const Found left = m_setting.faults.rereads ? read(*p.journal, p) : found;
    std::erase_if(found, [&](const auto& f) { return !left.contains(f.first); });
    for (const auto& [lsn, number] : found) acknowledge(p, lsn, number);
  }

  // Returns the number of a record; nullopt if its data is damaged, or if the journal itself wrote the record. Reports
  // a fault if the record is not as it was sent.
  std::optional<uint64_t> number_of(const gq::JournalReader& reader) {
    Note said;
    const std::string_view meta = gq::meta_of(reader.head(), reader.head_bytes());
    if (gq::type_of(meta) != Note::type || !gq::read_fields(meta, said) || !is_whole(reader)) return std::nullopt;
    const bool known = said.number < m_sent.size() && reader.head_bytes() == m_sent[said.number].head &&
                       reader.data() == m_sent[said.number].data;
    if (!known) fault("at " + std::to_string(reader.lsn()) + " a record is read that nobody sent");
    return known ? std::optional(said.number) : std::nullopt;
  }
  static bool is_whole(const gq::JournalReader& reader) { return gq::sum64(reader.data()) == reader.head().data_sum; }

  Found read(gq::Journal& journal, Process& p) {
    Found found;
    gq::JournalReader reader(journal, 0);
    m_damage.clear();
    const auto synced = journal.synced();
    for (auto item = reader.next(true); item != Item::end && !p.disk.is_dead(); item = reader.next(true)) {
      if (item == Item::record && is_whole(reader)) {
        if (auto number = number_of(reader)) found[reader.lsn()] = *number;
      } else if (item == Item::missing) {
        m_damage = "missing at " + std::to_string(reader.lsn());
      } else if (item != Item::torn && reader.lsn() < synced.value_or(UINT64_MAX) && !reader.never_synced()) {
        m_damage = "damage at " + std::to_string(reader.lsn());
      }
    }
    return found;
  }

  void look_for(const Found& acknowledged, const Found& found, Process& p, bool all) {
    if (p.disk.is_dead()) return;
    for (const auto& [lsn, number] : acknowledged) {
      auto at = found.find(lsn);
      if (at == found.end())
        return fault("record " + std::to_string(number) + " at " + std::to_string(lsn) +
                     " was acknowledged and is not there");
      if (at->second != number) return fault("another record stands at " + std::to_string(lsn));
    }
    if (all)
      for (const auto& [lsn, number] : found)
        if (!m_sent[number].blob.empty() && !has_blob(p, number))
          return fault("record " + std::to_string(number) + " is there, but not its blob");
    if (all && !m_damage.empty() && m_setting.faults.calls == 0 && m_disk.losses() == 0)
      fault("nothing failed, but the journal is read with " + m_damage);
  }

  bool has_blob(Process& p, uint64_t number) {
    const std::string& blob = m_sent[number].blob;
    const gq::Fd fd = p.blobs->open(blob_id(number));
    return fd && gq::file_size(fd.get()) == blob.size() && gq::sum_part(fd.get(), 0, blob.size()) == gq::sum64(blob);
  }

  void look_up(Process& p) {
    if (m_acknowledged.empty()) return;
    auto at = m_acknowledged.begin();
    std::advance(at, static_cast<long>(p.random.below(m_acknowledged.size())));
    const auto [lsn, number] = *at;
    gq::JournalReader reader(*p.journal, 0);
    const bool there = reader.read_record_at(lsn, true);
    if (p.disk.is_dead()) return;
    if (!there || number_of(reader) != number)
      fault("record " + std::to_string(number) + " at " + std::to_string(lsn) + " is not found there");
  }

  // Replaces some of the full segments by one cleaned segment, as the cleaner does (cleaner.cpp). Only one process
  // cleans at a time.
  void clean(Process& p) {
    gq::Fd lock = gq::Directory("/").open("clean.lock", O_RDWR | O_CREAT);
    if (!gq::try_lock(lock.get(), gq::FileLock::Mode::exclusive)) return;
    auto segments = p.journal->segments();
    std::vector<Lsn> replaced;  // first: segments that a crash has left
    for (Lsn base : gq::list_segments(p.journal->directory()))
      if (std::any_of(segments.begin(), segments.end(),
                      [&](const auto& s) { return s.cleaned && base > s.base && base < s.end; }))
        replaced.push_back(base);
    gq::remove_segments(p.journal->directory(), replaced);
    if (segments.size() < 2) return;
    const size_t first = p.random.below(segments.size() - 1);
    const size_t last = first + p.random.below(segments.size() - 1 - first);
    const Lsn begin = segments[first].base, end = segments[last].end, cleaned_at = p.journal->end();
    gq::CleanedSegment cleaned(*p.journal, begin, segments[first].previous_end);
    gq::JournalReader reader(*p.journal, begin);
    for (auto item = reader.next(true); item != Item::end && reader.lsn() < end; item = reader.next(true)) {
      if (item == Item::record && is_whole(reader)) cleaned.add(reader.lsn(), reader.head_bytes(), reader.data());
      if (p.disk.is_dead()) return;
    }
    p.journal->sync_all();
    cleaned.finish(end, cleaned_at);
    cleaned.publish();
    replaced.clear();
    for (size_t i = first + 1; i <= last; ++i) replaced.push_back(segments[i].base);
    gq::remove_segments(p.journal->directory(), replaced);
  }

  // After a boot, checks that the journal has all acknowledged records, and that a new process can append.
  void check() {
    Process p(*this, 1);
    gq::use_disk(&p.disk);
    try {
      p.open(m_setting.segment_size);
      look_for(m_acknowledged, read(*p.journal, p), p, true);
      commit(p);
      settle(p);
      if (!m_played.fault) look_for(m_acknowledged, read(*p.journal, p), p, true);
    } catch (const gq::Error& e) {
      fault(std::string("nothing fails any more, but a process says: ") + e.what());
    }
    p.close();
    p.disk.die();
    gq::use_disk(nullptr);
  }

  const Plan m_plan;
  std::string* const m_log;
  Random m_random;
  const Setting m_setting;
  SimulatedDisk m_disk;
  Played m_played;
  std::deque<Sent> m_sent;  // a deque, so that the bytes do not move when other processes send
  Found m_acknowledged;
  std::string m_damage;  // found by the last read()
  Process* m_current = nullptr;
  uint64_t m_boot_calls = 0, m_cut_at = 0;
  bool m_is_cut = false;
};

}  // namespace

Played play(const Plan& plan, std::string* log) { return History(plan, log).play(); }

}  // namespace simulate
