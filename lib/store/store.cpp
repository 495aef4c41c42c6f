#include "gq/store/store.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>

#include "gq/base/log.hpp"
#include "gq/base/text.hpp"
#include "gq/base/ulid.hpp"
#include "gq/store/lease.hpp"

namespace gq {
namespace {

constexpr size_t most_removed = 100;    // blobs at a time: each has a descriptor
constexpr Millis return_interval{500};  // how often to check whether this node has returned to its group

constexpr const char* damaged_record = "its record is damaged";

// Why this is not the record that added a job; empty if it is.
std::string fault_of(const std::string& id, const Job& job, const Event& event, std::string_view data) {
  if (id_of(event) != id) return damaged_record;
  if (data.size() != job.size || sum64(data) != job.sum) return "its checksum is wrong";
  return {};
}

// Reads the first record of a job, or, if that is damaged or its sync failed, the newest copy. The first comes first:
// someone who has seen a job can queue another workload with its ID, size and sum. Returns whether one of them is
// whole.
bool first_whole(const Job& job, const std::function<bool(Lsn)>& is_whole) {
  return is_whole(job.first_lsn) || is_whole(job.location);
}

std::string encode_change(Change what, const std::string& id, const Job& job) {
  const Millis at = now_ms();
  switch (what) {
    case Change::kick:
      return encode_record(event::Kick{.id = id, .at = at});
    case Change::drop:
      return encode_record(
          event::Drop{.id = id, .at = at, .attempts = job.state == State::running ? job.failures : job.attempts()});
    case Change::keep:
      return encode_record(event::Keep{.id = id, .at = at});
    case Change::release:
      break;
  }
  return encode_record(event::Release{.id = id, .at = at});
}

}  // namespace

void NewJob::take_data(std::string bytes) {
  own = std::make_shared<const std::string>(std::move(bytes));
  data = *own;
  data_sum = sum64(data);
  add.part = {};
}

NewJob make_job(Submission asked, std::string_view data, const std::string& id, Part part) {
  NewJob job;
  job.add.id = id.empty() ? new_ulid() : id;
  job.add.given = !id.empty();
  job.add.at = now_ms();
  job.add.asked = std::move(asked);
  job.add.part = std::move(part);
  job.data = data;
  job.data_sum = sum64(data);
  job.encode();
  return job;
}

std::string_view change_name(Change what) {
  switch (what) {
    case Change::kick:
      return event::Kick::type;
    case Change::drop:
      return event::Drop::type;
    case Change::keep:
      return event::Keep::type;
    case Change::release:
      break;
  }
  return event::Release::type;
}

Store::Store(Directory directory, Settings settings, std::shared_ptr<Durability> durability, std::shared_ptr<Ends> ends)
    : m_directory(directory.kept_private()),
      m_settings(std::move(settings)),
      m_durability(std::move(durability)),
      m_ends(std::move(ends)),
      m_owners(m_directory.make_below(owners_name)),
      m_journal(m_directory, m_settings.store_id, *m_durability, m_settings.limits.segment_size),
      m_blobs(m_directory.make_below(blobs_name), *m_durability),
      m_index(m_directory, m_journal, m_settings.group.self),
      m_reader(m_journal, 0) {}

// Writes a large workload. If it returns an answer, the job is not queued.
std::optional<Answer> Store::put_blob(const NewJob& job, std::vector<Fd>& holds) {
  const std::string& id = job.add.id;
  for (;;) {
    auto held = m_blobs.put(id, job.data, job.data_sum, job.arrived.get());
    if (held) {
      holds.push_back(std::move(*held));
      return std::nullopt;
    }
    // There is a blob with this ID and other content. If no job has the ID and no process holds the blob, a crash has
    // left it: it is removed, and the loop tries again. Otherwise it belongs to another job, known already or being
    // queued.
    remove_unknown_blob(id);
    if (!m_blobs.open(id)) continue;
    bool known = false;
    m_index.visit([&](Fold& fold) { known = fold.get(id).has_value(); });
    if (known) return Answer{Outcome::conflict, {}, 0};
    return Answer{Outcome::refused, "another job with this ID is being queued", 0};
  }
}

bool PartsCost::add(uint64_t copied, uint64_t read) {
  if (copied > most_copied - m_copied || (m_read > 0 && read > most_read - m_read)) return false;
  m_copied += copied;
  m_read = read > most_read - m_read ? most_read : m_read + read;
  return true;
}

std::vector<std::optional<Answer>> Store::resolve(std::vector<NewJob>& jobs) {
  std::vector<std::optional<Answer>> answers(jobs.size());
  std::vector<std::optional<Job>> sources(jobs.size());
  if (std::none_of(jobs.begin(), jobs.end(), [](const NewJob& j) { return !j.add.part.source.empty(); }))
    return answers;
  m_index.visit([&](Fold& fold) {
    for (size_t i = 0; i < jobs.size(); ++i) {
      const std::string& source = jobs[i].add.part.source;
      if (source.empty()) continue;
      sources[i] = fold.get(source);
      if (sources[i] && sources[i]->state == State::finished && !fold.is_referenced(source)) sources[i].reset();
    }
  });
  EventReader reader(m_journal, 0);
  PartsCost cost;
  for (size_t i = 0; i < jobs.size(); ++i) {
    NewJob& job = jobs[i];
    Part& part = job.add.part;
    if (part.source.empty()) continue;
    auto bad = [&](const std::string& why) { answers[i] = Answer{Outcome::bad, why, 0}; };
    if (!sources[i]) {
      bad("this store does not have the workload of " + part.source +
          ": a finished job has it only with gq-flush --keep");
      continue;
    }
    const Job& source = *sources[i];
    if (part.length == to_the_end && part.offset <= source.size) part.length = source.size - part.offset;
    if (part.offset > source.size || part.length > source.size - part.offset) {
      bad("the workload of " + part.source + " has only " + std::to_string(source.size) + " bytes");
      continue;
    }
    const bool is_whole = part.offset == 0 && part.length == source.size;  // its sum is known
    if (!cost.add(source.is_inline() ? part.length : 0, source.is_inline() || is_whole ? 0 : part.length)) {
      answers[i] =
          Answer{Outcome::refused,
                 "the parts of other jobs' workloads that came with it are too many: more than 32 MiB of small "
                 "ones, or 256 MiB of large ones",
                 0};
      continue;
    }
    std::string reason;
    try {
      if (source.is_inline()) {
        auto whole = workload(part.source, source, reason, reader);
        if (whole) job.take_data(whole->data.substr(part.offset, part.length));
      } else {
        part.offset += source.offset;
        part.source = blob_of(part.source, source);
        Fd blob = m_blobs.open(part.source);
        auto sum = !blob      ? std::nullopt
                   : is_whole ? std::optional(source.sum)
                              : sum_part(blob.get(), part.offset, part.length);
        if (sum) part.sum = *sum;
        else reason = "its blob is gone or too short";
      }
    } catch (const Error& e) {
      answers[i] = {Outcome::refused, e.what(), e.error_number()};
      continue;
    }
    if (!reason.empty()) {
      bad("the workload of " + part.source + " cannot be read: " + reason);
      continue;
    }
    job.encode();
  }
  return answers;
}

// Appends these jobs while no process can remove the workloads to which they refer. Jobs whose source has been removed
// are answered, and left out of the lists.
std::vector<Placed> Store::append_references(const std::vector<NewJob>& jobs, std::vector<size_t>& of,
                                             std::vector<RecordBytes>& bytes, std::vector<Answer>& answers) {
  std::vector<Placed> placed;
  m_journal.prepare();
  m_index.visit([&](Fold& fold) {
    std::vector<size_t> good;
    std::vector<RecordBytes> records;
    for (size_t n = 0; n < of.size(); ++n) {
      const std::string& source = jobs[of[n]].add.part.source;
      auto known = fold.get(jobs[of[n]].add.id);
      if (!source.empty() && !needs_blob(fold, source) && !(known && known->source == source)) {
        answers[of[n]] = {Outcome::bad, "the workload of " + source + " has just been removed", 0};
        continue;
      }
      good.push_back(of[n]);
      records.push_back(bytes[n]);
    }
    if (!records.empty()) placed = m_journal.append(records, Room::intake);
    of = std::move(good);
    bytes = std::move(records);
  });
  return placed;
}

void Store::check_room(uint64_t size, uint64_t run) {
  if (m_journal.has_room(size, run)) return;
  // Jobs accepted before may need less room by now. (Jobs that arrive meanwhile are counted when they arrive.)
  const Lsn end = m_journal.end();
  uint64_t live = 0;
  for_each_function([&](const std::string&, const Counters& c) { live += c.live(); });
  const uint64_t owed = room_to_finish(live);
  m_journal.set_owed(end, owed);
  if (m_journal.has_room(size, run, owed)) return;
  errno = ENOSPC;
  throw_errno(Exit::storage, "queue " + std::to_string(size) + " bytes");
}

std::vector<Answer> Store::add(const std::vector<NewJob>& jobs, const Appended& appended) {
  std::vector<Answer> answers(jobs.size());
  std::vector<RecordBytes> bytes;
  std::vector<size_t> of;  // the job that each of bytes belongs to
  std::vector<Fd> holds;
  std::vector<size_t> given;  // whose ID may be another job's, or whose key
  auto refuse = [&](size_t i, const Error& e) {
    answers[i] = {e.code() == Exit::retry ? Outcome::unknown : Outcome::refused, e.what(), e.error_number()};
  };
  uint64_t size = 0, heads = 0;
  for (const auto& job : jobs) {
    heads += job.head.size() + job.state.size();
    size += job.head.size() + job.state.size() + (job.arrived ? 0 : job.data.size());
  }
  try {
    check_room(size, room_to_run(jobs.size(), heads));
  } catch (const Error& e) {
    for (size_t i = 0; i < jobs.size(); ++i) refuse(i, e);
    return answers;
  }
  for (size_t i = 0; i < jobs.size(); ++i) {
    try {
      if (jobs[i].data.size() > max_inline_data) {
        if (auto answer = put_blob(jobs[i], holds)) {
          answers[i] = *answer;
          continue;
        }
        bytes.emplace_back(jobs[i].head);
      } else {
        bytes.emplace_back(jobs[i].head, jobs[i].data);
      }
      of.push_back(i);
    } catch (const Error& e) {
      refuse(i, e);
    }
  }
  if (bytes.empty()) return answers;
  try {
    bool references = std::any_of(of.begin(), of.end(), [&](size_t i) { return !jobs[i].add.part.source.empty(); });
    std::vector<RecordBytes> all;
    for (size_t n = 0; n < of.size() && !references; ++n) {
      all.push_back(bytes[n]);
      if (!jobs[of[n]].state.empty()) all.emplace_back(jobs[of[n]].state);
    }
    auto placed = references ? append_references(jobs, of, bytes, answers) : m_journal.append(all, Room::intake);
    if (of.empty()) return answers;
    if (references) all = bytes;
    if (appended) appended(of, placed.front().lsn, placed.back().end);
    m_journal.make_safe(all, std::move(placed), Room::intake);
    std::vector<std::string_view> ids;
    for (size_t i : of) ids.push_back(jobs[i].add.id);
    std::sort(ids.begin(), ids.end());
    bool twice = std::adjacent_find(ids.begin(), ids.end()) != ids.end();
    for (size_t i : of) {
      answers[i].outcome = Outcome::queued;
      if (twice || jobs[i].add.given || !jobs[i].add.asked.key.empty()) given.push_back(i);
    }
  } catch (const Error& e) {
    if (e.code() == Exit::config) throw;  // the store itself cannot be used
    for (size_t i : of) refuse(i, e);
    // No job refers to the blobs of refused jobs, unless another process delivers the same job now. (If the outcome is
    // unknown, the blobs stay.)
    holds.clear();
    for (size_t i : of)
      if (answers[i].outcome == Outcome::refused && jobs[i].data.size() > max_inline_data) {
        try {
          remove_unknown_blob(jobs[i].add.id);
        } catch (const Error&) {  // Cleaner::sweep() removes orphans
        }
      }
  }
  // An ID that a user chose, or a key, may have been another job's already. The fold has decided that; here the result
  // is read.
  if (!given.empty()) {
    holds.clear();
    std::vector<std::string> unknown;
    try {
      m_index.visit([&](Fold& fold) {
        unknown.clear();
        for (size_t i : given) {
          const event::Add& add = jobs[i].add;
          auto known = fold.get(add.id);
          std::optional<std::string> first;
          if (!known && !add.asked.key.empty() && (add.node.empty() || add.node == group().self.node)) {
            if (jobs[i].data.size() > max_inline_data) unknown.push_back(add.id);
            if ((first = fold.keyed(add.asked.function, add.asked.key, add.at))) known = fold.get(*first);
          }
          answers[i] = answer_to(add, jobs[i].data.size(), jobs[i].data_sum, known, first);
        }
      });
    } catch (const Error& e) {
      for (size_t i : given) answers[i] = {Outcome::unknown, e.what(), e.error_number()};
    }
    try {
      for (const auto& id : unknown) remove_unknown_blob(id);
    } catch (const Error&) {  // Cleaner::sweep() removes them
    }
  }
  return answers;
}

bool Store::needs_blob(Fold& fold, const std::string& id) {
  auto job = fold.get(id);
  return job && (job->state != State::finished || fold.is_owed(*job) || fold.is_referenced(id));
}

// Returns those blobs that `is_free` accepts, each locked. Call it in a visit. A process that stores a blob keeps it
// locked until its job is acknowledged or refused. So once the blobs are locked here, each such job's record is in the
// journal, or will never be: the new records are folded, and `is_free` is asked again.
std::vector<Blobs::Taken> Store::take_blobs(Fold& fold, const std::vector<std::string>& ids,
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

// If a process takes a snapshot, or another process removes files, the blobs stay until a later call.
void Store::take_free_blobs(Fold& fold, Removal& removal) {
  MutexLock guard(m_free_mutex);
  for (const auto& taken : removal.blobs)
    m_free_blobs.push_back(taken.id);  // the index was rebuilt, and the visit started again
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

void Store::remove(Removal removal) {
  auto& blobs = removal.blobs;
  if (blobs.empty()) return;
  try {
    m_journal.sync_all();  // another process may have finished the last job that needed one, unsynced
    for (; !blobs.empty(); blobs.pop_back()) m_blobs.remove(blobs.back());
  } catch (const Error&) {
    for (const auto& taken : blobs) forget_blob(taken.id);
    throw;
  }
}

void Store::remove_unneeded(const std::vector<std::string>& ids) {
  for (size_t at = 0; at < ids.size(); at += most_removed) {
    const auto begin = ids.begin() + static_cast<long>(at);
    const std::vector<std::string> some(begin, begin + static_cast<long>(std::min(ids.size() - at, most_removed)));
    Removal removal;
    m_index.visit([&](Fold& fold) {
      removal.blobs.clear();  // unlocks them, if the visit is repeated
      removal.blobs = take_blobs(fold, some, [&](const std::string& id) { return !needs_blob(fold, id); });
    });
    remove(std::move(removal));
  }
}

void Store::remove_unknown_blob(const std::string& id) {
  std::vector<Blobs::Taken> taken;
  m_index.visit([&](Fold& fold) {
    taken.clear();
    taken = take_blobs(fold, {id}, [&](const std::string&) { return !fold.get(id); });
  });
  for (const auto& blob : taken) m_blobs.remove(blob);
}

void Store::for_each_function(const std::function<void(const std::string&, const Counters&)>& body) {
  std::string cursor;
  for (bool last = false; !last;) {
    std::vector<std::pair<std::string, Counters>> some;
    const std::string from = cursor;
    m_index.visit([&](Fold& fold) {
      std::vector<std::string> names;
      cursor = from;
      some.clear();
      last = fold.functions(most_functions, cursor, names);
      for (const auto& name : names) some.emplace_back(name, fold.counters(name));
    });
    for (const auto& [name, counters] : some) body(name, counters);
  }
}

void Store::forget_blob(const std::string& id) {
  MutexLock guard(m_free_mutex);
  m_free_blobs.push_back(id);
}

void Store::remove_blobs_of(const std::vector<std::string>& ids) {
  for (const auto& id : ids) forget_blob(id);
  forget_blobs();
}

void Store::forget_blobs() {
  for (;;) {
    {
      MutexLock guard(m_free_mutex);
      if (m_free_blobs.empty()) return;
    }
    Removal removal;
    m_index.visit([&](Fold& fold) { take_free_blobs(fold, removal); });
    if (!removal.clean_lock) return;
    remove(std::move(removal));
  }
}

std::string Store::waits() const {
  const std::string unserved = "until a process serves this node (gq-worker or gq-replicate)";
  Fd fd = m_directory.find(returned_name, O_RDONLY);
  if (!fd) return unserved;
  bool returned = !try_lock(fd.get(), FileLock::Mode::shared);
  char text[2048];
  auto beat = parse_beat(std::string_view(text, read_at(fd.get(), text, sizeof text, 0)));
  if (!beat) return returned ? std::string() : unserved;  // an older program writes none
  if (is_gap(beat->at, read_times(), beat->longest))
    return returned ? "until the process that serves this node continues; it has been silent since " +
                          format_time(beat->at.wall)
                    : unserved;
  return returned || !beat->waits.empty() ? beat->waits : unserved;
}

// Ends the jobs that are marked as done in the database. A living process ends the jobs that it holds itself.
void Store::take_ends() {
  auto ids = m_ends->ends();
  if (ids.empty()) return;
  std::vector<std::string> known, freed;
  m_journal.prepare();
  m_index.visit([&](Fold& fold) {
    std::vector<std::string> records;
    known.clear();
    freed.clear();
    for (const auto& id : ids) {
      auto job = fold.get(id);
      if (job && job->state != State::finished && job->state != State::kept) {
        if (!job->owner.empty() && owner_alive(owners_directory(), job->owner)) continue;
        records.push_back(encode_record(event::Done{.id = id, .at = now_ms(), .attempts = job->failures + 1}));
        if (std::string blob = blob_of(id, *job); !blob.empty()) freed.push_back(blob);
      }
      known.push_back(id);
    }
    if (records.empty()) return;
    append(records);
    m_index.fold_on(fold, m_unsettled_end);
  });
  settle();
  remove_blobs_of(freed);
  m_ends->forget_ends(known);
}

// Ends claimed jobs that were marked as done after take_ends() looked. Only a job that was started before can be.
void Store::leave_out_ended(std::vector<Claim>& jobs) {
  if (std::none_of(jobs.begin(), jobs.end(), [](const Claim& c) { return c.job.starts > 0; })) return;
  std::set<std::string> ended;
  for (const auto& c : jobs)
    if (c.job.starts > 0 && m_ends->has_ended(c.id)) ended.insert(c.id);
  std::vector<std::string> records;
  for (const auto& c : jobs) {
    if (!ended.count(c.id)) continue;
    records.push_back(encode_record(event::Done{.id = c.id, .at = now_ms(), .attempts = c.job.failures + 1}));
    if (std::string blob = blob_of(c.id, c.job); !blob.empty()) forget_blob(blob);
  }
  if (records.empty()) return;
  append(records);
  settle();
  jobs.erase(std::remove_if(jobs.begin(), jobs.end(), [&](const Claim& c) { return ended.count(c.id) > 0; }),
             jobs.end());
}

Claims Store::claim(const ClaimRequest& request) {
  ClaimContext context{.away = group().once && !has_returned(),
                       .turn = m_turn,
                       .is_alive = [&](const std::string& owner) { return owner_alive(owners_directory(), owner); }};
  if (request.most > 0 && !context.away) {
    context.most =
        m_journal.check_claim_room() ? std::max(few_claims, m_index.jobs_with_room(most_claims)) : few_claims;
    if (m_ends) take_ends();
  }
  Claims result;
  Removal removal;
  auto functions = request.functions;
  remove_repeated(functions);  // the jobs of one that is named twice would be claimed twice
  if (functions.empty())
    for_each_function([&](const std::string& function, const Counters&) { functions.push_back(function); });
  size_t most = std::min(request.most, context.most);
  if (functions.size() > most_functions) {
    std::rotate(functions.begin(), functions.begin() + static_cast<long>(m_turn % functions.size()), functions.end());
    context.turn = 0;
  }
  for (size_t at = 0; at == 0 || at < functions.size(); at += most_functions) {
    const auto begin = functions.begin() + static_cast<long>(at);
    const size_t now = std::min(functions.size() - at, most_functions);
    context.functions.assign(begin, begin + static_cast<long>(now));
    context.later = functions.size() - at - now;
    context.most = most;
    Claims part;
    m_index.visit([&](Fold& fold) {
      if (at == 0) take_free_blobs(fold, removal);
      context.now = now_ms();
      context.fold_on = [&] { m_index.fold_on(fold); };
      Chosen chosen = choose(fold, request, context);
      part = std::move(chosen.claims);
      if (context.away) part.next_due = context.now + return_interval;
      record_claim(fold, request.owner, context.now, part.jobs, chosen.strays);
    });
    most -= std::min(most, part.jobs.size());
    result.add(std::move(part));
  }
  ++m_turn;
  try {
    remove(std::move(removal));
  } catch (const Error&) {  // the next claim tries again
  }
  if (m_ends) leave_out_ended(result.jobs);
  return result;
}

// Appends the claim of these jobs, releases the strays, and leaves in `jobs` those that this process got.
void Store::record_claim(Fold& fold, const std::string& owner, Millis now, std::vector<Claim>& jobs,
                         const std::vector<Claim>& strays) {
  std::vector<std::string> records;
  for (const auto& [id, job] : strays)
    records.push_back(
        encode_record(event::Fail{.id = id, .at = now, .owner = job.owner, .start = job.starts, .spent = false}));
  event::Claim claimed{.at = now, .owner = owner};
  for (const auto& c : jobs) claimed.ids.push_back(c.id);
  if (!jobs.empty()) records.push_back(encode_record(claimed));
  if (records.empty()) return;
  // Do not append this again after a failed sync: it would override a later claim.
  m_index.fold_on(fold, m_journal.append({records.begin(), records.end()}, Room::completion).back().end);
  // The end of another process's job may have been appended just before.
  std::vector<Claim> own;
  for (auto& c : jobs)
    if (auto job = fold.get(c.id); job && job->state == State::claimed && job->owner == owner)
      own.push_back({c.id, std::move(*job)});
  jobs = std::move(own);
}

std::vector<std::optional<std::string>> Store::change(Change what, const std::vector<std::string>& ids) {
  std::vector<std::optional<std::string>> results(ids.size());
  std::vector<std::string> freed;
  m_journal.prepare();
  m_index.visit([&](Fold& fold) {
    std::vector<std::string> records;
    freed.clear();
    for (size_t i = 0; i < ids.size(); ++i) {
      results[i].reset();
      auto job = fold.get(ids[i]);
      if (!job) {
        results[i] = "there is no such job in this store";
      } else if (job->state == State::finished) {
        // Its key may still stand for it.
        if (what == Change::drop && !job->key.empty() && fold.keyed(job->function, job->key, now_ms()) == ids[i])
          records.push_back(encode_record(event::Drop{.id = ids[i], .at = now_ms()}));
        else results[i] = "it is finished";
      } else if ((what == Change::kick || what == Change::keep) && job->state == State::held) {
        results[i] = "it is for " + job->node + " to run";
      } else if (what == Change::release && !job->keep) {
        results[i] = "it is not kept";
      } else if (what != Change::keep && what != Change::release && !job->owner.empty() &&
                 owner_alive(owners_directory(), job->owner)) {
        results[i] = job->state == State::running ? "it is running" : "it is about to run";
      } else {
        records.push_back(encode_change(what, ids[i], *job));
        std::string blob = blob_of(ids[i], *job);
        if ((what == Change::drop || what == Change::release) && !blob.empty()) freed.push_back(blob);
      }
    }
    if (records.empty()) return;
    append(records);
    m_index.fold_on(fold, m_unsettled_end);
  });
  settle();
  remove_blobs_of(freed);
  return results;
}

void Store::pause(const std::string& function, bool paused) {
  if (paused) append({encode_record(event::Pause{.function = function, .at = now_ms()})});
  else append({encode_record(event::Resume{.function = function, .at = now_ms()})});
  settle();
}

void Store::append(const std::vector<std::string>& records) {
  auto placed = m_journal.append({records.begin(), records.end()}, Room::completion);
  if (m_unsettled.empty()) m_unsettled_from = placed.front().lsn;
  m_unsettled.insert(m_unsettled.end(), records.begin(), records.end());
  m_unsettled_end = placed.back().end;
}

void Store::settle() {
  if (m_unsettled.empty()) return;
  if (!m_journal.sync(m_unsettled_from, m_unsettled_end))
    m_journal.commit({m_unsettled.begin(), m_unsettled.end()}, Room::completion);
  m_unsettled.clear();
}

std::optional<Workload> Store::workload(const std::string& id, const Job& job, std::string& reason) {
  return workload(id, job, reason, m_reader);
}

std::optional<Workload> Store::workload(const std::string& id, const Job& job, std::string& reason,
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

// Replaces a damaged workload by its second copy, if there is one and it is whole.
void Store::restore(Workload& w, const std::string& id, const Job& job, std::string& reason) const {
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

}  // namespace gq
