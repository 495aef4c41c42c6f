#include "gq/state/fold.hpp"

#include <algorithm>
#include <set>

#include "gq/base/bytes.hpp"
#include "gq/base/error.hpp"
#include "gq/base/text.hpp"
#include "gq/base/ulid.hpp"

namespace gq {
namespace {

constexpr const char* position_key = "m";
constexpr const char *greatest_key = "g", *version_key = "v", *outputs_key = "O", *part_key = "P";
constexpr uint8_t index_version = 5;
// About how many bytes the records of a job take in the journal, without its workload: add, claim, start and done.
constexpr uint64_t job_weight = 500;
// About how many bytes after and wake records take for each parent of a job.
constexpr uint64_t edge_weight = 60;

std::string job_key(const std::string& id) { return "j" + id; }

std::string function_prefix(char order, const std::string& function) { return order + function + std::string(1, '\0'); }

std::string serial_prefix(const std::string& serial) { return "l" + serial + std::string(1, '\0'); }

std::string serial_key(const Job& job) {
  std::string key = serial_prefix(job.serial);
  put_be64(key, job.first_lsn);
  return key;
}

std::string head_key(const std::string& serial) { return "h" + serial; }

std::string key_key(const std::string& function, const std::string& key) {
  return function_prefix('k', function) + key;
}

std::string reference_key(const std::string& id, const Job& job) {
  return "b" + job.source + std::string(1, '\0') + id;
}

std::string children_prefix(const std::string& id) { return "T" + id + std::string(1, '\0'); }

std::string copied_key(const std::string& id) { return "u" + id; }

bool has_copies(const Job& job) { return job.state == State::pending && !job.peers.empty(); }

// The relations between a job and the jobs that are after it, see fold.hpp.
constexpr char has_parent = 'p', waits_for_any = 'a', waits_for_done = 'd', is_met = 's';

std::string edge_prefix(const std::string& id) { return "A" + id + std::string(1, '\0'); }

std::string edge_key(const std::string& id, char kind, const std::string& other) {
  return edge_prefix(id) + kind + other;
}

std::string mark_key(const std::string& parent) { return "U" + parent; }

std::string trouble_key(Trouble::Kind kind, Lsn lsn) {
  std::string key = kind == Trouble::Kind::conflict ? "i" : "e";
  put_be64(key, lsn);
  return key;
}

std::string weight_key(uint64_t part) {
  std::string key = "w";
  put_be64(key, part);
  return key;
}

std::string cancel_key(const std::string& id) { return "C" + id; }

// The keys of a dead job whose letter is still to be queued, and of a letter. No function's name begins so.
std::string unsent_key(const std::string& id) { return std::string("D\0", 2) + id; }
std::string letter_key(const std::string& id) { return "D\1" + id; }

// The keys of a function's rate, and of its starts.
std::string rate_key(const std::string& function) { return "R" + function; }
std::string starts_key(const std::string& function) { return function_prefix('R', function); }

std::string owner_prefix(const std::string& owner) { return "c" + owner + std::string(1, '\0'); }

// Returns the key of a job's entry in the order of its state; empty for finished jobs and for those that wait for
// another job with their serial key, which have no such entry.
std::string order_key(const std::string& id, const Job& job) {
  std::string key;
  switch (job.state) {
    case State::queued:
      key = function_prefix('q', job.function) + static_cast<char>(job.priority);
      put_be64(key, job.first_lsn);
      break;
    case State::delayed:
      key = function_prefix('d', job.function);
      put_be64(key, static_cast<uint64_t>(job.due.count()));
      put_be64(key, job.first_lsn);
      break;
    case State::claimed:
    case State::running:
      key = owner_prefix(job.owner) + id;
      break;
    case State::dead:
      key = function_prefix('x', job.function);
      put_be64(key, job.first_lsn);
      break;
    case State::kept:
      key = function_prefix('y', job.function);
      put_be64(key, job.first_lsn);
      break;
    case State::pending:
      key = function_prefix(job.spooled ? 'S' : 'n', job.function);
      put_be64(key, job.first_lsn);
      break;
    case State::held:
      key = function_prefix('o', job.node);
      put_be64(key, job.first_lsn);
      break;
    case State::waiting:
      if (!is_blocked(job)) break;
      key = function_prefix('B', job.function);
      put_be64(key, job.first_lsn);
      break;
    case State::finished:
      break;
  }
  return key;
}

std::string expiry_key(const Job& job) {
  std::string key = "a";
  put_be64(key, static_cast<uint64_t>(job.expire.count()));
  put_be64(key, job.first_lsn);
  return key;
}

// The entries that the table has for a job besides the job itself: in the order of its state, in the line of its serial
// key, among the jobs whose workload is a part of the same workload, among the pending jobs that other nodes have,
// among the jobs that can expire, among the cancelled jobs that a process holds, and among the children of its parent.
enum { by_state, by_serial, by_source, by_copies, by_expiry, by_cancel, by_parent };
using Entries = std::array<std::pair<std::string, std::string_view>, 7>;
Entries entries_of(const std::string& id, const std::optional<Job>& job) {
  Entries all;
  if (!job) return all;
  const bool by_owner = job->state == State::claimed || job->state == State::running;
  all[by_state] = {order_key(id, *job), by_owner ? std::string_view() : id};
  if (is_in_line(*job)) all[by_serial] = {serial_key(*job), id};
  // If every node runs the job, another node may need the source after the job is finished here. So the entry stays
  // until the job is forgotten.
  if (!job->source.empty() && (job->state != State::finished || (!job->node.empty() && !job->once)))
    all[by_source] = {reference_key(id, *job), {}};
  if (has_copies(*job)) all[by_copies] = {copied_key(id), {}};
  if (can_expire(*job)) all[by_expiry] = {expiry_key(*job), id};
  if (job->cancelled && by_owner) all[by_cancel] = {cancel_key(id), {}};
  // While there is an entry, the parent is not forgotten: its end says that the child is born. The record of a finished
  // child's own end says so, too.
  if (!job->parent.empty() && job->state != State::finished) all[by_parent] = {children_prefix(job->parent) + id, {}};
  return all;
}

bool can_wait(const Job& job) { return job.state == State::queued || job.state == State::delayed; }

bool starts_with(std::string_view text, std::string_view prefix) { return text.substr(0, prefix.size()) == prefix; }

Counters decode_counters(std::string_view in) {
  Counters c;
  if (in.size() != 8 * (state_count + 1)) throw TableError("bad counters");
  for (size_t i = 0; i < state_count; ++i) c.jobs[i] = get_le<uint64_t>(in, 8 * i);
  c.bytes = get_le<uint64_t>(in, 8 * state_count);
  return c;
}

}  // namespace

size_t jobs_in(const Event& event) {
  return std::visit(
      [](const auto& e) -> size_t {
        if constexpr (requires { e.ids; }) return std::max<size_t>(e.ids.size(), 1);
        else if constexpr (requires { e.children; }) return 1 + e.children;
        else return 1;
      },
      event);
}

uint64_t Counters::live() const {
  uint64_t n = 0;
  for (State s : {State::queued, State::delayed, State::claimed, State::running, State::waiting, State::pending})
    n += jobs[static_cast<size_t>(s)];
  return n;
}

const char* trouble_name(Trouble::Kind kind) {
  static constexpr const char* names[] = {"damage", "torn", "missing", "conflict"};
  return names[static_cast<size_t>(kind)];
}

Fold::Fold(Table& table, const Self& self) : m_table(table), m_self(self) {
  auto value = table.get(position_key);
  if (!value) return;
  if (value->size() < 25 || static_cast<uint8_t>((*value)[0]) != index_version) throw TableError("another version");
  m_position = {get_le<uint64_t>(*value, 1), get_le<uint64_t>(*value, 9), get_le<uint64_t>(*value, 17)};
  if (value->substr(25) != m_self.node + m_self.store) throw TableError("another node's");
  m_last_job = table.get(greatest_key).value_or("");
  auto folded = table.get(version_key);
  if (!folded || folded->size() != 12 || get_le<uint32_t>(*folded, 0) < fold_version ||
      get_le<uint64_t>(*folded, 4) != m_position.end) {
    recount_first();
    find_copied();
    leave_expiring();
    m_table.remove(part_key);  // the older program has folded the whole record
  }
}

bool Fold::run(EventReader& reader, size_t most) {
  using Item = JournalReader::Item;
  while (most > 0) {
    const Item item = m_is_within ? Item::record : reader.next();
    if (item == Item::end) return true;
    if (item == Item::record) {
      m_is_within = !apply_part(reader.event(), reader.head(), reader.lsn(), reader.position(), most);
    } else {
      take(item, reader);
      --most;
    }
  }
  return false;
}

void Fold::take(JournalReader::Item item, const EventReader& reader) {
  switch (item) {
    case JournalReader::Item::end:
      return;
    case JournalReader::Item::record:
      return apply(reader.event(), reader.head(), reader.lsn(), reader.position());
    case JournalReader::Item::damage:
      trouble(Trouble::Kind::damage, reader.lsn(), reader.position());
      break;
    case JournalReader::Item::torn:
      trouble(Trouble::Kind::torn, reader.lsn(), reader.position());
      break;
    case JournalReader::Item::missing:
      trouble(Trouble::Kind::missing, reader.lsn(), reader.position());
      break;
  }
  m_position.end = reader.position();
  m_changed = true;
}

void Fold::apply(const Event& event, const RecordHead& head, Lsn lsn, Lsn end) {
  size_t all = SIZE_MAX;
  apply_part(event, head, lsn, end, all);
}

bool Fold::apply_part(const Event& event, const RecordHead& head, Lsn lsn, Lsn end, size_t& left) {
  bool is_whole = true;
  std::visit(
      [&](const auto& e) {
        if constexpr (std::is_same_v<std::decay_t<decltype(e)>, event::Copied>) {
          const std::optional<Event> less = without_former(e);
          for (const auto& id : e.ids) happen(id, less ? *less : event, head, lsn);
        } else if constexpr (std::is_same_v<std::decay_t<decltype(e)>, event::Counts>) {
          m_tally.take(e, lsn);
        } else if constexpr (requires { take(e); }) {
          take(e);
        } else if constexpr (requires { e.ids; }) {
          for (const auto& id : e.ids) happen(id, event, head, lsn);
        } else if constexpr (requires { e.id; }) {
          happen(e.id, event, head, lsn);
        } else if constexpr (requires { apply_part(e, lsn, left); }) {
          is_whole = apply_part(e, lsn, left);
        } else {
          apply(e);
        }
      },
      event);
  m_changed = true;
  left -= std::min(left, jobs_in(event));
  if (!is_whole) return false;
  if (const auto* forget = std::get_if<event::Forget>(&event)) remove_conflicts(forget->ids);
  m_position = {end, lsn, head.head_sum};
  return true;
}

// Returns the record without the copies on nodes that have got a new identity since they confirmed the copies; nullopt
// if there are no such copies.
std::optional<Event> Fold::without_former(const event::Copied& copied) {
  std::string there;
  bool all = true;
  for (const auto& [node, store] : copied.copies()) {
    const PeerState known = store.empty() ? PeerState() : peer(node);
    const auto& former = known.former;  // if an older state of a store was restored, its identity is also among these
    if (store != known.store && std::find(former.begin(), former.end(), store) != former.end()) all = false;
    else there += (there.empty() ? "" : ",") + node;
  }
  if (all) return std::nullopt;
  event::Copied less = copied;
  less.peers = there;
  less.stores.clear();
  return less;
}

// Call it when a node has a new identity, with the record that says so: the node has lost its copies of the pending
// jobs.
bool Fold::lose_copies(const std::string& node, Lsn lsn, size_t& left) {
  const auto part = m_table.get(part_key);
  const bool goes_on = part && part->size() > 8 && get_le<uint64_t>(*part, 0) == lsn;
  bool is_whole = true;
  std::vector<std::string> copied;
  for (auto c = m_table.walk(goes_on ? copied_key(part->substr(8)) + '\0' : copied_key({}));
       c->valid() && c->key()[0] == 'u'; c->next()) {
    is_whole = copied.size() < left;
    if (!is_whole) break;
    copied.emplace_back(c->key().substr(1));
  }
  for (const auto& id : copied) {
    const auto before = get(id);
    auto after = before;
    if (after && lose_copy(*after, node)) update(id, before, std::move(after), Line::stays);
  }
  left -= copied.size();
  std::string reached;
  put_le<uint64_t>(reached, lsn);
  if (!is_whole) m_table.put(part_key, reached + copied.back());
  else if (part) m_table.remove(part_key);
  return is_whole;
}

void Fold::happen(const std::string& id, const Event& event, const RecordHead& head, Lsn lsn) {
  const auto job = get(id);
  const auto* forget = std::get_if<event::Forget>(&event);
  if (forget && !note_forgotten(id, job, *forget, lsn)) return;
  Transition to = next(job, event, head, lsn, m_self);
  if (to.touched) touch(id, lsn);
  if (to.conflict) trouble(Trouble::Kind::conflict, lsn, lsn, id);
  if (to.key != Transition::Key::stays && !resolve_key(id, job ? *job : *to.job, to, lsn)) return;
  const auto* done = std::get_if<event::Done>(&event);
  m_tally.count(job, to.job, event, lsn);
  const bool has_children = done && done->children > 0 && to.job && has_ended(*to.job) && !to.job->dropped;
  const auto* start = std::get_if<event::Start>(&event);
  const bool is_started = start && job && to.job && to.job->starts > job->starts;
  update(id, job, std::move(to.job), to.line);
  if (is_started) count_start(job->function, start->at);
  const auto* add = std::get_if<event::Add>(&event);
  if (has_children) give_birth(id, *done);
  if (add && !job && !add->parents.empty()) take_parents(id, add->parents, add->met);
  if (add && !add->letter.empty()) {
    m_table.remove(unsent_key(add->letter));
    if (const auto now = job ? std::nullopt : get(id)) m_table.put(letter_key(id), add->letter);
  }
}

// Notes that a job has ended dead, so that a letter is queued, or that it is not dead any more. A letter that ends dead
// makes none. In a group whose nodes all run each job, each node makes letters of its own.
void Fold::note_letter(const std::string& id, const std::optional<Job>& before, const std::optional<Job>& after) {
  const bool was_dead = before && before->state == State::dead, is_dead = after && after->state == State::dead;
  if (was_dead == is_dead) return;
  const auto to = is_dead && may_run(*after) ? dead_letters(after->function) : std::nullopt;
  if (was_dead) m_table.remove(unsent_key(id));
  else if (to && !m_table.get(letter_key(id))) m_table.put(unsent_key(id), *to);
}

void Fold::give_birth(const std::string& parent, const event::Done& done) {
  for (const auto& id : unborn(parent)) {
    const auto child = get(id);
    if (child->unborn != done.start) continue;
    Transition to = born(*child, done.at, m_self);
    update(id, child, std::move(to.job), to.line);
  }
}

std::vector<std::string> Fold::children(const std::string& id) {
  std::vector<std::string> all;
  const std::string prefix = children_prefix(id);
  for (auto c = m_table.walk(prefix); c->valid() && starts_with(c->key(), prefix); c->next())
    all.emplace_back(c->key().substr(prefix.size()));
  return all;
}

std::vector<std::string> Fold::unborn(const std::string& id) {
  std::vector<std::string> all = children(id);
  std::erase_if(all, [&](const std::string& child) {
    const auto job = get(child);
    if (!job) throw TableError("a job has a child that is not there");
    return job->unborn == 0;
  });
  return all;
}

void Fold::update(const std::string& id, const std::optional<Job>& before, std::optional<Job> after, Line line) {
  if (line == Line::stays && before == after) return;
  auto old_entries = entries_of(id, before);
  const bool enters = line == Line::enters, in_line = after && is_in_line(*after);
  if (before && is_in_line(*before) && (enters || !in_line)) {
    leave_line(id, *before);
    old_entries[by_serial].first.clear();
  }
  if (in_line && enters) enter_line(id, *after);
  if (in_line && line == Line::heads) head_line(id, *after);

  if (before) count(*before, -1);
  if (after) count(*after, 1);
  const auto new_entries = entries_of(id, after);
  for (size_t i = 0; i < new_entries.size(); ++i) {
    const auto& [key, value] = new_entries[i];
    if (const auto& old = old_entries[i].first; !old.empty() && old != key) m_table.remove(old);
    if (!key.empty() && key != old_entries[i].first) m_table.put(key, value);
  }
  note_letter(id, before, after);
  if (after) m_table.put(job_key(id), encode_job(*after));
  else m_table.remove(job_key(id));
  if (!before) m_last_job = std::max(m_last_job, job_key(id));
  if (!has_edges()) return;
  const auto is_over = [](const std::optional<Job>& job) {
    return job && (has_ended(*job) || job->state == State::dead);
  };
  if (is_over(before) || is_over(after)) mark(id);
  if (before && before->after > 0 && (!after || has_ended(*after))) leave_parents(id);
}

void Fold::take(const event::After& said) {
  if (const auto job = get(said.id); job && said.first == job->edges) take_parents(said.id, said.ids, {});
}

// Relates a job to more of its parents.
void Fold::take_parents(const std::string& id, const std::vector<std::string>& parents,
                        const std::vector<std::string>& met) {
  const auto job = get(id);
  if (!job || has_ended(*job) || parents.size() > job->after - job->edges) return;
  const std::set<std::string_view> known_to_end(met.begin(), met.end());
  uint32_t unmet = 0;
  for (const auto& other : parents) {
    if (edge(id, other)) continue;  // the job names this parent twice
    const auto parent = get(other);
    // That a parent is dead is not used here: it may not be in the journal any more when that parent has ended.
    const bool is_over =
        known_to_end.contains(other) || (parent && has_ended(*parent) && lets_go_on(*parent, job->after_any));
    put_edge(id, is_over ? is_met : job->after_any ? waits_for_any : waits_for_done, other);
    unmet += !is_over;
    mark(other);
  }
  auto to = with_parents(*job, static_cast<uint32_t>(parents.size()), unmet);
  update(id, job, std::move(to.job), to.line);
}

void Fold::take(const event::Wake& wake) {
  const auto job = get(wake.id);
  if (!job) return;
  uint32_t met = 0;
  for (const auto& id : wake.ids) {
    const char kind = edge(wake.id, id);
    if (kind != waits_for_any && kind != waits_for_done) continue;
    m_table.remove(edge_key(id, kind, wake.id));
    put_edge(wake.id, is_met, id);
    ++met;
    mark(id);
  }
  if (met == 0) return;
  auto to = woken(*job, wake, met, m_self);
  if (to.job->state == State::dead) m_tally.count(job, to.job, wake, m_position.end);
  update(wake.id, job, std::move(to.job), to.line);
}

bool Fold::has_edges() {
  if (m_has_edges) return *m_has_edges;
  auto c = m_table.walk("A");
  m_has_edges = c->valid() && c->key()[0] == 'A';
  return *m_has_edges;
}

void Fold::put_edge(const std::string& child, char kind, const std::string& parent) {
  m_has_edges = true;
  m_table.put(edge_key(child, has_parent, parent), std::string(1, kind));
  m_table.put(edge_key(parent, kind, child), {});
}

// Returns the kind of the relation between a job and a parent; 0 if there is none.
char Fold::edge(const std::string& child, const std::string& parent) {
  if (!has_edges()) return 0;
  const auto value = m_table.get(edge_key(child, has_parent, parent));
  if (value && value->size() != 1) throw TableError("a bad relation between jobs");
  return value ? (*value)[0] : '\0';
}

void Fold::leave_parents(const std::string& child) {
  const std::string prefix = edge_prefix(child) + has_parent;
  std::vector<std::pair<std::string, std::string>> parents;  // and the kinds
  for (auto c = m_table.walk(prefix); c->valid() && starts_with(c->key(), prefix); c->next())
    parents.emplace_back(c->key().substr(prefix.size()), c->value());
  for (const auto& [parent, kind] : parents) {
    m_table.remove(prefix + parent);
    m_table.remove(edge_prefix(parent) + kind + child);
    mark(parent);
  }
}

// Marks a job if it has ended and there are jobs that still wait for that.
void Fold::mark(const std::string& parent) {
  const auto job = get(parent);
  bool is_marked = false;
  if (job && (has_ended(*job) || job->state == State::dead)) {
    const std::string prefix = edge_prefix(parent);
    auto c = m_table.walk(prefix + waits_for_any);
    const char kind = c->valid() && starts_with(c->key(), prefix) ? c->key()[prefix.size()] : '\0';
    is_marked = kind == waits_for_any || (kind == waits_for_done && has_ended(*job));
  }
  if (is_marked) m_table.put(mark_key(parent), {});
  else m_table.remove(mark_key(parent));
}

std::vector<event::Wake> Fold::wakes(size_t most, Millis now) {
  std::map<std::pair<std::string, bool>, event::Wake> all;  // by the job, and whether its parents were dropped
  if (!has_edges()) return {};
  for (auto c = m_table.walk("U"); c->valid() && c->key()[0] == 'U' && most > 0; c->next()) {
    const std::string parent(c->key().substr(1)), prefix = edge_prefix(parent);
    const auto ended = get(parent);
    if (!ended) throw TableError("a mark names a job that is not there");
    for (auto e = m_table.walk(prefix + waits_for_any); e->valid() && starts_with(e->key(), prefix) && most > 0;
         e->next()) {
      const char kind = e->key()[prefix.size()];
      if (kind != waits_for_any && kind != waits_for_done) break;
      const bool dropped = !lets_go_on(*ended, kind == waits_for_any);
      if (dropped && !has_ended(*ended)) break;  // it is dead, and a user may still kick it
      const std::string id(e->key().substr(prefix.size() + 1));
      const auto job = get(id);
      if (!job) throw TableError("a job has a child that is not there");
      // Only the node that may run the job makes it dead, and not while its client has no answer yet. Other nodes learn
      // that it is dead, and then note that this parent has ended: when it is kicked, it does not wait for the parent.
      if (dropped && (job->state == State::pending || (!may_run(*job) && job->state != State::dead))) continue;
      auto& wake = all[{id, dropped}];
      wake.id = id, wake.at = now, wake.dropped = dropped;
      wake.ids.push_back(parent);
      --most;
    }
  }
  std::vector<event::Wake> wakes;
  for (auto& [key, wake] : all) wakes.push_back(std::move(wake));
  return wakes;
}

Fold::Parents Fold::parents(const std::string& id) {
  const std::string prefix = edge_prefix(id) + has_parent;
  const auto job = get(id);
  Parents parents;
  for (auto c = m_table.walk(prefix); c->valid() && starts_with(c->key(), prefix); c->next()) {
    const std::string& other = parents.all.emplace_back(c->key().substr(prefix.size()));
    const auto parent = get(other);
    if (c->value() == std::string_view(&is_met, 1) ||
        (job && parent && has_ended(*parent) && lets_go_on(*parent, job->after_any)))
      parents.met.push_back(other);
  }
  return parents;
}

std::vector<std::string> Fold::unmet(const std::string& id, size_t most) {
  const std::string prefix = edge_prefix(id) + has_parent;
  std::vector<std::string> parents;
  for (auto c = m_table.walk(prefix); c->valid() && starts_with(c->key(), prefix) && parents.size() < most; c->next())
    if (c->value() != std::string_view(&is_met, 1)) parents.emplace_back(c->key().substr(prefix.size()));
  return parents;
}

// Updates which job has a key. Returns false if another job has the key already: this job is that job, sent again, and
// does not exist.
bool Fold::resolve_key(const std::string& id, const Job& job, Transition& to, Lsn lsn) {
  using Key = Transition::Key;
  if (job.key.empty()) return true;
  const std::string key = key_key(job.function, job.key);
  std::string value = id;
  if (to.key == Key::taken || to.key == Key::wanted) {
    auto holder = keyed(job.function, job.key, to.key_at);
    if (!holder) {
      put_le<uint64_t>(value, 0);
      m_table.put(key, value);
      return true;
    }
    touch(*holder, lsn);
    if (to.key == Key::wanted) return false;
    to.job->key.clear();
  } else if (key_holder(job.function, job.key) == id) {
    put_le<uint64_t>(value, static_cast<uint64_t>(to.key_at.count()));
    if (to.key == Key::freed) m_table.remove(key);
    else m_table.put(key, value);
  }
  return true;
}

// The job becomes the head of the line, unless the present head comes before it in the order, or has been claimed. So
// the result does not depend on jobs that have been forgotten since.
void Fold::enter_line(const std::string& id, Job& job) {
  auto head = m_table.get(head_key(job.serial));
  auto other = head ? get(*head) : std::nullopt;
  if (!other || (can_wait(*other) && other->first_lsn > job.first_lsn)) head_line(id, job);
  else job.state = State::waiting;
}

// Makes a job the head of its line, which is the only job in the line that does not wait. The former head waits from
// now on, unless it has been claimed.
void Fold::head_line(const std::string& id, const Job& job) {
  auto head = m_table.get(head_key(job.serial));
  if (head == id) return;
  m_table.put(head_key(job.serial), id);
  auto other = head ? get(*head) : std::nullopt;
  if (!other || !can_wait(*other)) return;
  auto waits = other;
  waits->state = State::waiting;
  update(*head, other, std::move(waits), Line::stays);
}

// Removes a job that will not be started again from its line: then the next job in the line may be started.
void Fold::leave_line(const std::string& id, const Job& job) {
  m_table.remove(serial_key(job));
  if (m_table.get(head_key(job.serial)) != id) return;
  m_table.remove(head_key(job.serial));
  std::string first;
  walk(serial_prefix(job.serial), [&](const std::string& in_line) {
    first = in_line;
    return false;
  });
  if (first.empty()) return;
  const auto waiting = get(first);
  if (!waiting) throw TableError("a serial key names a job that is not there");
  m_table.put(head_key(job.serial), first);
  if (waiting->state != State::waiting) return;
  auto next_one = waiting;
  take_turn(*next_one);
  update(first, waiting, std::move(next_one), Line::stays);
}

void Fold::commit() {
  if (m_changed) {
    for (const auto& function : std::exchange(m_counted, {})) {
      const Counters& c = counter(function);
      std::string value;
      bool empty = c.bytes == 0 && std::all_of(c.jobs.begin(), c.jobs.end(), [](uint64_t n) { return n == 0; });
      if (empty && !m_table.get("p" + function) && !m_table.get("L" + function) && !m_table.get("D" + function) &&
          !m_table.get(rate_key(function))) {
        m_table.remove("s" + function);
        m_table.remove("z" + function);
        continue;
      }
      for (uint64_t n : c.jobs) put_le<uint64_t>(value, n);
      put_le<uint64_t>(value, c.bytes);
      m_table.put("s" + function, value);
      value.clear();
      put_le<uint64_t>(value, c.first);
      if (c.blocked || c.spooled) put_le<uint64_t>(value, c.blocked);
      if (c.spooled) put_le<uint64_t>(value, c.spooled);
      if (c.first || c.blocked || c.spooled) m_table.put("z" + function, value);
      else m_table.remove("z" + function);
    }
    put_weights();
    m_tally.commit();
    std::string value;
    if (m_outputs) {
      put_le<uint64_t>(value, *m_outputs);
      if (*m_outputs) m_table.put(outputs_key, value);
      else m_table.remove(outputs_key);
    }
    value.assign(1, static_cast<char>(index_version));
    put_le<uint64_t>(value, m_position.end);
    put_le<uint64_t>(value, m_position.last);
    put_le<uint64_t>(value, m_position.last_sum);
    m_table.put(position_key, value + m_self.node + m_self.store);
    m_table.put(greatest_key, m_last_job);
    value.clear();
    put_le<uint32_t>(value, fold_version);
    put_le<uint64_t>(value, m_position.end);
    m_table.put(version_key, value);
    m_changed = false;
  }
  m_table.commit();
}

// Recomputes the entries `z`, which an older program that uses the same index does not update.
void Fold::recount_first() {
  std::vector<std::string> kept;
  for (auto c = m_table.walk("z"); c->valid() && c->key()[0] == 'z'; c->next()) kept.emplace_back(c->key().substr(1));
  for (const auto& function : kept) changed_counter(function);
  for (const auto& function : functions()) {
    Counters& c = changed_counter(function);
    c.first = 0;
    walk(function_prefix('d', function), [&](const std::string& id) {
      auto job = get(id);
      if (!job) throw TableError("an order names a job that is not there");
      c.first += waits_for_first(*job);
      return true;
    });
  }
  m_changed = true;
}

void Fold::find_copied() {
  std::vector<std::string> old, pending;
  for (auto c = m_table.walk("u"); c->valid() && c->key()[0] == 'u'; c->next()) old.emplace_back(c->key());
  for (const auto& key : old) m_table.remove(key);
  std::string cursor;
  page('n', {}, SIZE_MAX, cursor, pending);
  for (const auto& id : pending)
    if (auto job = get(id); job && has_copies(*job)) m_table.put(copied_key(id), {});
  m_changed = true;
}

// Removes the entries `a` of jobs that cannot expire any more: an older program does not do so.
void Fold::leave_expiring() {
  std::vector<std::string> old;
  for (auto c = m_table.walk("a"); c->valid() && c->key()[0] == 'a'; c->next()) {
    const auto job = get(std::string(c->value()));
    if (!job || !can_expire(*job) || expiry_key(*job) != c->key()) old.emplace_back(c->key());
  }
  for (const auto& key : old) m_table.remove(key);
  m_changed = true;
}

Counters& Fold::changed_counter(const std::string& function) {
  m_counted.insert(function);
  return counter(function);
}

Counters& Fold::counter(const std::string& function) {
  auto it = m_counters.find(function);
  if (it == m_counters.end()) {
    auto value = m_table.get("s" + function);
    it = m_counters.emplace(function, value ? decode_counters(*value) : Counters{}).first;
    if (auto first = m_table.get("z" + function)) {
      if (first->size() != 8 && first->size() != 16 && first->size() != 24) throw TableError("bad counters");
      it->second.first = get_le<uint64_t>(*first, 0);
      if (first->size() > 8) it->second.blocked = get_le<uint64_t>(*first, 8);
      if (first->size() > 16) it->second.spooled = get_le<uint64_t>(*first, 16);
    }
  }
  return it->second;
}

void Fold::trouble(Trouble::Kind kind, Lsn lsn, Lsn end, const std::string& id) {
  std::string key = trouble_key(kind, lsn), value;
  value += static_cast<char>(kind);
  put_le<uint64_t>(value, end);
  m_table.put(key, value + id);
  if (kind != Trouble::Kind::conflict) return;
  conflicts().emplace(id, key);
  leave_latest_conflicts();
}

Fold::Conflicts& Fold::conflicts() {
  if (m_conflicts) return *m_conflicts;
  m_conflicts.emplace();
  for (auto c = m_table.walk("i"); c->valid() && c->key()[0] == 'i'; c->next())
    m_conflicts->emplace(trouble_at(c->key(), c->value())->id, c->key());
  return *m_conflicts;
}

// Removes the oldest notes of conflicts if there are too many. Call it after each new note.
void Fold::leave_latest_conflicts() {
  auto& notes = conflicts();
  if (notes.size() <= most_conflicts + most_conflicts / 4) return;
  std::vector<std::string> keys;
  for (const auto& note : notes) keys.push_back(note.second);
  const auto latest = keys.end() - most_conflicts;
  std::nth_element(keys.begin(), latest, keys.end());
  const std::string first = *latest;
  std::for_each(keys.begin(), latest, [&](const std::string& key) { m_table.remove(key); });
  std::erase_if(notes, [&](const auto& note) { return note.second < first; });
}

void Fold::count(const Job& job, int by) {
  Counters& c = changed_counter(job.function);
  c.jobs[static_cast<size_t>(job.state)] += static_cast<uint64_t>(by);
  const bool finished = job.state == State::finished;
  if (waits_for_first(job)) c.first += static_cast<uint64_t>(by);
  if (job.state == State::waiting && is_blocked(job)) c.blocked += static_cast<uint64_t>(by);
  if (is_spooled(job)) c.spooled += static_cast<uint64_t>(by);
  if (!finished) c.bytes += static_cast<uint64_t>(by) * job.size;
  Weight& w = weight_at(job.first_lsn);
  w.bytes += static_cast<uint64_t>(by) * (finished ? finished_weight : job_weight + (job.is_inline() ? job.size : 0));
  w.bytes += static_cast<uint64_t>(by) * job.edges * edge_weight;
  if (finished) w.finished += static_cast<uint64_t>(by);
  if (job.output_lsn == 0) return;
  m_outputs = outputs() + static_cast<uint64_t>(by) * job.output_size;
  if (!has_output_blob(job)) weight_at(job.output_lsn).bytes += static_cast<uint64_t>(by) * job.output_size;
}

uint64_t Fold::outputs() {
  if (m_outputs) return *m_outputs;
  const auto value = m_table.get(outputs_key);
  if (value && value->size() != 8) throw TableError("a bad size of all outputs");
  m_outputs = value ? get_le<uint64_t>(*value, 0) : 0;
  return *m_outputs;
}

Weight& Fold::weight_at(Lsn lsn) {
  auto [it, is_new] = m_weights.try_emplace(lsn / weight_step);
  if (!is_new) return it->second;
  if (auto value = m_table.get(weight_key(lsn / weight_step))) {
    if (value->size() != 16) throw TableError("bad weight");
    it->second = {get_le<uint64_t>(*value, 0), get_le<uint64_t>(*value, 8)};
  }
  return it->second;
}

void Fold::put_weights() {
  for (const auto& [part, w] : m_weights) {
    std::string value;
    put_le<uint64_t>(value, w.bytes);
    put_le<uint64_t>(value, w.finished);
    if (w.bytes == 0 && w.finished == 0) m_table.remove(weight_key(part));
    else m_table.put(weight_key(part), value);
  }
}

Weight Fold::weight(Lsn from, Lsn end, size_t most, Lsn* stopped) {
  put_weights();
  Weight sum;
  if (stopped) *stopped = end;
  for (auto c = m_table.walk(weight_key(from / weight_step)); c->valid() && c->key()[0] == 'w'; c->next()) {
    if (c->key().size() != 9 || c->value().size() != 16) throw TableError("bad weight");
    const uint64_t part = get_be64(c->key(), 1);
    if (part > (end - 1) / weight_step) break;
    if (most-- == 0) {
      if (stopped) *stopped = part * weight_step;
      break;
    }
    sum.bytes += get_le<uint64_t>(c->value(), 0);
    sum.finished += get_le<uint64_t>(c->value(), 8);
  }
  return sum;
}

// Notes that a forget record has named a job: older segments may still have records of the job, which would create the
// job again. Returns false if the job must stay.
bool Fold::note_forgotten(const std::string& id, const std::optional<Job>& job, const event::Forget& forget, Lsn lsn) {
  auto touched_at = touched(id);
  if (touched_at && *touched_at >= forget.position) return false;  // a newer add record needs the job
  std::string noted;
  put_le<uint64_t>(noted, lsn);
  put_le<uint64_t>(noted, job && !touched_at ? job->first_lsn : no_lsn);
  m_table.put("f" + id, noted);
  if (job) m_table.remove("t" + id), m_table.remove(letter_key(id));
  return true;
}

void Fold::remove_conflicts(const std::vector<std::string>& ids) {
  auto& notes = conflicts();
  for (const auto& id : ids)
    for (auto note = notes.lower_bound({id, {}}); note != notes.end() && note->first == id; note = notes.erase(note))
      m_table.remove(note->second);
}

bool Fold::apply_part(const Gap& gap, Lsn, size_t& left) {
  bool is_whole = true;
  std::vector<std::string> keys;
  const auto end = trouble_key(Trouble::Kind::damage, gap.position);
  for (auto c = m_table.walk(trouble_key(Trouble::Kind::damage, gap.since)); c->valid() && c->key() < end; c->next()) {
    is_whole = keys.size() < left;
    if (!is_whole) break;
    keys.emplace_back(c->key());
  }
  for (const auto& key : keys) m_table.remove(key);
  left -= keys.size();
  return is_whole;
}

bool Fold::is_referenced(const std::string& id) {
  std::string prefix = "b" + id + std::string(1, '\0');
  auto c = m_table.walk(prefix);
  return c->valid() && starts_with(c->key(), prefix);
}

std::optional<std::string> Fold::key_holder(const std::string& function, const std::string& key) {
  auto value = m_table.get(key_key(function, key));
  if (!value) return std::nullopt;
  if (value->size() != ulid_size + 8) throw TableError("bad key");
  return value->substr(0, ulid_size);
}

void Fold::touch(const std::string& id, Lsn lsn) {
  std::string value;
  put_le<uint64_t>(value, lsn);
  m_table.put("t" + id, value);
}

std::optional<Lsn> Fold::touched(const std::string& id) {
  auto value = m_table.get("t" + id);
  if (!value) return std::nullopt;
  if (value->size() != 8) throw TableError("bad touch");
  return get_le<uint64_t>(*value, 0);
}

std::optional<Fold::Forgotten> Fold::forgotten(const std::string& id) {
  auto value = m_table.get("f" + id);
  if (!value) return std::nullopt;
  if (value->size() != 16) throw TableError("bad note of a forgotten job");
  return Forgotten{get_le<uint64_t>(*value, 0), get_le<uint64_t>(*value, 8)};
}

bool Fold::has_no_effect(std::string_view key, std::string_view value, Millis now) {
  if (key[0] == 'g' || key[0] == 't' || key[0] == 'f' || key[0] == 'i' || key[0] == 'M') return true;
  if (key[0] == 'R' && key.back() == '\0') return true;  // the index says how many more starts there were
  // The time for which the key was reserved is over.
  uint64_t until = key[0] == 'k' && value.size() == ulid_size + 8 ? get_le<uint64_t>(value, ulid_size) : 0;
  return until != 0 && until <= static_cast<uint64_t>(now.count());
}

bool Fold::may_forget(const std::string& id, const Job& job, Millis now, const std::function<bool(Lsn)>& is_clean) {
  if (job.state != State::finished || is_referenced(id) || !end_is_known(job)) return false;
  if (const std::string prefix = edge_prefix(id); has_edges()) {
    auto c = m_table.walk(prefix);
    if (c->valid() && starts_with(c->key(), prefix)) return false;
  }
  if (auto c = m_table.walk(children_prefix(id)); c->valid() && starts_with(c->key(), children_prefix(id)))
    return false;
  if (!job.key.empty() && keyed(job.function, job.key, now) == id) return false;
  // As long as the job that it is about is dead, the letter's record says that the letter has been queued.
  if (const auto about = m_table.get(letter_key(id)))
    if (const auto dead = get(*about); dead && dead->state == State::dead) return false;
  auto at = touched(id);
  return !at || is_clean(*at);
}

bool Fold::end_is_known(const Job& job) {
  if (job.node.empty()) return true;
  for (const auto& [node, peer] : peers())
    if (peer.position <= std::max(job.first_lsn, job.location)) return false;
  return true;
}

// The new identity is written last: until then, the record is not folded.
bool Fold::apply_part(const event::Peer& said, Lsn lsn, size_t& left) {
  PeerState peer = this->peer(said.node);
  const bool is_another = !peer.store.empty() && peer.store != said.store;
  if (is_another && !said.store.empty() && !lose_copies(said.node, lsn, left)) return false;
  if (is_another) peer.former.push_back(peer.store);
  if (peer.former.size() > most_former) peer.former.erase(peer.former.begin());
  std::string value;
  put_le<uint64_t>(value, said.position);
  put_le<uint64_t>(value, said.since);
  for (const auto& store : peer.former) value += store;
  m_table.put("r" + said.node, value + (said.store.empty() ? std::string(ulid_size, '-') : said.store));
  return true;
}

PeerState Fold::peer(const std::string& node) {
  PeerState peer;
  auto value = m_table.get("r" + node);
  if (!value) return peer;
  if (value->size() < 16 + ulid_size || (value->size() - 16) % ulid_size != 0) throw TableError("bad peer");
  peer.position = get_le<uint64_t>(*value, 0);
  peer.since = get_le<uint64_t>(*value, 8);
  for (size_t at = 16; at < value->size(); at += ulid_size) peer.former.push_back(value->substr(at, ulid_size));
  peer.store = peer.former.back();
  peer.former.pop_back();
  if (peer.store[0] == '-') peer.store.clear();
  return peer;
}

std::vector<std::string> Fold::held_nodes() {
  std::vector<std::string> nodes;
  for (auto c = m_table.walk("o"); c->valid() && c->key()[0] == 'o'; c->seek("o" + nodes.back() + '\1')) {
    size_t end = c->key().find('\0');
    if (end == std::string_view::npos) throw TableError("bad order of held jobs");
    nodes.emplace_back(c->key().substr(1, end - 1));
  }
  return nodes;
}

std::map<std::string, PeerState> Fold::peers() {
  std::vector<std::string> nodes;
  for (auto c = m_table.walk("r"); c->valid() && c->key()[0] == 'r'; c->next()) nodes.emplace_back(c->key().substr(1));
  std::map<std::string, PeerState> all;
  for (const auto& node : nodes) all[node] = peer(node);
  return all;
}

bool Fold::is_owed(const Job& job) {
  if (job.node.empty() || job.once) return false;
  for (const auto& [node, peer] : peers())
    if (peer.position <= job.first_lsn && job.first_lsn >= peer.since) return true;
  return false;
}

void Fold::apply(const event::Pause& pause) {
  std::string value;
  changed_counter(pause.function);
  if (pause.limit) {
    put_le<uint32_t>(value, pause.limit);
    m_table.put("L" + pause.function, value);
    return;
  }
  put_le<uint64_t>(value, static_cast<uint64_t>(pause.at.count()));
  m_table.put("p" + pause.function, value);
}

void Fold::apply(const event::Resume& resume) {
  changed_counter(resume.function);
  m_table.remove((resume.unlimited ? "L" : "p") + resume.function);
}

void Fold::apply(const event::Letter& letter) {
  changed_counter(letter.function);
  if (letter.to.empty()) m_table.remove("D" + letter.function);
  else m_table.put("D" + letter.function, letter.to);
}

// The same rate again leaves the starts that count.
void Fold::apply(const event::Rate& said) {
  const std::string& function = said.function;
  const StartRate rate{said.starts, said.period};
  const auto before = this->rate(function);
  changed_counter(function);
  if (!before || before->period != rate.period || rate.starts == 0) m_table.remove(starts_key(function));
  if (rate.starts == 0) return m_table.remove(rate_key(function));
  std::string value;
  put_le<uint32_t>(value, rate.starts);
  put_le<uint64_t>(value, static_cast<uint64_t>(rate.period.count()));
  m_table.put(rate_key(function), value);
}

std::optional<StartRate> Fold::rate(const std::string& function) {
  const auto value = m_table.get(rate_key(function));
  if (!value) return std::nullopt;
  if (value->size() != 12) throw TableError("bad rate");
  return StartRate{get_le<uint32_t>(*value, 0), Millis(static_cast<int64_t>(get_le<uint64_t>(*value, 4)))};
}

Started Fold::started(const std::string& function) { return Started(m_table.get(starts_key(function)).value_or("")); }

void Fold::count_start(const std::string& function, Millis at) {
  const auto rate = this->rate(function);
  if (!rate) return;
  Started all = started(function);
  all.add(*rate, at);
  m_table.put(starts_key(function), all.encode());
}

std::optional<std::string> Fold::dead_letters(const std::string& function) { return m_table.get("D" + function); }

void Fold::unsent_letters(const std::function<bool(const std::string& id, const std::string& to)>& visit) {
  const std::string prefix = unsent_key({});
  for (auto c = m_table.walk(prefix); c->valid() && starts_with(c->key(), prefix); c->next())
    if (!visit(std::string(c->key().substr(prefix.size())), std::string(c->value()))) return;
}

std::optional<std::string> Fold::keyed(const std::string& function, const std::string& key, Millis now) {
  auto value = m_table.get(key_key(function, key));
  if (!value) return std::nullopt;
  if (value->size() != ulid_size + 8) throw TableError("bad key");
  uint64_t until = get_le<uint64_t>(*value, ulid_size);
  if (until != 0 && until <= static_cast<uint64_t>(now.count())) return std::nullopt;
  return value->substr(0, ulid_size);
}

size_t Fold::with_serial(const std::string& serial, size_t most) {
  size_t n = 0;
  walk(serial_prefix(serial), [&](const std::string&) { return ++n < most; });
  return n;
}

std::optional<Millis> Fold::paused(const std::string& function) {
  auto value = m_table.get("p" + function);
  if (!value) return std::nullopt;
  if (value->size() != 8) throw TableError("bad pause");
  return Millis(static_cast<int64_t>(get_le<uint64_t>(*value, 0)));
}

std::optional<uint32_t> Fold::limit(const std::string& function) {
  auto value = m_table.get("L" + function);
  if (!value) return std::nullopt;
  if (value->size() != 4) throw TableError("bad limit");
  return get_le<uint32_t>(*value, 0);
}

std::optional<Job> Fold::get(const std::string& id) {
  std::string key = job_key(id);
  if (key > m_last_job) return std::nullopt;
  auto value = m_table.get(key);
  if (!value) return std::nullopt;
  return decode_job(*value);
}

std::map<std::string, Counters> Fold::counters() {
  for (const auto& f : functions()) counter(f);
  return m_counters;
}

bool Fold::troubles(size_t most, std::string& cursor, std::vector<Trouble>& some) {
  auto c = m_table.walk(cursor.empty() ? "e" : cursor);
  if (!cursor.empty() && c->valid() && c->key() == cursor) c->next();
  for (;; c->next()) {
    if (c->valid() && c->key()[0] > 'e' && c->key()[0] < 'i') c->seek("i");
    if (!c->valid() || c->key()[0] > 'i') return true;
    if (most-- == 0) return false;
    cursor = c->key();
    some.push_back(*trouble_at(c->key(), c->value()));
  }
}

std::unique_ptr<Table::Cursor> Fold::entries(std::string_view from) {
  commit();
  return m_table.walk(from);
}

std::optional<std::pair<std::string, Job>> Fold::job_at(std::string_view key, std::string_view value) {
  if (key[0] != 'j') return std::nullopt;
  return std::pair(std::string(key.substr(1)), decode_job(value));
}

std::optional<Trouble> Fold::trouble_at(std::string_view key, std::string_view value) {
  if (key[0] != 'e' && key[0] != 'i') return std::nullopt;
  if (key.size() != 9 || value.size() < 9) throw TableError("bad trouble");
  return Trouble{static_cast<Trouble::Kind>(value[0]), get_be64(key, 1), get_le<uint64_t>(value, 1),
                 std::string(value.substr(9))};
}

std::vector<std::string> Fold::cancelled() {
  std::vector<std::string> ids;
  for (auto c = m_table.walk("C"); c->valid() && c->key()[0] == 'C'; c->next()) ids.emplace_back(c->key().substr(1));
  return ids;
}

void Fold::walk(const std::string& prefix, const Visit& visit) {
  for (auto c = m_table.walk(prefix); c->valid() && starts_with(c->key(), prefix); c->next())
    if (!visit(std::string(c->value()))) return;
}

void Fold::queued(const std::string& function, const Visit& visit) { walk(function_prefix('q', function), visit); }

void Fold::dead(const std::string& function, const Visit& visit) { walk(function_prefix('x', function), visit); }

std::vector<std::string> Fold::last_dead(const std::string& function, size_t most) {
  const auto from = [&](Lsn lsn) {
    const std::string prefix = function_prefix('x', function);
    std::string key = prefix;
    put_be64(key, lsn);
    std::vector<std::string> ids;
    for (auto c = m_table.walk(key); c->valid() && starts_with(c->key(), prefix) && ids.size() < most; c->next())
      ids.emplace_back(c->value());
    return ids;
  };
  // Searches the last position from which on there are so many: a table is walked in one direction.
  Lsn low = 0, high = m_position.end;
  while (low < high) {
    const Lsn middle = low + (high - low + 1) / 2;
    if (from(middle).size() >= most) low = middle;
    else high = middle - 1;
  }
  return from(low);
}

std::optional<Millis> Fold::delayed(const std::string& function, Millis until, const Visit& visit) {
  std::string prefix = function_prefix('d', function);
  for (auto c = m_table.walk(prefix); c->valid() && starts_with(c->key(), prefix); c->next()) {
    if (c->key().size() != prefix.size() + 16) throw TableError("bad due time");
    Millis due(static_cast<int64_t>(get_be64(c->key(), prefix.size())));
    if (due > until) return due;
    if (!visit(std::string(c->value()))) break;
  }
  return std::nullopt;
}

std::optional<Millis> Fold::expired(Millis now, const Visit& visit) {
  for (auto c = m_table.walk("a"); c->valid() && c->key()[0] == 'a'; c->next()) {
    if (c->key().size() != 17) throw TableError("bad time of expiry");
    const Millis at(static_cast<int64_t>(get_be64(c->key(), 1)));
    if (at > now) return at;
    if (!visit(std::string(c->value()))) break;
  }
  return std::nullopt;
}

uint64_t Fold::due_first(const std::string& function, Millis now, size_t& left, std::string& cursor) {
  const std::string prefix = function_prefix('d', function);
  uint64_t n = 0;
  auto c = m_table.walk(cursor.empty() ? prefix : cursor);
  if (!cursor.empty() && c->valid() && c->key() == cursor) c->next();
  for (; left > 0 && c->valid() && starts_with(c->key(), prefix); c->next(), --left) {
    if (c->key().size() != prefix.size() + 16) throw TableError("bad due time");
    if (Millis(static_cast<int64_t>(get_be64(c->key(), prefix.size()))) > now) break;
    cursor = c->key();
    const auto job = get(std::string(c->value()));
    if (!job) throw TableError("an order names a job that is not there");
    n += waits_for_first(*job);
  }
  return n;
}

void Fold::claimed(const std::string& owner, const Visit& visit) {
  std::string prefix = owner_prefix(owner);
  for (auto c = m_table.walk(prefix); c->valid() && starts_with(c->key(), prefix); c->next())
    if (!visit(std::string(c->key().substr(prefix.size())))) return;
}

bool Fold::page(char order, const std::string& function, size_t most, std::string& cursor,
                std::vector<std::string>& ids) {
  std::string prefix =
      order == 'c' || order == 'l' || function.empty() ? std::string(1, order) : function_prefix(order, function);
  auto c = m_table.walk(cursor.empty() ? prefix : cursor);
  if (!cursor.empty() && c->valid() && c->key() == cursor) c->next();
  for (; c->valid() && starts_with(c->key(), prefix); c->next()) {
    if (most-- == 0) return false;
    if (order == 'c' && c->key().size() <= ulid_size) throw TableError("an owner's key is too short");
    cursor = c->key();
    ids.emplace_back(order == 'c' ? c->key().substr(c->key().size() - ulid_size) : c->value());
  }
  return true;
}

bool Fold::jobs(size_t most, std::string& cursor, const std::function<void(std::string, Job)>& visit) {
  auto c = m_table.walk("j" + cursor);
  if (cursor.size() == ulid_size && c->valid() && c->key() == "j" + cursor) c->next();
  for (; c->valid() && c->key()[0] == 'j'; c->next()) {
    if (most-- == 0) return false;
    cursor = c->key().substr(1);
    visit(cursor, decode_job(c->value()));
  }
  return true;
}

bool Fold::oldest(size_t most, std::string& cursor, std::vector<std::string>& ids) {
  // The entries of one function (and priority) in order q, of one function in n and S, and of one node in o, are by
  // age: only the first has to be read. A waiting job is younger than the job for which it waits.
  static constexpr std::string_view orders = "qnodcBS";
  if (cursor.empty()) cursor = orders[0];
  for (;;) {
    const char order = cursor[0];
    auto c = m_table.walk(cursor);
    while (c->valid() && c->key()[0] == order) {
      if (c->key().size() < 10 || (order == 'c' && c->key().size() <= ulid_size))
        throw TableError("an order's key is too short");
      if (most-- == 0) {
        cursor = c->key();
        return false;
      }
      ids.emplace_back(order == 'c' ? c->key().substr(c->key().size() - ulid_size) : c->value());
      if (order == 'd' || order == 'c') c->next();
      else c->seek(std::string(c->key().substr(0, c->key().size() - 8)) + std::string(9, '\xff'));
    }
    const size_t next = orders.find(order) + 1;
    if (next == orders.size()) return true;
    cursor = orders[next];
  }
}

std::optional<Millis> Fold::waits_since(const std::string& function, Millis now) {
  std::optional<Millis> since;
  for (char priority = high_priority; priority <= static_cast<char>(low_priority); ++priority)
    walk(function_prefix('q', function) + priority, [&](const std::string& id) {
      const auto job = get(id);
      if (!job) throw TableError("an order names a job that is not there");
      since = std::min(since.value_or(job->enqueued_at), job->enqueued_at);
      return false;
    });
  const std::string prefix = function_prefix('d', function);
  auto c = m_table.walk(prefix);
  if (!c->valid() || !starts_with(c->key(), prefix)) return since;
  if (c->key().size() != prefix.size() + 16) throw TableError("bad due time");
  const Millis due(static_cast<int64_t>(get_be64(c->key(), prefix.size())));
  if (due <= now) since = std::min(since.value_or(due), due);
  return since;
}

std::vector<std::string> Fold::owners() {
  std::vector<std::string> all;
  auto c = m_table.walk("c");
  while (c->valid() && c->key()[0] == 'c') {
    std::string owner(c->key().substr(1, c->key().find('\0') - 1));
    all.push_back(owner);
    c->seek("c" + owner + '\1');  // continue after all of this owner's jobs
  }
  return all;
}

std::vector<std::string> Fold::functions() {
  std::set<std::string> all;
  for (auto c = m_table.walk("s"); c->valid() && c->key()[0] == 's'; c->next())
    all.insert(all.end(), std::string(c->key().substr(1)));
  for (const auto& [function, c] : m_counters) all.insert(function);
  return {all.begin(), all.end()};
}

bool Fold::functions(size_t most, std::string& cursor, std::vector<std::string>& names) {
  auto c = entries("s" + cursor);
  if (!cursor.empty() && c->valid() && c->key() == "s" + cursor) c->next();
  for (; c->valid() && c->key()[0] == 's'; c->next()) {
    if (most-- == 0) return false;
    names.emplace_back(cursor = c->key().substr(1));
  }
  return true;
}

}  // namespace gq
