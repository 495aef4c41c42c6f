#include "gq/store/ledger.hpp"

#include <algorithm>
#include <cerrno>

#include "gq/base/log.hpp"
#include "gq/store/claiming.hpp"

namespace gq {
namespace {

constexpr size_t most_removed = 100;    // how many blobs are removed at a time: each needs a descriptor
constexpr size_t most_troubles = 2000;  // how many troubles are read in one visit to the index

constexpr const char* damaged_record = "its record is damaged";

// Returns why this is not the record that added a job; empty if it is.
std::string fault_of(const std::string& id, const Job& job, const Event& event, std::string_view data) {
  if (id_of(event) != id) return damaged_record;
  if (data.size() != job.size || sum64(data) != job.sum) return "its checksum is wrong";
  return {};
}

// Reads the first add record of a job; if that is damaged, or its sync failed, the newest one. The first one has
// precedence, because a stranger who has seen a job can queue another workload with its ID, size and sum. Returns
// whether one of them is undamaged.
bool first_whole(const Job& job, const std::function<bool(Lsn)>& is_whole) {
  return is_whole(job.first_lsn) || is_whole(job.location);
}

}  // namespace

Ledger::Ledger(Directory directory, Settings settings, std::shared_ptr<Durability> durability)
    : m_directory(directory.kept_private()),
      m_settings(std::move(settings)),
      m_durability(std::move(durability)),
      m_owners(m_directory.make_below(owners_name)),
      m_journal(m_directory, m_settings.store_id, *m_durability, m_settings.limits.segment_size),
      m_blobs(m_directory.make_below(blobs_name), *m_durability),
      m_index(m_directory, m_journal, m_settings.group.self),
      m_reader(m_journal, 0) {}

void Ledger::for_each_function(const std::function<void(const std::string&, const Counters&)>& body) {
  std::string cursor;
  for (bool last = false; !last;) {
    std::vector<std::pair<std::string, Counters>> some;
    const std::string from = cursor;
    look([&](Fold& fold) {
      std::vector<std::string> names;
      cursor = from;
      some.clear();
      last = fold.functions(most_functions, cursor, names);
      for (const auto& name : names) some.emplace_back(name, fold.counters(name));
    });
    for (const auto& [name, counters] : some) body(name, counters);
  }
}

void Ledger::for_each_trouble(const std::function<void(const Trouble&)>& body) {
  std::string cursor;
  for (bool last = false; !last;) {
    std::vector<Trouble> some;
    const std::string from = cursor;
    look([&](Fold& fold) {
      cursor = from;
      some.clear();
      last = fold.troubles(most_troubles, cursor, some);
    });
    for (const auto& trouble : some) body(trouble);
  }
}

std::optional<Workload> Ledger::workload(const std::string& id, const Job& job, std::string& reason) {
  return workload(id, job, reason, m_reader);
}

std::optional<Workload> Ledger::workload(const std::string& id, const Job& job, std::string& reason,
                                         EventReader& reader) const {
  Workload w;
  if (std::string blob = blob_of(id, job); !blob.empty()) {
    w.blob = m_blobs.open(blob);
    w.path = m_blobs.path(blob);
    w.offset = job.offset;
    if (!w.blob) reason = "its blob is missing";
    else if (job.source.empty() && file_size(w.blob.get()) != job.size) reason = "its blob has another size";
    else if (sum_part(w.blob.get(), job.offset, job.size) != job.sum) reason = "the checksum of its blob is wrong";
  } else {
    first_whole(job, [&](Lsn lsn) {
      reason = reader.read_record_at(lsn, true) ? fault_of(id, job, reader.event(), reader.data()) : damaged_record;
      if (reason.empty()) w.data = reader.data();
      return reason.empty();
    });
  }
  if (!reason.empty()) restore(w, id, job, reason);
  if (!reason.empty()) return std::nullopt;
  return w;
}

// Replaces a damaged workload by its second copy, if there is an undamaged one.
void Ledger::restore(Workload& w, const std::string& id, const Job& job, std::string& reason) const {
  if (std::string blob = blob_of(id, job); !blob.empty()) {
    if (job.source.empty() && !m_durability->restore_blob(blob, job.size)) return;
    Fd fd = m_blobs.open(blob);
    if (!fd || sum_part(fd.get(), job.offset, job.size) != job.sum) return;
    w.blob = std::move(fd);
  } else {
    const bool found = first_whole(job, [&](Lsn lsn) {
      const auto record = m_durability->record(lsn);
      const auto head = record ? parse_record(*record) : std::nullopt;
      if (!head || record->size() < head->head_size) return false;
      const auto data = std::string_view(*record).substr(head->head_size);
      if (!fault_of(id, job, head->event, data).empty()) return false;
      w.data = data;
      return true;
    });
    if (!found) return;
  }
  reason.clear();
}

void Ledger::check_room(uint64_t size, uint64_t run) {
  if (m_journal.has_room(size, run)) return;
  // Compute again how much room the accepted jobs need: it may be less now. (Jobs that arrive meanwhile are counted
  // when they arrive.)
  const Lsn end = m_journal.end();
  uint64_t live = 0;
  for_each_function([&](const std::string&, const Counters& c) { live += c.live(); });
  const uint64_t owed = room_to_finish(live);
  m_journal.set_owed(end, owed);
  if (m_journal.has_room(size, run, owed)) return;
  errno = ENOSPC;
  throw_errno(Exit::storage, "queue " + std::to_string(size) + " bytes");
}

void Ledger::commit(const std::function<std::vector<std::string>(Fold&)>& decide, Room room) {
  std::vector<std::string> records;
  std::vector<Placed> placed;
  m_journal.prepare();
  look([&](Fold& fold) {
    if (placed.empty()) {  // else the index failed after the append: nothing is decided twice
      records = decide(fold);
      if (records.empty()) return;
      placed = m_journal.append({records.begin(), records.end()}, room);
    }
    m_index.fold_on(fold, placed.back().end);
  });
  if (!placed.empty()) m_journal.make_safe({records.begin(), records.end()}, std::move(placed), room);
}

size_t Ledger::room_to_claim(size_t few, size_t most) {
  return m_journal.check_claim_room() ? std::max(few, m_index.jobs_with_room(most)) : few;
}

bool Ledger::needs_blob(Fold& fold, const std::string& id) {
  if (const std::string of = job_of_output(id); !of.empty()) {
    const auto ended = fold.get(of);
    return ended && has_output_blob(*ended);
  }
  auto job = fold.get(id);
  return job && (job->state != State::finished || fold.is_owed(*job) || fold.is_referenced(id));
}

// Returns those blobs for which `is_free` returns true, each locked. Call it within a visit. A process that stores a
// blob keeps the blob locked until its job is acknowledged or refused. So when this function has the locks, the record
// of each such job is in the journal or will never be. It then folds the new records, and calls `is_free` again.
std::vector<Blobs::Taken> Ledger::take_blobs(Fold& fold, const std::vector<std::string>& ids,
                                             const std::function<bool(const std::string& id)>& is_free) {
  std::vector<Blobs::Taken> all;
  for (const auto& id : ids) {
    if (!is_free(id)) continue;
    if (auto taken = m_blobs.take(id)) all.push_back(std::move(*taken));
  }
  if (!all.empty()) m_index.fold_on(fold);
  std::erase_if(all, [&](const Blobs::Taken& taken) { return !is_free(taken.id); });
  return all;
}

// If another process takes a snapshot or removes files now, the blobs stay until a later call.
void Ledger::take_free_blobs(Fold& fold, Removal& removal) {
  MutexLock guard(m_free_mutex);
  for (const auto& taken : removal.blobs)
    m_free_blobs.push_back(taken.id);  // the index was rebuilt, and the visit began again
  removal = {};
  if (m_free_blobs.empty()) return;
  Fd lock = open_clean_lock();
  if (!try_lock(lock.get(), FileLock::Mode::exclusive)) return;
  removal.clean_lock = std::move(lock);
  const auto some = m_free_blobs.end() - static_cast<long>(std::min(most_removed, m_free_blobs.size()));
  const std::vector<std::string> ids(some, m_free_blobs.end());
  m_free_blobs.erase(some, m_free_blobs.end());
  removal.blobs = take_blobs(fold, ids, [&](const std::string& id) { return fold.get(id) && !needs_blob(fold, id); });
}

void Ledger::remove(Removal removal) {
  auto& blobs = removal.blobs;
  if (blobs.empty()) return;
  try {
    m_journal.sync_all();  // another process may not have synced the end of the last job that needed a blob
    for (; !blobs.empty(); blobs.pop_back()) m_blobs.remove(blobs.back());
  } catch (const Error&) {
    for (const auto& taken : blobs) forget_blob(taken.id);
    throw;
  }
}

void Ledger::remove_unneeded(const std::vector<std::string>& ids) {
  for (size_t at = 0; at < ids.size(); at += most_removed) {
    const auto begin = ids.begin() + static_cast<long>(at);
    const std::vector<std::string> some(begin, begin + static_cast<long>(std::min(ids.size() - at, most_removed)));
    Removal removal;
    look([&](Fold& fold) {
      removal.blobs.clear();  // unlocks them, in case the visit was repeated
      removal.blobs = take_blobs(fold, some, [&](const std::string& id) { return !needs_blob(fold, id); });
    });
    remove(std::move(removal));
  }
}

void Ledger::remove_unknown_blob(const std::string& id) {
  std::vector<Blobs::Taken> taken;
  look([&](Fold& fold) {
    taken.clear();
    taken = take_blobs(fold, {id}, [&](const std::string&) { return !fold.get(id); });
  });
  for (const auto& blob : taken) m_blobs.remove(blob);
}

void Ledger::forget_blob(const std::string& id) {
  MutexLock guard(m_free_mutex);
  m_free_blobs.push_back(id);
}

void Ledger::remove_blobs_of(const std::vector<std::string>& ids) {
  for (const auto& id : ids) forget_blob(id);
  forget_blobs();
}

void Ledger::forget_blobs() {
  for (;;) {
    {
      MutexLock guard(m_free_mutex);
      if (m_free_blobs.empty()) return;
    }
    Removal removal;
    look([&](Fold& fold) { take_free_blobs(fold, removal); });
    if (!removal.clean_lock) return;
    remove(std::move(removal));
  }
}

bool Ledger::has_output_room(uint64_t size) {
  uint64_t kept = 0;
  const uint64_t most = limits().outputs;
  look([&](Fold& fold) { kept = fold.outputs(); });
  return kept <= most && size <= most - kept && m_journal.has_room(size, 0);
}

Fd Ledger::put_output(const std::string& id, std::string_view data, Arrived* arrived) {
  const std::string name = output_blob(id);
  const uint64_t sum = sum64(data);
  if (auto held = m_blobs.put(name, data, sum, arrived)) return std::move(*held);
  // An earlier run of the job has left it: the worker died before it recorded the end, or the job was kicked since. A
  // snapshot that is being taken may still need it.
  const Fd lock = open_clean_lock();
  if (!try_lock(lock.get(), FileLock::Mode::exclusive)) return {};
  remove_unneeded({name});
  auto held = m_blobs.put(name, data, sum, arrived);
  return held ? std::move(*held) : Fd();
}

std::optional<Workload> Ledger::output(const std::string& id, const Job& job, std::string& reason) {
  Workload printed;
  const std::string name = output_blob(id);
  if (has_output_blob(job)) {
    printed.path = m_blobs.path(name);
    const auto is_whole = [&] {
      return printed.blob && has_workload(printed.blob.get(), job.output_size, job.output_sum);
    };
    printed.blob = m_blobs.open(name);
    if (!is_whole() && m_durability->restore_blob(name, job.output_size)) printed.blob = m_blobs.open(name);
    if (!is_whole()) reason = printed.blob ? "the checksum of its blob is wrong" : "its blob is missing";
  } else {
    EventReader reader(m_journal, 0);
    const auto take = [&](const Event& event, std::string_view data) {
      const bool good = id_of(event) == id && data.size() == job.output_size && sum64(data) == job.output_sum;
      if (good) printed.data = data;
      return good;
    };
    if (!(reader.read_record_at(job.output_lsn, true) && take(reader.event(), reader.data()))) {
      const auto record = m_durability->record(job.output_lsn);
      const auto head = record ? parse_record(*record) : std::nullopt;
      if (!head || record->size() < head->head_size ||
          !take(head->event, std::string_view(*record).substr(head->head_size)))
        reason = "its record is damaged";
    }
  }
  if (!reason.empty()) return std::nullopt;
  return printed;
}

}  // namespace gq
