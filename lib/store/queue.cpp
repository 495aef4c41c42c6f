#include "gq/store/queue.hpp"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <deque>
#include <nlohmann/json.hpp>
#include <set>

#include "gq/base/bytes.hpp"
#include "gq/base/text.hpp"
#include "gq/base/ulid.hpp"
#include "gq/store/lease.hpp"

namespace gq {
namespace {

constexpr size_t most_wakes = 1000;      // how many relations between jobs change in one visit to the index
constexpr uint64_t edge_size = 30;       // bytes of an after record for each parent
constexpr Millis return_interval{500};   // how often to check whether this node has returned to its group
constexpr Millis letter_interval{1000};  // how often to check whether the disk has room for the dead letters that wait

std::string encode_change(Change what, const std::string& id, const Job& job) {
  const Millis at = now_ms();
  switch (what) {
    case Change::kick:
      return encode_record(event::Kick{.id = id, .at = at});
    case Change::drop:
      if (job.state == State::finished) return encode_record(event::Drop{.id = id, .at = at});  // this frees its key
      return encode_record(
          event::Drop{.id = id, .at = at, .attempts = job.state == State::running ? job.failures : job.attempts()});
    case Change::keep:
      return encode_record(event::Keep{.id = id, .at = at});
    case Change::cancel:
      return encode_record(event::Cancel{.id = id, .at = at});
    case Change::release:
      break;
  }
  return encode_record(event::Release{.id = id, .at = at});
}

std::vector<std::string> encode_expired(const std::vector<std::string>& ids, Millis at) {
  std::vector<std::string> records;
  for (const auto& id : ids)
    records.push_back(
        encode_record(event::Dead{.id = id, .at = at, .owner = event::nobody, .spent = false, .why = "expired"}));
  return records;
}

// Returns the ID of the letter about a dead job. The same death always makes the same ID: term and version count the
// changes of the job's owner and state, also its kicks.
std::string letter_id(const std::string& id, const Job& job) {
  const std::string death = id + " " + std::to_string(job.term) + " " + std::to_string(job.version);
  std::string hash;
  put_le<uint64_t>(hash, sum64(death));
  put_le<uint64_t>(hash, sum64(death, 1));
  std::array<uint8_t, 10> bits{};
  std::copy_n(hash.begin(), bits.size(), bits.begin());
  return ulid_like(id, bits);
}

// Returns the dead letter about a job, which is a job.
NewJob letter_job(const Claims::Letter& letter, const Group& group, Millis now) {
  const auto& [id, job] = letter.dead;
  std::string reason = job.why;
  limit_reason(reason);  // a journal from elsewhere may have a longer one, and JSON has up to 6 bytes for each of these
  nlohmann::ordered_json json = {{"id", id},
                                 {"function", job.function},
                                 {"reason", reason},
                                 {"attempts", job.attempts()},
                                 {"enqueued_at", format_time(job.enqueued_at)},
                                 {"dead_at", format_time(job.changed_at)}};
  if (job.exit != no_exit) json["exit_status"] = job.exit;
  if (job.signal) json["signal"] = job.signal;
  if (!job.key.empty()) json["key"] = job.key;
  if (!job.name.empty()) json["name"] = job.name;
  if (group) json["node"] = group.self.node;
  json["workload"] = {{"id", id}, {"size", job.size}};
  NewJob made;
  made.take_data(
      std::make_shared<const std::string>(json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n"));
  event::Add& add = made.add;
  add = {.id = letter_id(id, job), .at = now, .asked = {.function = letter.to}, .letter = id};
  // If each node runs all jobs, it also runs the letters that it makes itself, and only these.
  if (group.once) add.node = group.self.node, add.store = group.self.store, add.copies = group.copies, add.once = true;
  made.encode();
  return made;
}

// Leaves in `jobs` those that this owner holds: another process may have appended the end of one of them just before
// its claim.
void leave_own(Fold& fold, const std::string& owner, std::vector<Claim>& jobs) {
  std::vector<Claim> own;
  for (const auto& c : jobs)
    if (auto job = fold.get(c.id); job && job->state == State::claimed && job->owner == owner)
      own.push_back({c.id, std::move(*job)});
  jobs = std::move(own);
}

// Adds the records with which the unborn children of a job are forgotten to `records`, and their blobs to `blobs`.
void encode_forgotten(Fold& fold, const std::string& parent, Millis at, std::vector<std::string>& records,
                      std::vector<std::string>& blobs) {
  event::Forget forget{.at = at, .position = fold.position().end};
  auto add = [&] {
    if (!forget.ids.empty()) records.push_back(encode_record(forget));
    forget.ids.clear();
  };
  for (const auto& id : fold.unborn(parent)) {
    if (const auto child = fold.get(id); child && !child->is_inline()) blobs.push_back(id);
    forget.ids.push_back(id);
    if (forget.ids.size() == most_claims) add();
  }
  add();
}

}  // namespace

std::string_view change_name(Change what) {
  switch (what) {
    case Change::kick:
      return event::Kick::type;
    case Change::drop:
      return event::Drop::type;
    case Change::keep:
      return event::Keep::type;
    case Change::cancel:
      return event::Cancel::type;
    case Change::release:
      break;
  }
  return event::Release::type;
}

Queue::Queue(Directory directory, Settings settings, std::shared_ptr<Durability> durability, std::shared_ptr<Ends> ends)
    : Ledger(std::move(directory), std::move(settings), std::move(durability)), m_ends(std::move(ends)) {}

// The state of one call of add(). Refused jobs have an answer, and their numbers are not in `of`.
struct Queue::Adding {
  const std::vector<NewJob>& jobs;
  std::vector<Answer> answers = std::vector<Answer>(jobs.size());
  std::vector<size_t> of{};          // the numbers of the jobs that are, or will be, in the journal
  std::vector<size_t> doubted{};     // the numbers of jobs that are not: another job with their ID is being queued
  std::vector<RecordBytes> bytes{};  // the records of the jobs in `of`
  std::vector<Fd> holds{};           // the blobs of these jobs, locked
  std::set<size_t> known{};          // the numbers of jobs that the store has, with all their parents
  std::deque<std::string> edges{};   // the records about their parents, to which `bytes` refers

  void refuse(size_t i, const Error& e) {
    answers[i] = {e.code() == Exit::retry ? Outcome::unknown : Outcome::refused, e.what(), e.error_number()};
  }
  void encode() {
    bytes.clear();
    edges.clear();
    for (size_t i : of) {
      bytes.emplace_back(jobs[i].head, jobs[i].has_blob() ? std::string_view() : jobs[i].data);
      if (!known.contains(i))
        for (auto& record : jobs[i].parent_records()) bytes.emplace_back(edges.emplace_back(std::move(record)));
      if (!jobs[i].state.empty()) bytes.emplace_back(jobs[i].state);
    }
  }
  // Returns the numbers of the jobs whose ID or key another job may have.
  std::vector<size_t> given() const {
    std::vector<std::string_view> ids;
    for (size_t i : of) ids.push_back(jobs[i].add.id);
    std::sort(ids.begin(), ids.end());
    const bool twice = std::adjacent_find(ids.begin(), ids.end()) != ids.end();
    std::vector<size_t> numbers = doubted;  // the other job may be one of these
    for (size_t i : of)
      if (twice || jobs[i].add.given || !jobs[i].add.asked.key.empty()) numbers.push_back(i);
    return numbers;
  }
};

std::vector<Answer> Queue::add(const std::vector<NewJob>& jobs, const Appended& appended) {
  Adding adding{jobs};
  const auto expired = add_once(adding, appended);
  if (!expired.empty()) add_again(adding, expired);
  return adding.answers;
}

// Returns what answer_given() does.
std::map<size_t, std::string> Queue::add_once(Adding& adding, const Appended& appended) {
  if (!check_room_for(adding)) return {};
  put_blobs(adding);
  if (adding.of.empty()) return {};
  try {
    append_jobs(adding, appended);
  } catch (const Error& e) {
    if (e.code() == Exit::config) throw;  // the store itself cannot be used
    withdraw(adding, e);
    return {};
  }
  for (size_t i : adding.of) adding.answers[i].outcome = Outcome::queued;
  return answer_given(adding);
}

bool Queue::check_room_for(Adding& adding) {
  uint64_t size = 0, heads = 0, records = adding.jobs.size();
  for (const auto& job : adding.jobs) {
    const uint64_t head = job.head.size() + job.state.size() + job.parents.size() * edge_size;
    heads += head;
    records += job.parents.size() + job.add.parents.size();
    size += head + (job.arrived ? 0 : job.data.size());
  }
  try {
    check_room(size, room_to_run(records, heads));
    return true;
  } catch (const Error& e) {
    for (size_t i = 0; i < adding.jobs.size(); ++i) adding.refuse(i, e);
    return false;
  }
}

void Queue::put_blobs(Adding& adding) {
  for (size_t i = 0; i < adding.jobs.size(); ++i) {
    try {
      const auto answer = adding.jobs[i].has_blob() ? put_blob_of(adding.jobs[i], adding.holds) : std::nullopt;
      if (answer) adding.answers[i] = *answer;
      if (!answer) adding.of.push_back(i);
      else if (answer->outcome == Outcome::unknown) adding.doubted.push_back(i);
    } catch (const Error& e) {
      adding.refuse(i, e);
    }
  }
}

// Writes the blob of a job. If it returns an answer, the job must not be queued.
std::optional<Answer> Queue::put_blob_of(const NewJob& job, std::vector<Fd>& holds) {
  const std::string& id = job.add.id;
  for (;;) {
    auto held = put_blob(id, job.data, job.data_sum, job.arrived.get());
    if (held) {
      holds.push_back(std::move(*held));
      return std::nullopt;
    }
    // There is a blob with this ID and other content. If no job has the ID and no process holds the blob, a crash has
    // left it: remove it, and try again. Otherwise it belongs to another job, which is known already or is being
    // queued.
    remove_unknown_blob(id);
    if (!open_blob(id)) continue;
    bool known = false;
    look([&](Fold& fold) { known = fold.get(id).has_value(); });
    if (known) return Answer{Outcome::conflict, {}, 0};
    return Answer{Outcome::unknown, "another job with this ID is being queued", 0};
  }
}

void Queue::append_jobs(Adding& adding, const Appended& appended) {
  const bool refers = std::any_of(adding.of.begin(), adding.of.end(),
                                  [&](size_t i) { return adding.jobs[i].is_part() || adding.jobs[i].has_parents(); });
  if (!refers) adding.encode();
  auto placed = refers ? append_that_refer(adding) : append(adding.bytes, Room::intake);
  if (placed.empty()) return;
  if (appended) appended(adding.of, placed.front().lsn, placed.back().end);
  make_safe(adding.bytes, std::move(placed), Room::intake);
}

// Returns the answer to a job that refers to other jobs which the store does not have any more; nullopt if it has them.
std::optional<Answer> Queue::refusal_of(Fold& fold, const NewJob& job, bool& is_known) {
  const event::Add& add = job.add;
  const auto known = fold.get(add.id);
  // A job that is sent again is known by its ID or key, whatever has become of its parents since.
  const auto& asked = add.asked;
  is_known = known ? has_ended(*known) || known->edges == known->after
                   : !asked.key.empty() && fold.keyed(asked.function, asked.key, add.at);
  const std::string& source = add.part.source;
  if (!source.empty() && !needs_blob(fold, source) && !(known && known->source == source))
    return Answer{Outcome::bad, "the workload of " + source + " has just been removed", 0};
  if (is_known) return std::nullopt;
  // Only a part of the job's parents are recorded. Sent again, it must name all of them as before.
  if (known && (!is_same(add, job.data.size(), job.data_sum, *known) || asked.after != known->after ||
                asked.after_any != known->after_any || asked.parents_sum != known->parents_sum))
    return Answer{Outcome::conflict};
  const bool accepts = add.node == group().self.node && add.store == group().self.store;
  for (const auto& id : accepts ? add.parents : std::vector<std::string>())
    if (!fold.get(id) && std::find(add.met.begin(), add.met.end(), id) == add.met.end())
      return Answer{Outcome::unknown, "it is to run after " + id + ", which has just been forgotten", 0};
  for (const auto& id : job.parents) {
    const auto parent = fold.get(id);
    if (!parent || parent->unborn || parent->spooled)
      return Answer{Outcome::bad, "it is to run after " + id + ", which the store does not know", 0};
    // If the job was after one that is younger than itself, the two could wait for each other.
    if (known && parent->first_lsn >= known->first_lsn)
      return Answer{Outcome::bad, "it is to run after " + id + ", which is not older than itself", 0};
  }
  return std::nullopt;
}

// Appends the jobs while no process can remove the workloads to which they refer, or forget their parents. Refuses jobs
// whose source has been removed, or whose parents the store does not know.
std::vector<Placed> Queue::append_that_refer(Adding& adding) {
  std::vector<Placed> placed;
  prepare();
  look([&](Fold& fold) {
    adding.known.clear();
    std::erase_if(adding.of, [&](size_t i) {
      bool is_known = false;
      const auto refusal = refusal_of(fold, adding.jobs[i], is_known);
      if (is_known) adding.known.insert(i);
      if (refusal) adding.answers[i] = *refusal;
      return refusal.has_value();
    });
    adding.encode();
    if (!adding.bytes.empty()) placed = append(adding.bytes, Room::intake);
  });
  return placed;
}

// Removes the blobs of refused jobs, unless another process is delivering the same job now. If the outcome is unknown,
// the blobs stay. On a full disk the append may have written records before it failed. It has cut them off, but a power
// cut could bring them back, without their blobs; so the journal is synced first.
void Queue::withdraw(Adding& adding, const Error& error) {
  adding.holds.clear();
  bool is_synced = false;
  for (size_t i : adding.of) {
    adding.refuse(i, error);
    if (adding.answers[i].outcome != Outcome::refused || !adding.jobs[i].has_blob()) continue;
    try {
      if (!is_synced) sync_all();
      is_synced = true;
      remove_unknown_blob(adding.jobs[i].add.id);
    } catch (const Error&) {  // Cleaner::sweep() will remove the orphans
    }
  }
}

// Answers jobs with an ID that a user chose, or with a key: another job may have had the ID or the key already. The
// fold has decided that; this function reads the result. If another job has the key and has expired, but no process has
// recorded that yet, the job is not answered. Returns the numbers of such jobs, each with the ID of the expired job.
std::map<size_t, std::string> Queue::answer_given(Adding& adding) {
  std::map<size_t, std::string> expired;
  const auto given = adding.given();
  if (given.empty()) return expired;
  adding.holds.clear();
  std::vector<std::string> unknown;
  try {
    look([&](Fold& fold) {
      unknown.clear();
      expired.clear();
      for (size_t i : given) {
        const NewJob& job = adding.jobs[i];
        const event::Add& add = job.add;
        auto known = fold.get(add.id);
        std::optional<std::string> first;
        if (!known && !add.asked.key.empty() && (add.node.empty() || add.node == group().self.node)) {
          if ((first = fold.keyed(add.asked.function, add.asked.key, add.at))) known = fold.get(*first);
          if (known && can_expire(*known) && is_late(*known, now_ms())) {
            expired[i] = *first;
            continue;
          }
          if (job.has_blob()) unknown.push_back(add.id);
        }
        if (known || adding.answers[i].outcome != Outcome::unknown)
          adding.answers[i] = answer_to(add, job.data.size(), job.data_sum, known, first);
      }
    });
  } catch (const Error& e) {
    for (size_t i : given) adding.answers[i] = {Outcome::unknown, e.what(), e.error_number()};
  }
  try {
    for (const auto& id : unknown) remove_unknown_blob(id);
  } catch (const Error&) {  // Cleaner::sweep() will remove them
  }
  return expired;
}

// Records that these other jobs have expired, which frees their keys. Then adds the jobs again, as one group and only
// once: if many jobs with one key have expired, each would otherwise free the key of the one before, with its own
// syncs.
void Queue::add_again(Adding& adding, const std::map<size_t, std::string>& expired) {
  try {
    std::vector<std::string> ids;
    std::vector<NewJob> jobs;
    for (const auto& [i, id] : expired) ids.push_back(id), jobs.push_back(adding.jobs[i]);
    commit([&](Fold&) { return encode_expired(ids, now_ms()); }, Room::completion);
    Adding again{jobs};
    for (const auto& [n, id] : add_once(again, {}))
      again.answers[n] = {Outcome::unknown, "its key has just been freed", 0};
    auto answer = again.answers.begin();
    for (const auto& [i, id] : expired) adding.answers[i] = *answer++;
  } catch (const Error& e) {
    for (const auto& [i, id] : expired) adding.answers[i] = {Outcome::unknown, e.what(), e.error_number()};
  }
}

std::string Queue::waits() const {
  const std::string unserved = "until a process serves this node (gq-worker or gq-replicate)";
  Fd fd = directory().find(returned_name, O_RDONLY);
  if (!fd) return unserved;
  bool returned = !try_lock(fd.get(), FileLock::Mode::shared);
  char text[2048];
  auto beat = parse_beat(std::string_view(text, read_at(fd.get(), text, sizeof text, 0)));
  if (!beat) return returned ? std::string() : unserved;  // an older program writes no lease
  if (is_gap(beat->at, read_times(), beat->longest))
    return returned ? "until the process that serves this node continues; it has been silent since " +
                          format_time(beat->at.wall)
                    : unserved;
  return returned || !beat->waits.empty() ? beat->waits : unserved;
}

// Records the ends of the jobs that are marked as done in the database. Leaves jobs that a living process holds: that
// process records their ends.
void Queue::take_ends() {
  auto ids = m_ends->ends();
  if (ids.empty()) return;
  std::vector<std::string> known, freed, unborn;
  commit(
      [&](Fold& fold) {
        std::vector<std::string> records;
        known.clear();
        freed.clear();
        unborn.clear();
        for (const auto& id : ids) {
          auto job = fold.get(id);
          if (job && job->state != State::finished && job->state != State::kept) {
            if (is_held(*job)) continue;
            encode_forgotten(fold, id, now_ms(), records, unborn);
            records.push_back(encode_record(event::Done{.id = id, .at = now_ms(), .attempts = job->failures + 1}));
            if (std::string blob = blob_of(id, *job); !blob.empty()) freed.push_back(blob);
          }
          known.push_back(id);
        }
        return records;
      },
      Room::completion);
  if (known.empty()) return;
  sync_all();  // another process, or an earlier call, may have appended the end of a job and not synced it
  remove_blobs_of(freed);
  remove_blobs_of_forgotten(unborn);
  m_ends->forget_ends(known);
}

// Removes from `jobs` those that were marked as done after take_ends() looked, and records their ends. Only a job that
// was started before can have been marked. The others may be marked at any time from now on, so the database must have
// them first. Otherwise a crash could leave the mark of a job that the store does not know. The mark would be removed,
// and the job would run again after its client, which got no answer, had sent it again.
void Queue::leave_out_ended(std::vector<Claim>& jobs, Lsn grounds) {
  if (!jobs.empty()) sync(0, grounds);
  std::vector<std::string> records;
  std::erase_if(jobs, [&](const Claim& c) {
    if (c.job.starts == 0 || !m_ends->has_ended(c.id)) return false;
    records.push_back(encode_record(event::Done{.id = c.id, .at = now_ms(), .attempts = c.job.failures + 1}));
    if (std::string blob = blob_of(c.id, c.job); !blob.empty()) forget_blob(blob);
    return true;
  });
  if (records.empty()) return;
  append(records);
  settle();
}

ClaimContext Queue::context_of(const ClaimRequest& request) {
  ClaimContext context{.away = group().once && !has_returned(),
                       .turn = m_turn,
                       .letters_from = m_letters_from,
                       .is_alive = [&](const std::string& owner) { return owner_alive(owners_directory(), owner); }};
  if (request.most > 0 && !context.away) {
    context.room = room_to_claim(few_claims, most_claims);
    if (m_ends) take_ends();
  }
  return context;
}

// Returns the functions whose jobs may be claimed, in the order in which they are visited.
std::vector<std::string> Queue::functions_of(const ClaimRequest& request) {
  auto functions = request.functions;
  remove_repeated(functions);  // otherwise the jobs of a function that is named twice would be claimed twice
  if (functions.empty())
    for_each_function([&](const std::string& function, const Counters&) { functions.push_back(function); });
  if (functions.size() > most_functions)
    std::rotate(functions.begin(), functions.begin() + static_cast<long>(m_turn % functions.size()), functions.end());
  return functions;
}

// Appends the wake records of jobs whose parents have ended, for as many as change in one visit. Returns false if there
// are none left.
bool Queue::wake() {
  bool more = false;
  look([&](Fold& fold) {
    std::vector<std::string> records;
    for (const auto& woken : fold.wakes(most_wakes, now_ms())) records.push_back(encode_record(woken));
    more = !records.empty();
    if (more) fold_on(fold, append({records.begin(), records.end()}, Room::completion).back().end);
  });
  return more;
}

Claims Queue::claim(const ClaimRequest& request) {
  ClaimContext context = context_of(request);
  Claims result;
  result.again = request.most > 0 && !context.away && wake();
  Removal removal;
  std::vector<std::string> unborn;
  const auto functions = functions_of(request);
  if (functions.size() > most_functions) context.turn = 0;  // functions_of() has already rotated them
  size_t most = std::min(request.most, context.room);
  Lsn grounds = 0;  // the records before this are why the jobs may run
  for (size_t at = 0; at == 0 || at < functions.size(); at += most_functions) {
    const auto begin = functions.begin() + static_cast<long>(at);
    const size_t now = std::min(functions.size() - at, most_functions);
    context.functions.assign(begin, begin + static_cast<long>(now));
    context.later = functions.size() - at - now;
    context.most = most;
    Chosen chosen;
    std::optional<Lsn> end;
    uint64_t lacking = 0;
    look([&](Fold& fold) {
      if (at == 0) take_free_blobs(fold, removal);
      if (!end) {  // else the index failed after the append: nothing is chosen twice
        context.now = now_ms();
        context.fold_on = [&] { fold_on(fold); };
        chosen = choose(fold, request, context);
        grounds = fold.position().end;
        const Lsn letters = append_letters(chosen.claims.letters, context.now, lacking);
        end = std::max(letters, append_claim(fold, request.owner, context.now, chosen, unborn));
      }
      if (*end == 0) return;
      fold_on(fold, *end);
      leave_own(fold, request.owner, chosen.claims.jobs);
    });
    Claims& part = chosen.claims;
    if (context.away) part.next_due = context.now + return_interval;
    if (lacking > 0) {
      context.letters_from = m_letters_from = context.now + letter_interval;
      if (!part.next_due || m_letters_from < *part.next_due) part.next_due = m_letters_from;
      try {
        check_room(lacking);  // this computes again how much room the accepted jobs need
      } catch (const Error&) {
      }
    }
    most -= std::min(most, part.jobs.size());
    result.add(std::move(part));
  }
  ++m_turn;
  try {
    remove(std::move(removal));
    remove_blobs_of_forgotten(unborn);
  } catch (const Error&) {  // the next claim will try again, or Cleaner::sweep()
  }
  if (m_ends) leave_out_ended(result.jobs, grounds);
  return result;
}

// Appends dead letters, as many as the disk has room for, as at the intake of jobs: what is reserved for the accepted
// jobs stays free. Removes the others from `letters`; their jobs stay noted, and a later claim takes them again. Then
// `lacking` is the space, in bytes, that is needed. Returns where the records end; 0 if there are none. If a power cut
// loses them, the next claim appends them again.
Lsn Queue::append_letters(std::vector<Claims::Letter>& letters, Millis now, uint64_t& lacking) {
  std::vector<NewJob> jobs;
  uint64_t size = 0;
  for (const auto& letter : letters) {
    NewJob job = letter_job(letter, group(), now);
    const uint64_t with = size + job.head.size() + job.data.size() + room_to_run(1, job.head.size());
    if (!has_free_room(with)) {
      lacking = with;
      break;
    }
    size = with;
    jobs.push_back(std::move(job));
  }
  letters.resize(jobs.size());
  if (jobs.empty()) return 0;
  std::vector<RecordBytes> records;
  for (const auto& job : jobs) records.emplace_back(job.head, job.data);
  try {
    return append(records, Room::intake).back().end;
  } catch (const Error& e) {
    if (!is_disk_full(e.error_number())) throw;
    lacking = size;  // another process has used the room, or a quota is full
    letters.clear();
    return 0;
  }
}

// Appends the claim of the chosen jobs, releases the strays, and forgets unborn children, whose blobs it adds to
// `blobs`. Returns where these records end; 0 if there are none. If a power cut loses the records of jobs that have
// expired, the next claim appends them again.
Lsn Queue::append_claim(Fold& fold, const std::string& owner, Millis now, const Chosen& chosen,
                        std::vector<std::string>& blobs) {
  std::vector<std::string> records = encode_expired(chosen.claims.expired, now);
  for (const auto* some : {&chosen.claims.jobs, &chosen.claims.abandoned})
    for (const auto& c : *some)
      if (c.job.starts > 0) encode_forgotten(fold, c.id, now, records, blobs);
  for (const auto& [id, job] : chosen.strays)
    records.push_back(
        encode_record(event::Fail{.id = id, .at = now, .owner = job.owner, .start = job.starts, .spent = false}));
  event::Claim claimed{.at = now, .owner = owner};
  for (const auto& c : chosen.claims.jobs) claimed.ids.push_back(c.id);
  if (!claimed.ids.empty()) records.push_back(encode_record(claimed));
  // Do not append the claim again after a failed sync: it would override a later claim of another process.
  return records.empty() ? 0 : append({records.begin(), records.end()}, Room::completion).back().end;
}

void Queue::forget_unborn(const std::vector<std::string>& parents) {
  std::vector<std::string> blobs;
  commit(
      [&](Fold& fold) {
        std::vector<std::string> records;
        blobs.clear();
        for (const auto& parent : parents) encode_forgotten(fold, parent, now_ms(), records, blobs);
        return records;
      },
      Room::completion);
  remove_blobs_of_forgotten(blobs);
}

// If another process takes a snapshot or removes files now, the blobs stay until the child is made again, or until
// Cleaner::sweep() finds them.
void Queue::remove_blobs_of_forgotten(const std::vector<std::string>& blobs) {
  if (blobs.empty()) return;
  const Fd lock = open_clean_lock();
  if (try_lock(lock.get(), FileLock::Mode::exclusive)) remove_unneeded(blobs);
}

bool Queue::is_held(const Job& job) const { return !job.owner.empty() && owner_alive(owners_directory(), job.owner); }

// Returns why a job that is not finished cannot be cancelled; nullopt if it can. If a streamed command has many jobs,
// it works on the one that was started first: the others cannot be taken back.
std::optional<std::string> Queue::why_not_cancelled(Fold& fold, const std::string& id, const Job& job) const {
  if (job.state == State::dead) return "it is dead";
  if (job.state == State::kept) return "it is done";
  if (job.unborn) return "it is a child that is not born yet";
  if (is_spooled(job)) return std::nullopt;
  if (job.state == State::pending) return "fewer nodes have it than its group asks for";
  if (job.cancelled) return "it is cancelled already";
  if (job.state != State::running || !is_held(job)) return std::nullopt;
  bool is_first = true;
  fold.claimed(job.owner, [&](const std::string& other) {
    const auto there = other == id ? std::nullopt : fold.get(other);
    if (there && there->state == State::running)
      is_first = !there->cancelled &&
                 std::pair(job.changed_at, job.first_lsn) < std::pair(there->changed_at, there->first_lsn);
    return is_first;
  });
  return is_first ? std::nullopt : std::optional<std::string>("its command works on another job first (--stream)");
}

// Returns why a user cannot change a job in this way; nullopt if the change is possible.
std::optional<std::string> Queue::why_not(Fold& fold, Change what, const std::string& id,
                                          const std::optional<Job>& job) {
  if (!job) return "there is no such job in this store";
  if (job->state == State::finished) {
    // The finished job may still have its key.
    if (what == Change::drop && !job->key.empty() && fold.keyed(job->function, job->key, now_ms()) == id)
      return std::nullopt;
    return "it is finished";
  }
  if ((what == Change::kick || what == Change::keep || what == Change::cancel) && job->state == State::held)
    return "it is for " + job->node + " to run";
  if ((what == Change::cancel || what == Change::drop) && is_spooled(*job) && is_forwarding())
    return "it may be on its way to another store now";
  if (what == Change::cancel) return why_not_cancelled(fold, id, *job);
  if (what == Change::release && !job->keep) return "it is not kept";
  if ((what == Change::kick || what == Change::drop) && is_held(*job))
    return job->state == State::running ? "it is running" : "it is about to run";
  return std::nullopt;
}

Fd Queue::lock_forwarding() const {
  Fd lock = directory().open(forward_lock_name, O_RDWR | O_CREAT);
  return try_lock(lock.get(), FileLock::Mode::exclusive) ? std::move(lock) : Fd();
}

bool Queue::is_forwarding() const {
  const Fd lock = directory().find(forward_lock_name, O_RDONLY);
  return lock && !try_lock(lock.get(), FileLock::Mode::shared);
}

std::vector<Claim> Queue::spooled(const std::string& function, size_t most) {
  std::vector<Claim> jobs;
  look([&](Fold& fold) {
    jobs.clear();
    std::vector<std::string> ids;
    std::string cursor;
    fold.page('S', function, most, cursor, ids);
    for (const auto& id : ids)
      if (auto job = fold.get(id)) jobs.push_back({id, std::move(*job)});
  });
  return jobs;
}

void Queue::end_spooled(const std::vector<std::string>& forwarded, const std::map<std::string, std::string>& refused) {
  std::vector<std::string> blobs;
  commit(
      [&](Fold& fold) {
        std::vector<std::string> records;
        blobs.clear();
        event::Forget forget{.at = now_ms(), .position = fold.position().end};
        for (const auto& id : forwarded) {
          const auto job = fold.get(id);
          if (!job || !is_spooled(*job)) continue;  // it has become a job of this store
          if (!job->is_inline()) blobs.push_back(id);
          forget.ids.push_back(id);
        }
        if (!forget.ids.empty()) records.push_back(encode_record(forget));
        for (const auto& [id, why] : refused)
          records.push_back(encode_record(
              event::Dead{.id = id, .at = forget.at, .owner = event::nobody, .spent = false, .why = why}));
        return records;
      },
      Room::completion);
  remove_blobs_of_forgotten(blobs);
}

std::vector<std::optional<std::string>> Queue::change(Change what, const std::vector<std::string>& ids) {
  std::vector<std::optional<std::string>> results(ids.size());
  std::vector<std::string> freed, unborn;
  commit(
      [&](Fold& fold) {
        std::vector<std::string> records;
        freed.clear();
        unborn.clear();
        for (size_t i = 0; i < ids.size(); ++i) {
          const auto job = fold.get(ids[i]);
          if ((results[i] = why_not(fold, what, ids[i], job))) continue;
          if (what == Change::drop || what == Change::cancel) encode_forgotten(fold, ids[i], now_ms(), records, unborn);
          records.push_back(encode_change(what, ids[i], *job));
          // No process is left that would record the end.
          if (what == Change::cancel && !job->owner.empty() && !is_held(*job))
            records.push_back(encode_record(
                event::Fail{.id = ids[i], .at = now_ms(), .owner = job->owner, .start = job->starts, .spent = false}));
          if (job->state == State::finished || (what != Change::drop && what != Change::release)) continue;
          if (std::string blob = blob_of(ids[i], *job); !blob.empty()) freed.push_back(blob);
        }
        return records;
      },
      Room::completion);
  remove_blobs_of(freed);
  remove_blobs_of_forgotten(unborn);
  return results;
}

std::vector<std::string> Queue::cancelled() {
  std::vector<std::string> ids;
  look([&](Fold& fold) { ids = fold.cancelled(); });
  return ids;
}

void Queue::pause(const std::string& function, bool paused) {
  const Millis at = now_ms();
  commit({paused ? encode_record(event::Pause{.function = function, .at = at})
                 : encode_record(event::Resume{.function = function, .at = at})},
         Room::completion);
}

void Queue::limit(const std::string& function, uint32_t jobs) {
  const Millis at = now_ms();
  commit({jobs ? encode_record(event::Pause{.function = function, .at = at, .limit = jobs})
               : encode_record(event::Resume{.function = function, .at = at, .unlimited = true})},
         Room::completion);
}

void Queue::rate(const std::string& function, const StartRate& rate) {
  commit(
      {encode_record(event::Rate{.function = function, .at = now_ms(), .starts = rate.starts, .period = rate.period})},
      Room::completion);
}

void Queue::dead_letters(const std::string& function, const std::string& to) {
  commit({encode_record(event::Letter{.function = function, .at = now_ms(), .to = to})}, Room::completion);
}

void Queue::append(const std::vector<std::string>& records) {
  auto placed = append({records.begin(), records.end()}, Room::completion);
  if (m_unsettled.empty()) m_unsettled_from = placed.front().lsn;
  m_unsettled.insert(m_unsettled.end(), records.begin(), records.end());
  m_unsettled_end = placed.back().end;
}

void Queue::settle() {
  if (m_unsettled.empty()) return;
  if (!sync(m_unsettled_from, m_unsettled_end)) commit({m_unsettled.begin(), m_unsettled.end()}, Room::completion);
  m_unsettled.clear();
}

}  // namespace gq
