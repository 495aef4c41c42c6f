#include "gq/store/cleaner.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "gq/base/disk.hpp"
#include "gq/base/log.hpp"
#include "gq/base/text.hpp"
#include "gq/base/thread.hpp"
#include "gq/base/ulid.hpp"
#include "gq/store/owners.hpp"

namespace gq {
namespace {

constexpr size_t most_records = 1000;   // how many records, and jobs in them, are judged in one visit to the index
constexpr size_t most_bytes = 4 << 20;  // the most bytes of these records in memory
constexpr size_t most_weighed = 4096;   // how many entries of weights one visit reads: 4 GiB of the journal
constexpr size_t ids_in_record = 2000;  // this many IDs fit into a record's meta data
constexpr Millis look_interval{60'000}, least_interval{100};
// The space that is reserved for rewritten segments, so that the cleaner works on a full disk; on a small disk, a
// fraction of the disk.
constexpr uint64_t spare_for_cleaning = 32 << 20, spare_part = 16;
constexpr Millis sweep_interval{24 * 3600'000};
constexpr Millis temporary_age{3600'000};  // the least age of a file that no process is writing any more

// A record, and whether the cleaner keeps it.
struct Item {
  Lsn lsn = 0;
  RecordHead record;
  Event event;
  std::string head, data;
  bool torn = false;  // its data was never synced, and is not whole
  bool keep = false;
};

Millis changed_at(const struct stat& st) { return Millis(st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000); }

Millis age_of(const struct stat& st) { return now_ms() - changed_at(st); }

// If the clock was set back, files have dates in the future. Without this correction they would stay until that date.
void correct_date(const Directory& directory, const std::string& name, Millis date, Millis now) {
  if (date > now) directory.touch(name);
}

// The parts of a range that could not be read as records.
struct Damage {
  bool any = false;
  bool unread = false;  // there are bytes that cannot be read, not only missing ones
};

// Calls `visit` with the records of a range, a limited number at a time.
template <typename Visit>
Damage for_each_chunk(Ledger& ledger, Lsn from, Lsn end, bool with_data, Visit visit) {
  Damage damage;
  bool more = true;
  EventReader reader = ledger.read(from);
  while (more) {
    std::vector<Item> items;
    for (size_t jobs = 0, bytes = 0; jobs < most_records && bytes < most_bytes;) {
      auto item = reader.next(with_data);
      more = item != JournalReader::Item::end && reader.lsn() < end;
      if (!more) break;
      if (item != JournalReader::Item::record) {
        damage.any = true;
        damage.unread = damage.unread || item == JournalReader::Item::damage;
        continue;
      }
      Item& i = items.emplace_back();
      i.lsn = reader.lsn();
      i.record = reader.head();
      i.event = reader.event();
      i.head = reader.head_bytes();
      i.data = reader.data();
      i.torn = !i.data.empty() && sum64(i.data) != i.record.data_sum && reader.never_synced();
      jobs += jobs_in(i.event);
      bytes += i.head.size() + i.data.size();
    }
    if (!items.empty()) visit(items);
  }
  return damage;
}

}  // namespace

// The segments from `first` to `last`, which become one cleaned segment.
struct Cleaner::Range {
  std::vector<SegmentInfo> segments;  // all segments of the journal
  size_t first = 0, last = 0;
  Lsn base() const { return segments[first].base; }
  Lsn end() const { return segments[last].end; }
};

Cleaner::Cleaner(Ledger& ledger) : m_ledger(ledger), m_journal(ledger.directory().below(journal_name)) {}

Cleaner::~Cleaner() { stop(); }

std::optional<Cleaner::Range> Cleaner::choose(Fd& lock) {
  lock = m_ledger.open_clean_lock();
  if (!try_lock(lock.get(), FileLock::Mode::exclusive)) return std::nullopt;
  Range range;
  range.segments = m_ledger.segments();
  auto& all = range.segments;
  // Segments that a cleaned segment has replaced; a crash may have left them.
  std::vector<Lsn> replaced;
  for (Lsn base : list_segments(m_journal))
    if (std::any_of(all.begin(), all.end(), [&](auto& s) { return s.cleaned && base > s.base && base < s.end; }))
      replaced.push_back(base);
  remove_segments(m_journal, replaced);
  if (all.size() < 2) return std::nullopt;
  set_aside();
  // An interrupted cleaning is done again first, so that the second copy and the directory agree about its records.
  if (const auto half = m_ledger.half_cleaned())
    for (size_t i = 0, first = all.size(); i + 1 < all.size(); ++i) {
      if (all[i].base == half->first) first = i;
      if (first > i || all[i].end != half->second) continue;
      range.first = first;
      range.last = i;
      return range;
    }
  const Limits& limits = m_ledger.limits();
  std::vector<Weight> weights(all.size());
  Lsn last_record = 0;
  m_ledger.look([&](Fold& fold) { last_record = fold.position().last; });
  for (size_t i = 0; i + 1 < all.size(); ++i)
    for (Lsn from = all[i].base, stopped; from < all[i].end; from = stopped) {
      Weight some;
      m_ledger.look([&](Fold& fold) { some = fold.weight(from, all[i].end, most_weighed, &stopped); });
      weights[i].bytes += some.bytes;
      weights[i].finished += some.finished;
    }
  Millis now = now_ms();
  for (auto& s : all) {
    correct_date(m_journal, segment_name(s.base), s.changed_at, now);
    s.changed_at = std::min(s.changed_at, now);
  }
  // Do not clean the segment of the record that was folded last: this record identifies the journal.
  for (size_t i = 0; i + 1 < all.size() && all[i].end <= last_record; ++i) {
    if (now < all[i].changed_at + limits.clean_after) continue;
    // A segment that was cleaned before is cleaned again only when the journal has grown by the segment's size. So the
    // cleaner never writes more than was appended.
    bool ripe = !all[i].cleaned || all.back().end >= all[i].cleaned_at + all[i].size;
    bool garbage = ripe && all[i].size > 2 * weights[i].bytes + cleaned_header_size;
    // What this pass has cleaned may have finished jobs that live jobs need. The pass would never end if it cleaned
    // that again.
    bool many_finished = now >= all[i].changed_at + std::max(limits.remember, least_interval) &&
                         !(all[i].cleaned && all[i].changed_at >= *m_pass) &&
                         4 * weights[i].finished * finished_weight > all[i].size;
    bool joins = i > 0 && all[i - 1].cleaned &&
                 all[i - 1].size + std::min(weights[i].bytes, all[i].size) < limits.segment_size / 2;
    if (!garbage && !many_finished && !(joins && all[i].cleaned)) continue;
    range.first = joins ? i - 1 : i;
    range.last = i;
    return range;
  }
  return std::nullopt;
}

bool Cleaner::step() {
  Fd lock;
  if (!m_pass) m_pass = now_ms();
  auto range = choose(lock);
  if (!range) {
    m_pass.reset();
    return false;
  }
  auto clean = [&] {
    keep_tally(range->end());
    forget(*range);
    rewrite(*range);
  };
  try {
    clean();
  } catch (const Error& e) {
    if (!is_disk_full(e.error_number()) || !m_journal.remove(spare_clean_name)) throw;
    clean();
    set_aside();
  }
  m_ledger.shrink_index();
  return true;
}

// Reserves disk space for the next cleaning, if the disk has room.
void Cleaner::set_aside() {
  struct statfs fs;
  if (m_journal.has(spare_clean_name) || disk().fstatfs(m_ledger.directory().fd(), &fs) != 0) return;
  uint64_t size = std::min(spare_for_cleaning, fs.f_blocks * static_cast<uint64_t>(fs.f_bsize) / spare_part);
  if (m_ledger.available() < size + m_ledger.reserved()) return;
  const std::string temporary = "tmp." + new_ulid();
  Fd fd = m_journal.try_open(temporary, O_RDWR | O_CREAT | O_EXCL);
  if (fd && disk().fallocate(fd.get(), FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(size)) == 0)
    m_journal.rename(temporary, spare_clean_name);
  else m_journal.remove(temporary);
}

// Returns when a finished job ended. If that is in the future, returns the time of the last change of the segment that
// has the record of the end.
Millis Cleaner::ended_at(const Job& job, const Range& range, Millis now) {
  if (job.changed_at <= now) return job.changed_at;
  for (const auto& s : range.segments)
    if (job.location >= s.base && job.location < s.end) return s.changed_at;
  return now;
}

// Appends the tally's values, because the records before `end` that it has counted may be removed (tally.hpp). Values
// that this process has appended before are enough if they were taken behind `end`. So a pass appends them once, and
// its own appends do not make it go on.
void Cleaner::keep_tally(Lsn end) {
  if (end <= m_tallied) return;
  Lsn present = 0;
  m_ledger.look([&](Fold& fold) { present = fold.position().end; });
  m_ledger.commit([](Fold& fold) { return fold.tally().mark_record(now_ms()); }, Room::intake);
  m_ledger.commit([](Fold& fold) { return fold.tally().value_records(now_ms()); }, Room::intake);
  m_tallied = present;
}

// Appends `forget` records for the jobs of this range that may be forgotten.
void Cleaner::forget(const Range& range) {
  const Lsn end = m_ledger.end();
  auto is_clean = [&](Lsn lsn) {
    for (const auto& s : range.segments)
      if (lsn >= s.base && lsn < s.end) return s.cleaned && s.cleaned_at > lsn;
    return false;
  };
  for_each_chunk(m_ledger, range.base(), range.end(), false, [&](std::vector<Item>& items) {
    std::vector<std::string> outputs;
    auto decide = [&](Fold& fold) {
      std::vector<std::string> records;
      outputs.clear();
      event::Forget forget{.at = now_ms(), .position = fold.position().end};
      auto add = [&] {
        if (!forget.ids.empty()) records.push_back(encode_record(forget));
        forget.ids.clear();
      };
      for (const auto& item : items) {
        if (!is_any_of<event::Add, event::State>(item.event)) continue;
        const std::string& id = id_of(item.event);
        auto job = fold.get(id);
        if (!job || ended_at(*job, range, forget.at) + m_ledger.limits().remember > forget.at ||
            std::max(job->first_lsn, job->location) >= end || !fold.may_forget(id, *job, forget.at, is_clean))
          continue;
        forget.ids.push_back(id);
        if (has_output_blob(*job)) outputs.push_back(output_blob(id));
        if (forget.ids.size() == ids_in_record) add();
      }
      add();
      return records;
    };
    m_ledger.commit(decide, Room::intake);
    m_ledger.remove_unneeded(outputs);
  });
}

namespace {

// Decides which parts of a record stay.
class Judge {
 public:
  Judge(Fold& fold, const std::vector<SegmentInfo>& others, Lsn base,
        const std::map<std::string, std::string>& identities, Lsn torn)
      : m_fold(fold), m_others(others), m_base(base), m_identities(identities), m_torn(torn) {}

  void judge(Item& item) {
    std::visit([&](const auto& event) { judge(item, event); }, item.event);
    if (item.torn && item.keep && !item.data.empty()) m_torn = item.lsn;
  }

  std::map<std::string, std::string> identities() const { return m_identities; }
  Lsn torn() const { return m_torn; }

 private:
  // Whether more records of a job must stay than its first record and its end.
  static bool needs_all_records(const Job& job) { return job.state != State::finished || !job.node.empty(); }

  // Whether every other segment that begins before `before` has been cleaned since the position `at`.
  bool is_clean_since(Lsn at, Lsn before) const {
    return std::all_of(m_others.begin(), m_others.end(),
                       [&](const SegmentInfo& s) { return s.base >= before || (s.cleaned && s.cleaned_at > at); });
  }

  bool adds_are_gone(const Fold::Forgotten& f) const {
    if (f.add == Fold::no_lsn) return is_clean_since(f.at, f.at);
    return std::all_of(m_others.begin(), m_others.end(), [&](const SegmentInfo& s) {
      return f.add < s.base || f.add >= s.end || (s.cleaned && s.cleaned_at > f.at);
    });
  }

  void judge(Item& item, const event::Claim& claim) { judge_claimed(item, claim); }
  void judge(Item& item, const event::Copied& copied) { judge_claimed(item, copied); }

  template <typename E>
  void judge_claimed(Item& item, const E& event) {
    judge_many(item, event, [&](const std::string& id) {
      auto job = m_fold.get(id);
      return !job || !needs_all_records(*job);
    });
  }

  // The Gap at the beginning of a segment says that the bytes before it were never synced. It stays while another
  // segment may have some of these bytes, or if this range keeps a workload among them.
  void judge(Item& item, const Gap& gap) {
    item.keep = is_at_begin(gap, item.lsn) &&
                (m_torn >= gap.since || std::any_of(m_others.begin(), m_others.end(), [&](const SegmentInfo& s) {
                   return s.base < gap.position && s.end > gap.since;
                 }));
  }

  // A `forget` record stays while earlier segments may have records of its jobs. The cleaner removes from it jobs that
  // the fold did not forget, because they had been added again.
  void judge(Item& item, const event::Forget& forget) {
    if (is_clean_since(item.lsn, m_base)) return;
    judge_many(item, forget, [&](const std::string& id) {
      auto f = m_fold.forgotten(id);
      return !(f && f->at == item.lsn) && m_fold.get(id);
    });
  }

  void judge(Item& item, const event::Peer& peer) {
    PeerState now = m_fold.peer(peer.node);
    auto before = m_identities.find(peer.node);
    bool is_new = before == m_identities.end() || before->second != peer.store;
    item.keep = is_new || (now.store == peer.store && now.position == peer.position && now.since == peer.since);
    m_identities[peer.node] = peer.store;
  }

  void judge(Item& item, const event::Pause&) { item.keep = true; }
  void judge(Item& item, const event::Resume&) { item.keep = true; }
  void judge(Item& item, const event::Letter&) { item.keep = true; }
  void judge(Item& item, const event::Rate&) { item.keep = true; }
  void judge(Item&, const event::Stream&) {}
  void judge(Item&, const event::End&) {}
  void judge(Item& item, const event::Counts& counts) { item.keep = m_fold.tally().needs(counts, item.lsn); }

  // All other events are about one job.
  template <typename E>
  void judge(Item& item, const E& event) {
    const bool end =
        is_any_of<event::Done, event::Drop, event::State, event::Keep, event::Release, event::Cancel>(item.event);
    auto job = m_fold.get(event.id);
    if (!job || (job->first_lsn != 0 && item.lsn < job->first_lsn)) {
      // The record belongs to a forgotten job; another job may have its ID now. As long as a segment has the add record
      // of the forgotten job, the record of its end must stay, too. Otherwise the job would be unfinished again.
      auto f = end ? m_fold.forgotten(event.id) : std::nullopt;
      item.keep = f && item.lsn < f->at && !adds_are_gone(*f);
      return;
    }
    if constexpr (std::is_same_v<E, event::Add>) {
      judge_add(item, event, *job);
    } else {
      bool expired = false;  // it has freed its key
      if constexpr (std::is_same_v<E, event::Dead>) expired = event.owner == event::nobody;
      const bool has_output = job->output_lsn == item.lsn;
      item.keep = end || expired || has_output || needs_all_records(*job);
      if (!has_output) item.data.clear();
    }
  }

  template <typename E, typename Gone>
  void judge_many(Item& item, E event, Gone is_gone) {
    auto gone = std::remove_if(event.ids.begin(), event.ids.end(), is_gone);
    item.keep = gone != event.ids.begin();
    if (gone == event.ids.end() || !item.keep) return;
    event.ids.erase(gone, event.ids.end());
    item.head = encode_record(event);
  }

  void judge_add(Item& item, const event::Add& add, const Job& job) {
    const bool finished = job.state == State::finished;
    const bool first = job.first_lsn == item.lsn, newest = !finished && job.location == item.lsn;
    // In a group, keep further add records: each may name another owner, unless it came after the end of the job.
    item.keep = first || newest || (!add.node.empty() && (!finished || item.lsn < job.location));
    if (!item.keep) return;
    // For an unfinished job, keep the data of its first and of its newest add record, because the sync of the first may
    // have failed.
    const bool needed = finished ? first && m_fold.is_owed(job) : first || newest;
    if (!needed) item.data.clear();
    if (add.asked.key.empty() || !job.key.empty()) return;
    // Another job had the key when this job was added. Remove the key from the record: otherwise this job would get the
    // key when the other job is forgotten.
    event::Add without = add;
    without.asked.key.clear();
    item.head = encode_record_head(without, item.record.data_size, item.record.data_sum);
  }

  Fold& m_fold;
  const std::vector<SegmentInfo>& m_others;
  const Lsn m_base;                                 // the base of the range that is being cleaned
  std::map<std::string, std::string> m_identities;  // the identity of each node at this point of the range
  Lsn m_torn;                                       // the last record before this point whose torn data stays; or 0
};

}  // namespace

void Cleaner::rewrite(const Range& range) {
  const Lsn cleaned_at = m_ledger.end();
  std::vector<SegmentInfo> others;
  for (size_t i = 0; i < range.segments.size(); ++i)
    if (i < range.first || i > range.last) others.push_back(range.segments[i]);
  std::vector<std::string> done_with;  // forgotten jobs of which no record is left
  std::vector<Lsn> dropped_adds, dropped;
  m_ledger.begin_cleaning(range.base(), range.end());
  CleanedSegment cleaned = m_ledger.begin_cleaned(range.base(), range.segments[range.first].previous_end);
  std::map<std::string, std::string> identities;
  Lsn torn = 0;
  Damage damage = for_each_chunk(m_ledger, range.base(), range.end(), true, [&](std::vector<Item>& items) {
    const auto originals = items;
    std::map<std::string, std::string> next;
    Lsn next_torn = 0;
    m_ledger.look([&](Fold& fold) {
      items = originals;
      Judge judge(fold, others, range.base(), identities, torn);
      for (auto& item : items) judge.judge(item);
      next = judge.identities();
      next_torn = judge.torn();
    });
    identities = next;
    torn = next_torn;
    std::vector<std::pair<Lsn, RecordBytes>> changed;
    for (size_t i = 0; i < items.size(); ++i) {
      const Item& item = items[i];
      if (item.keep && (item.head != originals[i].head || item.data.size() != originals[i].data.size()))
        changed.push_back({item.lsn, RecordBytes(item.head, item.data)});
      if (!item.keep) (is_any_of<event::Add>(item.event) ? dropped_adds : dropped).push_back(item.lsn);
      if (item.keep) cleaned.add(item.lsn, item.head, item.data);
      else if (auto* forget = std::get_if<event::Forget>(&item.event))
        done_with.insert(done_with.end(), forget->ids.begin(), forget->ids.end());
    }
    if (!changed.empty()) m_ledger.change_records(changed);
  });
  m_ledger.sync_all();  // the records because of which others are left out must be durable first
  cleaned.finish(range.end(), cleaned_at);
  m_ledger.remove_records(dropped_adds, dropped);
  if (damage.unread) {
    const Directory aside = m_ledger.directory().make_below(damaged_name);
    for (size_t i = range.first; i <= range.last; ++i) {
      const std::string segment = segment_name(range.segments[i].base), name = segment + "." + new_ulid();
      if (!m_journal.link(segment, aside, name)) throw_errno(Exit::storage, "set aside " + m_journal.path_of(segment));
      log(Level::warning, "a segment of the journal with damage was set aside: " + aside.path_of(name));
    }
    aside.sync();
  }
  if (damage.any) {
    std::string record = encode_record(Gap{.at = now_ms(), .position = range.end(), .since = range.base()});
    m_ledger.commit({record}, Room::intake);
  }
  cleaned.publish();
  m_ledger.end_cleaning();
  std::vector<Lsn> replaced;
  for (size_t i = range.first + 1; i <= range.last; ++i) replaced.push_back(range.segments[i].base);
  remove_segments(m_journal, replaced);
  for (auto at = done_with.begin(); at != done_with.end();) {
    auto next = at + std::min<long>(done_with.end() - at, most_records);
    m_ledger.look([&](Fold& fold) {
      for (auto id = at; id != next; ++id) fold.drop_forgotten(*id);
    });
    at = next;
  }
}

void Cleaner::sweep(bool now) {
  Fd lock = m_ledger.open_clean_lock();
  struct stat st;
  if (!try_lock(lock.get(), FileLock::Mode::exclusive) || disk().fstat(lock.get(), &st) != 0) return;
  // The file's modification time is the time of the last sweep.
  if (!now && st.st_size > 0 && age_of(st) >= Millis(0) && age_of(st) < sweep_interval) return;
  const Directory blobs = m_ledger.directory().below(blobs_name);
  for (const Directory* directory : {&m_ledger.directory(), &m_journal, &blobs, &m_ledger.owners_directory()})
    for (const auto& name : directory->names()) {
      if (!is_temporary_name(name)) continue;
      Fd fd = directory->try_open(name, O_RDONLY);
      struct stat file;
      if (!fd || disk().fstat(fd.get(), &file) != 0) continue;
      correct_date(*directory, name, changed_at(file), now_ms());
      if (const std::string arrived = doubted_by(name); !arrived.empty() && directory->has(arrived)) continue;
      if (age_of(file) >= temporary_age && try_lock(fd.get(), FileLock::Mode::exclusive)) directory->remove(name);
    }
  sweep_owners(m_ledger.owners_directory());
  std::vector<std::string> ids;
  for (const auto& name : blobs.names()) {
    const auto found = name.size() == 2 ? blobs.try_below(name) : std::nullopt;
    if (!found) continue;  // it is not a file of gq
    const Directory& part = *found;
    for (const auto& id : part.names()) {
      struct stat file;
      if (!is_blob_name(id) || blob_part(id) != name || !part.look_at(id, file)) continue;
      correct_date(part, id, changed_at(file), now_ms());
      if (age_of(file) < m_ledger.limits().clean_after) continue;
      ids.push_back(id);
    }
    m_ledger.remove_unneeded(ids);
    ids.clear();
  }
  write_all_at(lock.get(), "swept\n", 0, clean_lock_name);
}

void Cleaner::start() {
  m_thread = start_thread([this] { work(); });
}

void Cleaner::stop() {
  {
    MutexLock guard(m_mutex);
    m_stop = true;
  }
  m_stopping.notify_all();
  if (m_thread.joinable()) m_thread.join();
}

void Cleaner::work() {
  std::string trouble;
  MutexLock guard(m_mutex);
  while (!m_stopping.wait_for(guard, std::clamp(m_ledger.limits().clean_after, least_interval, look_interval),
                              [this]() REQUIRES(m_mutex) { return m_stop; })) {
    guard.unlock();
    bool more = true;
    try {
      while (more) {
        more = step();
        MutexLock again(m_mutex);
        if (m_stop) return;
      }
      sweep();
      trouble.clear();
    } catch (const Error& e) {
      if (trouble != e.what()) log(Level::warning, std::string("cannot clean the journal: ") + e.what());
      trouble = e.what();
    }
    guard.lock();
  }
}

}  // namespace gq
