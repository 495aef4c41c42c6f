#include <fcntl.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <memory>
#include <set>

#include "gq/base/text.hpp"
#include "gq/base/ulid.hpp"
#include "gq/journal/journal.hpp"
#include "gq/journal/local_disk.hpp"
#include "gq/store/blobs.hpp"
#include "machine.hpp"

namespace simulate {
namespace {

using gq::Lsn;
using Item = gq::JournalReader::Item;

constexpr char store_id[] = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

// The event of each record: it has only the number of the record.
struct Note {
  static constexpr std::string_view type = "note";
  uint64_t number = 0;
  static void fields(auto& self, auto visit) { visit("n", self.number); }
};

std::string blob_id(uint64_t number) { return gq::padded(number, gq::ulid_size); }

class JournalHistory final : public Machine {
 public:
  using Machine::Machine;

 private:
  struct Sent {
    std::string head, data;
    std::string blob;  // empty: the record has no blob
  };
  using Found = std::map<Lsn, uint64_t>;  // the numbers of records, by position

  // A process that has the journal open, and the records that it has appended but not synced.
  struct Process : Machine::Process {
    using Machine::Process::Process;
    std::unique_ptr<gq::LocalDisk> durability;
    std::unique_ptr<gq::Journal> journal;
    std::unique_ptr<gq::Blobs> blobs;
    std::vector<uint64_t> unsettled, unanswered;
    std::vector<gq::Placed> placed;
    std::unique_ptr<gq::JournalReader> follower;
    Found followed;
  };
  static Process& own(Machine::Process& process) { return static_cast<Process&>(process); }

  std::unique_ptr<Machine::Process> make_process(uint64_t seed, long number) override {
    return std::make_unique<Process>(*this, seed, number);
  }
  bool is_open(const Machine::Process& process) const override {
    return static_cast<const Process&>(process).journal != nullptr;
  }
  void open(Machine::Process& process) override {
    close(process);
    Process& p = own(process);
    const gq::Directory store("/");
    p.durability = std::make_unique<gq::LocalDisk>(store, store_id, p.number);
    p.blobs = std::make_unique<gq::Blobs>(store.make_below("blobs"), *p.durability);
    p.journal = std::make_unique<gq::Journal>(store, store_id, *p.durability, m_setting.segment_size);
  }
  void close(Machine::Process& process) override {
    Process& p = own(process);
    p.unsettled.clear();
    p.follower.reset();
    p.followed.clear();
    p.blobs.reset();
    p.journal.reset();
    p.durability.reset();
  }
  void give_up(Machine::Process& process) override { own(process).unsettled.clear(); }

  void step(Machine::Process& process) override {
    Process& p = own(process);
    switch (p.random.below(m_setting.cleans ? 11 : 10)) {
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
      case 9:
        return follow(p);
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
    p.unanswered = m_interrupted = numbers;
    const auto held = put_blobs(p, numbers);
    if (!p.disk.is_dead()) acknowledge(p, p.journal->commit(bytes_of(numbers), room_of(p)), numbers);
    p.unanswered.clear();
  }
  // Appends records again, as for a client that has received no answer and repeats its request, often to another
  // process.
  void commit_again(Process& p) {
    if (!p.unanswered.empty()) commit(p, std::vector(p.unanswered));
    else if (!m_interrupted.empty() && p.random.chance(2)) commit(p, std::vector(m_interrupted));
    else if (!m_sent.empty()) commit(p, {p.random.below(m_sent.size())});
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
    if (all && !m_damage.empty() && !may_blame_disk())
      fault("nothing failed, but the journal is read with " + m_damage);
  }

  bool has_blob(Process& p, uint64_t number) {
    const std::string& blob = m_sent[number].blob;
    const gq::Fd fd = p.blobs->open(blob_id(number));
    return fd && gq::file_size(fd.get()) == blob.size() && gq::sum_part(fd.get(), 0, blob.size()) == gq::sum64(blob);
  }

  // Reads on from where the process has stopped before. A reader may find a record late, but must not pass by it.
  void follow(Process& p) {
    if (!p.follower) p.follower = std::make_unique<gq::JournalReader>(*p.journal, 0);
    auto& reader = *p.follower;
    for (auto item = reader.next(true); item != Item::end && !p.disk.is_dead(); item = reader.next(true))
      if (item == Item::record && is_whole(reader))
        if (auto number = number_of(reader)) p.followed[reader.lsn()] = *number;
    if (p.disk.is_dead()) return;
    for (const auto& [lsn, number] : m_acknowledged)
      if (lsn < reader.position() && !p.followed.contains(lsn))
        return fault("a reader has passed by record " + std::to_string(number) + " at " + std::to_string(lsn));
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

  // The journal has what it must have, and a new process can append.
  void check(Machine::Process& process, bool) override {
    Process& p = own(process);
    look_for(m_acknowledged, read(*p.journal, p), p, true);
    commit(p);
    settle(p);
    if (!m_played.fault) look_for(m_acknowledged, read(*p.journal, p), p, true);
  }

  std::deque<Sent> m_sent;              // a deque, so that the bytes do not move when other processes send
  std::vector<uint64_t> m_interrupted;  // the records of the last commit, which its process may not have ended
  Found m_acknowledged;
  std::string m_damage;  // found by the last read()
};

}  // namespace

Played play_journal(const Plan& plan, std::string* log) { return JournalHistory(plan, log).play(); }

}  // namespace simulate
