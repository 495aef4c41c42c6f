#include "gq/state/transition.hpp"

#include <algorithm>

#include "gq/base/text.hpp"
#include "gq/state/answer.hpp"

namespace gq {
namespace {

using Line = Transition::Line;
using Key = Transition::Key;

constexpr size_t longest_peer = 64, most_peers = 100;  // so that they fit into encode_job()

struct Place {
  const RecordHead& head;
  Lsn lsn;
  const Self& self;
};

// Whether this node owns the job and fewer nodes have it than it asks for.
bool lacks_copies(const Job& job, const Self& self) {
  if (job.node.empty() || !is_own(job, self) || job.copies < 2) return false;
  auto nodes = job.peers.empty() ? 1 : 2 + std::count(job.peers.begin(), job.peers.end(), ',');
  return nodes < job.copies;
}

// Gives a job that is to be run its state. The fold changes this to waiting if another job with its serial key is
// first.
void enter(Transition& to, const Self& self) {
  Job& job = *to.job;
  to.line = Line::enters;
  take_turn(job);
  if (!may_run(job, self)) job.state = State::held;
  else if (job.unborn || job.spooled || lacks_copies(job, self)) job.state = State::pending;
}

// Call it when a job has ended: it keeps its key until its window is over; if it was dropped, it loses the key.
void end_key(Transition& to, bool dropped, Millis at) {
  to.key = dropped ? Key::freed : Key::ends;
  to.key_at = at + to.job->window;
}

// Ends a job. Uses only values from the last record, because the cleaner may remove the records between the first and
// the last.
void end(Job& job, State state, uint32_t tries, uint32_t exit, uint32_t signal) {
  job.state = state;
  job.owner.clear();
  job.unborn = 0;
  job.tries = tries;
  job.exit = exit;
  job.signal = signal;
}

constexpr const char* cancelled_reason = "cancelled";

// Ends a job that a user has cancelled.
void end_cancelled(Transition& to) {
  Job& job = *to.job;
  job.state = State::dead;
  job.cancelled = 0;
  job.why = cancelled_reason;
  job.exit = no_exit;
  job.signal = 0;
  job.owner.clear();
  to.key = Key::freed;
}

// The record of a job's end says what became of its command's output.
void take_output(Job& job, uint32_t output, const Place& at) {
  job.output = static_cast<Kept>(output);
  if (job.output != Kept::whole) return;
  job.output_lsn = at.lsn;
  job.output_size = at.head.data_size;
  job.output_sum = at.head.data_sum;
}

void drop_output(Job& job) {
  job.output = Kept::not_asked;
  job.output_lsn = job.output_size = job.output_sum = 0;
}

void add_new(Transition& to, const event::Add& add, const Place& at) {
  Job& job = to.job.emplace();
  static_cast<Submission&>(job) = add.asked;
  job.node = add.node;
  job.store = add.store;
  job.copies = add.copies;
  job.once = add.once;
  job.first_lsn = job.location = at.lsn;
  job.size = add.workload_size(at.head.data_size);
  job.sum = add.workload_sum(at.head.data_sum);
  job.source = add.part.source;
  job.offset = add.part.offset;
  job.parent = add.descent.parent;
  job.unborn = add.descent.start;
  job.spooled = add.spooled;
  job.enqueued_at = job.changed_at = add.at;
  job.after_any = job.after > 0 && job.after_any;
  if (job.after == 0 || !job.parent.empty()) job.parents_sum = 0;
  enter(to, at.self);
  if (job.key.empty()) return;
  // Also `wanted` for jobs that this node accepted before it was restored or set up again: the node has sent their
  // clients the answer already. Keys are local to a node: a job that another node accepted is a separate job.
  to.key = add.node.empty() || add.node == at.self.node ? Key::wanted : Key::taken;
  to.key_at = add.at;
}

void happen(Transition& to, const event::Add& add, const Place& at) {
  if (!to.job) return add_new(to, add, at);
  Job& job = *to.job;
  to.touched = true;
  // A later start of its parent has made the child again, perhaps with another workload.
  if (job.unborn && add.descent.parent == job.parent && add.descent.start > job.unborn) return add_new(to, add, at);
  to.conflict = knows_workload(job) && !is_same(add, at.head.data_size, at.head.data_sum, job);
  if (to.conflict || job.state == State::finished) return;
  // The newer add record may be a copy from another node that contains the workload, while the first add record refers
  // to a part of another job's workload. A job that has its own workload keeps it.
  const bool lacks = job.source.empty() && !add.part.source.empty();
  const bool is_copy = !add.node.empty() && !(add.node == at.self.node && add.store == at.self.store);
  if (!lacks && is_copy && job.source != add.part.source) job.source = add.part.source, job.offset = add.part.offset;
  if (!lacks) job.location = at.lsn;  // use the newer copy, because the sync of the older one may have failed
  if (job.spooled && !add.spooled) {
    job.spooled = 0;
    job.changed_at = add.at;
    if (job.state == State::pending) enter(to, at.self);
  }
  // A job that was sent again may have been accepted by two nodes. All nodes must choose the same owner: the node
  // whose add record has the latest time; if the times are equal, the node with the greater identity. If one node
  // accepted the job twice, its later time is used.
  if (!job.once || add.node.empty()) return;
  if (!is_newer(event::State{.at = add.at, .store = add.store}, job)) return;
  job.changed_at = add.at;
  if (add.store == job.store) return;
  job.node = add.node;
  job.store = add.store;
  job.copies = add.copies;
  job.peers.clear();
  if (job.owner.empty()) enter(to, at.self);
}

// A process claims a job under index.lock, after it has seen that no living process holds the job. So the last claim is
// always valid.
void happen(Transition& to, const event::Claim& claim, const Place&) {
  if (!to.job || !(is_startable(*to.job) || to.job->state == State::waiting) || is_blocked(*to.job)) return;
  Job& job = *to.job;
  to.line = Line::heads;
  if (job.state == State::running) ++job.crashes;
  job.state = State::claimed;
  job.owner = claim.owner;
  job.changed_at = claim.at;
}

void happen(Transition& to, const event::Copied& copied, const Place& at) {
  if (!to.job || to.job->state != State::pending) return;
  Job& job = *to.job;
  auto known = split(job.peers, ',');
  for (const auto& [peer, store] : copied.copies()) {
    if (known.size() >= most_peers) break;  // no group has so many nodes
    if (peer.size() > longest_peer || std::find(known.begin(), known.end(), peer) != known.end()) continue;
    job.peers += (job.peers.empty() ? "" : ",") + peer;
    known.push_back(peer);
  }
  if (copied.enough) job.copies = 0;
  enter(to, at.self);
  // Clear them: otherwise they would be counted again when the job is kicked.
  if (!lacks_copies(job, at.self)) job.peers.clear(), job.copies = 0;
}

// A state from another node; or one that this node has appended itself, when it took over a job of a node that is gone.
void happen(Transition& to, const event::State& said, const Place& at) {
  if (!to.job) {
    if (said.state != "finished") return;  // without an add record there is nothing to run
    Job& job = to.job.emplace();
    job.function = said.function;
    job.size = said.size;
    job.sum = said.sum;
    job.enqueued_at = said.at;
    job.once = 1;  // nodes send states only of such jobs
  } else if (is_another_job(said, *to.job)) {
    to.conflict = true;
    return;
  } else if (!is_newer(said, *to.job)) {
    return;
  }
  Job& job = *to.job;
  const State before = job.state;
  job.node = said.node;
  job.store = said.store;
  job.term = said.term;
  job.version = said.version;
  job.starts = said.starts;
  job.failures = said.failures;
  job.crashes = said.crashes;
  job.due = said.due;
  if (said.lifted) job.expire = lifted;
  job.why = said.why;
  job.exit = said.exit;
  job.signal = said.signal;
  // Older programs do not send `dropped` and `attempts`.
  job.dropped = said.state == "finished" && (said.dropped || said.why == "dropped");
  job.tries = said.state != "finished" && said.state != "kept" ? 0
              : said.attempts || job.dropped                   ? said.attempts
                                                               : said.failures + 1;
  job.changed_at = said.at;
  job.peers.clear();
  if (!is_fresh(job)) job.copies = 0;  // other nodes have the job; if it is fresh, only its owner knows whether they do
  job.keep = said.keep;
  job.cancelled = said.state == "queued" && said.cancelled;
  if (before != State::finished && before != State::kept) drop_output(job);  // it has been run again since
  if (said.state == "queued") {
    // While this node runs the job's command, the job stays claimed, even if another node owns it now.
    if (!job.owner.empty()) return;
    enter(to, at.self);
    // A node that takes the job over ends it, as its owner would have done.
    if (job.cancelled && may_run(job, at.self)) end_cancelled(to);
    return;
  }
  job.owner.clear();
  job.state = said.state == "dead" ? State::dead : said.state == "kept" ? State::kept : State::finished;
  if (job.state == State::finished) job.location = at.lsn;
  if (has_ended(job) && before != State::kept) end_key(to, job.dropped, said.at);
  if (job.state == State::dead && is_late(job, said.at)) to.key = Key::freed;
}

void happen(Transition& to, const event::Forget&, const Place&) {
  if (to.job) to.key = Key::freed;
  to.job.reset();
}

// All other events are about one job that has not finished. change() has the part that differs between the types, and
// happen() below the common part.

// A fail or dead record has an effect only if it comes from the process that holds the job, and is about the present
// start. A done record and the events from users always have an effect.
bool holds(const Job& job, const auto& event) {
  return job.owner == event.owner && job.starts == event.start &&
         (job.state == State::running || job.state == State::claimed);
}

void change(Transition& to, const event::Start& start, const Place&) {
  Job& job = *to.job;
  // Ignore a start that is not the next one: after a failed sync, the record of an older start may have been appended a
  // second time.
  if (job.state != State::claimed || start.start != job.starts + 1 ||
      owner_process(job.owner) != owner_process(start.owner))
    return;
  job.state = State::running;
  job.owner = start.owner;
  job.starts = start.start;
}

void change(Transition& to, const event::Fail& fail, const Place& at) {
  Job& job = *to.job;
  if (!holds(job, fail)) return;
  if (fail.spent) ++job.failures;
  if (job.cancelled && may_run(job, at.self)) return end_cancelled(to);
  job.due = fail.due;
  take_turn(job);
  if (!may_run(job, at.self)) job.state = State::held;
  job.owner.clear();
  if (!fail.spent && fail.why.empty()) return;  // released: keep the reason and the exit status of the last attempt
  job.why = fail.why;
  job.exit = fail.exit;
  job.signal = fail.signal;
}

void change(Transition& to, const event::Dead& dead, const Place& at) {
  Job& job = *to.job;
  const bool expired = dead.owner == event::nobody && can_expire(job) && is_late(job, dead.at);
  const bool refused = dead.owner == event::nobody && is_spooled(job);
  if (!expired && !refused && !holds(job, dead)) return;
  if (expired) to.key = Key::freed;
  // If no attempt is used up, either the workload is damaged, or the job's worker died again.
  if (dead.spent) ++job.failures;
  else if (job.state == State::running) ++job.crashes;
  job.state = State::dead;
  job.why = dead.why;
  job.exit = dead.exit;
  job.signal = dead.signal;
  job.owner.clear();
  if (job.cancelled) return end_cancelled(to);
  take_output(job, dead.output, at);
}

void change(Transition& to, const event::Done& done, const Place& at) {
  Job& job = *to.job;
  if (job.state == State::kept) return;
  // What a user's own database says (ends.hpp) stays true; it has no owner.
  if (job.cancelled && !done.owner.empty()) return end_cancelled(to);
  // The end of a command that was told to end, appended again.
  if (job.state == State::dead && job.why == cancelled_reason && !done.owner.empty()) return;
  job.cancelled = 0;
  if (done.keep) job.keep = 1;
  job.dropped = 0;
  job.why.clear();
  end(job, job.keep ? State::kept : State::finished, done.attempts ? done.attempts : 1, done.exit, done.signal);
  drop_output(job);
  take_output(job, done.output, at);
}

void change(Transition& to, const event::Drop& drop, const Place&) {
  Job& job = *to.job;
  job.dropped = 1;
  job.cancelled = 0;
  job.why = "dropped";
  end(job, State::finished, drop.attempts, no_exit, 0);
  drop_output(job);
}

void change(Transition& to, const event::Keep&, const Place&) { to.job->keep = 1; }

void change(Transition& to, const event::Release&, const Place&) {
  to.job->keep = 0;
  if (to.job->state == State::kept) to.job->state = State::finished;
}

void change(Transition& to, const event::Cancel&, const Place&) {
  const State state = to.job->state;
  if (state == State::claimed || state == State::running) to.job->cancelled = 1;
  else if (state == State::queued || state == State::delayed || state == State::waiting || is_spooled(*to.job))
    end_cancelled(to);
}

void change(Transition& to, const event::Kick&, const Place& at) {
  Job& job = *to.job;
  if (job.expire.count() > 0 && job.state != State::held) job.expire = lifted;
  if (job.state == State::dead) {
    job.failures = job.crashes = job.signal = 0;
    job.exit = no_exit;
    job.why.clear();
    job.due = Millis(0);
    drop_output(job);
    enter(to, at.self);
  } else if (job.state == State::delayed || job.state == State::waiting) {
    job.due = Millis(0);
    if (job.state == State::delayed) job.state = State::queued;
  }
}

template <typename E>
requires requires(const E& e) { e.id; }
void happen(Transition& to, const E& event, const Place& at) {
  constexpr bool is_drop = std::is_same_v<E, event::Drop>;
  if (!to.job) return;
  Job& job = *to.job;
  // The newer copy of an output: the sync of the older one may have failed.
  if constexpr (requires { event.output; }) {
    const bool has_this_end = std::is_same_v<E, event::Done> ? has_ended(job) : job.state == State::dead;
    if (has_this_end && job.output_lsn != 0 && event.output == static_cast<uint32_t>(Kept::whole) &&
        job.output_size == at.head.data_size && job.output_sum == at.head.data_sum)
      job.output_lsn = at.lsn;
  }
  // A user may drop a finished job to free its key.
  if (job.state == State::finished && is_drop) end_key(to, true, event.at);
  if (job.state == State::finished) return;
  const State before = job.state;
  const uint32_t keep_before = job.keep, cancelled_before = job.cancelled;
  const Millis due_before = job.due, expire_before = job.expire;
  change(to, event, at);
  // If another node owns the job, its version changes here only when it ends, or when a user changes a dead job.
  const bool changed = job.state != before || job.keep != keep_before || job.due != due_before ||
                       job.expire != expire_before || job.cancelled != cancelled_before;
  if (changed && (may_run(job, at.self) || has_ended(job) || before == State::dead || before == State::kept))
    ++job.version;
  if (changed) job.changed_at = event.at;
  if (job.state == State::finished) job.location = at.lsn;
  if (has_ended(job) && before != State::kept) end_key(to, is_drop, event.at);
}

// The fold counts the parents, and then calls with_parents() and woken().
void happen(Transition&, const event::After&, const Place&) {}
void happen(Transition&, const event::Wake&, const Place&) {}

// The events pause, resume, peer, stream and end are not about a job.
void happen(Transition&, const auto&, const Place&) {}

}  // namespace

Transition next(const std::optional<Job>& job, const Event& event, const RecordHead& head, Lsn lsn, const Self& self) {
  Transition to{.job = job};
  std::visit([&](const auto& e) { happen(to, e, {head, lsn, self}); }, event);
  // If a job has finished and no other node knows it, keep only the values of its first and its last record.
  if (to.job && to.job->state == State::finished && to.job->node.empty()) {
    Job& ended = *to.job;
    ended.starts = ended.failures = ended.crashes = ended.version = ended.copies = 0, ended.due = Millis(0);
  }
  if (to.job && to.job->state == State::finished)
    to.job->name.clear(), to.job->expire = Millis(0), to.job->unborn = 0, to.job->spooled = 0;
  if (to.job && has_ended(*to.job))
    to.job->after = to.job->edges = to.job->unmet = 0, to.job->parents_sum = 0, to.job->after_any = false;
  return to;
}

Transition born(const Job& child, Millis at, const Self& self) {
  Transition to{.job = child};
  to.job->unborn = 0;
  to.job->changed_at = at;
  enter(to, self);
  return to;
}

Transition with_parents(const Job& job, uint32_t edges, uint32_t unmet) {
  Transition to{.job = job};
  to.job->edges += edges;
  to.job->unmet += unmet;
  if (to.job->edges == to.job->after) to.job->parents_sum = 0;
  if (job.state == State::waiting && is_blocked(job) && !is_blocked(*to.job))
    to.line = Line::enters, take_turn(*to.job);
  return to;
}

Transition woken(const Job& job, const event::Wake& wake, uint32_t met, const Self& self) {
  Transition to{.job = job};
  Job& child = *to.job;
  child.unmet -= std::min(child.unmet, met);
  if (job.state != State::waiting) return to;
  if (wake.dropped) {
    child.state = State::dead;
    child.why = "after " + wake.ids.front() + ", which was dropped";
    child.changed_at = wake.at;
    if (may_run(job, self)) ++child.version;
  } else if (is_blocked(job) && !is_blocked(child)) {
    to.line = Line::enters;
    take_turn(child);
  }
  return to;
}

bool lets_go_on(const Job& parent, bool any) {
  return (has_ended(parent) && (any || !parent.dropped)) || (any && parent.state == State::dead);
}

bool lose_copy(Job& job, const std::string& node) {
  std::string left;
  for (const auto& peer : split(job.peers, ','))
    if (peer != node) left += (left.empty() ? "" : ",") + peer;
  return std::exchange(job.peers, left) != left;
}

void take_turn(Job& job) {
  job.state = is_blocked(job) ? State::waiting : job.due.count() ? State::delayed : State::queued;
}

bool is_startable(const Job& job) {
  return job.state == State::queued || job.state == State::delayed || job.state == State::claimed ||
         job.state == State::running;
}

bool is_in_line(const Job& job) {
  return !job.serial.empty() && (is_startable(job) || (job.state == State::waiting && !is_blocked(job)));
}

bool is_own(const Job& job, const Self& self) {
  return job.node.empty() || (job.node == self.node && job.store == self.store);
}

bool may_run(const Job& job, const Self& self) { return !job.once || is_own(job, self); }

bool can_expire(const Job& job) {
  return job.expire.count() > 0 && job.starts == 0 &&
         (job.state == State::queued || job.state == State::delayed || job.state == State::waiting);
}

bool waits_for_first(const Job& job) { return job.state == State::delayed && job.starts == 0 && job.failures == 0; }

}  // namespace gq
