#include "old_fold.hpp"

#include <algorithm>

#include "gq/base/bytes.hpp"
#include "gq/base/error.hpp"
#include "gq/base/text.hpp"
#include "gq/base/ulid.hpp"

namespace gq::old {
namespace {

constexpr const char* position_key = "m";
constexpr const char *greatest_key = "g", *version_key = "v";
constexpr uint8_t index_version = 5;
// What a job takes in the journal besides its workload, about: add, claim, start and done.
constexpr uint64_t job_weight = 500;

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

std::string trouble_key(Lsn lsn) {
  std::string key = "e";
  put_be64(key, lsn);
  return key;
}

std::string weight_key(uint64_t part) {
  std::string key = "w";
  put_be64(key, part);
  return key;
}

std::string owner_prefix(const std::string& owner) { return "c" + owner + std::string(1, '\0'); }

// The key under which a job stands in the order of its state; finished and waiting jobs stand in none.
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
      key = function_prefix('n', job.function);
      put_be64(key, job.first_lsn);
      break;
    case State::held:
      key = function_prefix('o', job.node);
      put_be64(key, job.first_lsn);
      break;
    case State::waiting:
    case State::finished:
      break;
  }
  return key;
}

bool waits_for_first(const Job& job) { return job.state == State::delayed && job.starts == 0 && job.failures == 0; }

bool starts_with(std::string_view text, std::string_view prefix) { return text.substr(0, prefix.size()) == prefix; }

Counters decode_counters(std::string_view in) {
  Counters c;
  if (in.size() != 8 * (state_count + 1)) throw TableError("bad counters");
  for (size_t i = 0; i < state_count; ++i) c.jobs[i] = get_le<uint64_t>(in, 8 * i);
  c.bytes = get_le<uint64_t>(in, 8 * state_count);
  return c;
}

}  // namespace

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
      get_le<uint64_t>(*folded, 4) != m_position.end)
    recount_first();
}

bool Fold::run(EventReader& reader, size_t most) {
  for (size_t n = 0; n < most; ++n) {
    auto item = reader.next();
    switch (item) {
      case JournalReader::Item::end:
        return true;
      case JournalReader::Item::record:
        apply(reader.event(), reader.head(), reader.lsn(), reader.position());
        continue;
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
  return false;
}

void Fold::apply(const Event& event, const RecordHead& head, Lsn lsn, Lsn end) {
  std::visit([&](const auto& e) { apply(e, head, lsn); }, event);
  m_position = {end, lsn, head.head_sum};
  m_changed = true;
}

void Fold::commit() {
  if (m_changed) {
    for (const auto& [function, c] : m_counters) {
      std::string value;
      bool empty = c.bytes == 0 && std::all_of(c.jobs.begin(), c.jobs.end(), [](uint64_t n) { return n == 0; });
      if (empty && !m_table.get("p" + function)) {
        m_table.remove("s" + function);
        m_table.remove("z" + function);
        continue;
      }
      for (uint64_t n : c.jobs) put_le<uint64_t>(value, n);
      put_le<uint64_t>(value, c.bytes);
      m_table.put("s" + function, value);
      value.clear();
      put_le<uint64_t>(value, c.first);
      if (c.first) m_table.put("z" + function, value);
      else m_table.remove("z" + function);
    }
    put_weights();
    std::string value(1, static_cast<char>(index_version));
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

// What a program of before, which shares the index, has not kept: made again of what it keeps.
void Fold::recount_first() {
  std::vector<std::string> kept;
  for (auto c = m_table.walk("z"); c->valid() && c->key()[0] == 'z'; c->next()) kept.emplace_back(c->key().substr(1));
  for (const auto& function : kept) counter(function);
  for (const auto& function : functions()) {
    Counters& c = counter(function);
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

Counters& Fold::counter(const std::string& function) {
  auto it = m_counters.find(function);
  if (it == m_counters.end()) {
    auto value = m_table.get("s" + function);
    it = m_counters.emplace(function, value ? decode_counters(*value) : Counters{}).first;
    if (auto first = m_table.get("z" + function)) {
      if (first->size() != 8) throw TableError("bad counters");
      it->second.first = get_le<uint64_t>(*first, 0);
    }
  }
  return it->second;
}

void Fold::put_order(const std::string& id, const Job& job) {
  bool by_owner = job.state == State::claimed || job.state == State::running;
  if (auto key = order_key(id, job); !key.empty())
    m_table.put(key, by_owner ? std::string_view() : std::string_view(id));
  // Where every node runs the job, another may need it when it is finished here: then until it is forgotten.
  if (!job.source.empty() && (job.state != State::finished || (!job.node.empty() && !job.once)))
    m_table.put(reference_key(id, job), {});
}

void Fold::remove_order(const std::string& id, const Job& job) {
  if (auto key = order_key(id, job); !key.empty()) m_table.remove(key);
  if (!job.source.empty()) m_table.remove(reference_key(id, job));
}

void Fold::trouble(Trouble::Kind kind, Lsn lsn, Lsn end, const std::string& id) {
  std::string key = trouble_key(lsn), value;
  value += static_cast<char>(kind);
  put_le<uint64_t>(value, end);
  m_table.put(key, value + id);
}

void Fold::count(const Job& job, int by) {
  Counters& c = counter(job.function);
  c.jobs[static_cast<size_t>(job.state)] += static_cast<uint64_t>(by);
  const bool finished = job.state == State::finished;
  if (waits_for_first(job)) c.first += static_cast<uint64_t>(by);
  if (!finished) c.bytes += static_cast<uint64_t>(by) * job.size;
  Weight& w = weight_at(job.first_lsn);
  w.bytes += static_cast<uint64_t>(by) * (finished ? finished_weight : job_weight + (job.is_inline() ? job.size : 0));
  if (finished) w.finished += static_cast<uint64_t>(by);
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

Weight Fold::weight(Lsn from, Lsn end) {
  put_weights();
  Weight sum;
  for (auto c = m_table.walk(weight_key(from / weight_step)); c->valid() && c->key()[0] == 'w'; c->next()) {
    if (c->key().size() != 9 || c->value().size() != 16) throw TableError("bad weight");
    if (get_be64(c->key(), 1) > (end - 1) / weight_step) break;
    sum.bytes += get_le<uint64_t>(c->value(), 0);
    sum.finished += get_le<uint64_t>(c->value(), 8);
  }
  return sum;
}

// A job's place in the orders, in the counters, and itself. Of a finished one that no other node knows, nothing is kept
// that is not in its first record and its last.
void Fold::store(const std::string& id, Job& job) {
  if (job.state == State::finished && job.node.empty())
    job.starts = job.failures = job.crashes = job.version = job.copies = 0, job.due = Millis(0);
  count(job, 1);
  put_order(id, job);
  m_table.put(job_key(id), encode_job(job));
}

// Decides where a job stands that may be started as far as it alone is concerned.
void Fold::enter(const std::string& id, Job& job) {
  if (!may_run(job)) {
    job.state = State::held;
    return;
  }
  if (lacks_copies(job)) {
    job.state = State::pending;
    return;
  }
  job.state = job.due.count() ? State::delayed : State::queued;
  if (job.serial.empty()) return;
  m_table.put(serial_key(job), id);
  auto head = m_table.get(head_key(job.serial));
  auto other = head ? get(*head) : std::nullopt;
  // The first in the order goes first, unless another one runs. So nothing depends on what has been forgotten since.
  if (!other || *head == id ||
      (other->first_lsn > job.first_lsn && (other->state == State::queued || other->state == State::delayed)))
    become_head(id, job);
  else job.state = State::waiting;
}

// The one with its serial key that is not waiting; another one that has not been claimed waits then.
void Fold::become_head(const std::string& id, const Job& job) {
  if (job.serial.empty()) return;
  auto head = m_table.get(head_key(job.serial));
  if (head == id) return;
  m_table.put(head_key(job.serial), id);
  auto other = head ? get(*head) : std::nullopt;
  if (!other || (other->state != State::queued && other->state != State::delayed)) return;
  remove_order(*head, *other);
  count(*other, -1);
  other->state = State::waiting;
  store(*head, *other);
}

// After a job will not be started again: the next with its serial key may be.
void Fold::leave(const std::string& id, const Job& job) {
  if (job.serial.empty()) return;
  m_table.remove(serial_key(job));
  if (m_table.get(head_key(job.serial)) != id) return;
  std::string next;
  walk(serial_prefix(job.serial), [&](const std::string& first) {
    next = first;
    return false;
  });
  m_table.remove(head_key(job.serial));
  if (next.empty()) return;
  auto waiting = get(next);
  if (!waiting) throw TableError("a serial key names a job that is not there");
  if (waiting->state != State::waiting) return m_table.put(head_key(job.serial), next);
  count(*waiting, -1);
  enter(next, *waiting);
  store(next, *waiting);
}

// A claim is made under index.lock by one who has seen that nobody alive holds the job. So the last one counts.
void Fold::apply(const event::Claim& claim, const RecordHead&, Lsn) {
  for (const auto& id : claim.ids) {
    auto job = get(id);
    if (!job || (job->state != State::queued && job->state != State::delayed && job->state != State::claimed &&
                 job->state != State::running && job->state != State::waiting))
      continue;
    become_head(id, *job);
    remove_order(id, *job);
    count(*job, -1);
    if (job->state == State::running) ++job->crashes;
    job->state = State::claimed;
    job->owner = claim.owner;
    job->changed_at = claim.at;
    store(id, *job);
  }
}

void Fold::apply(const event::Add& add, const RecordHead& head, Lsn lsn) {
  const uint64_t size = add.workload_size(head.data_size), sum = add.workload_sum(head.data_sum);
  if (auto job = get(add.id)) {
    touch(add.id, lsn);
    bool only_its_end = job->first_lsn == 0;  // which another node told
    if (!only_its_end && (job->size != size || job->sum != sum || job->function != add.asked.function))
      return trouble(Trouble::Kind::conflict, lsn, lsn, add.id);
    if (job->state == State::finished) return;
    // The newer one may be another's copy, which came with the workload itself. What has its own keeps it.
    const bool lacks = job->source.empty() && !add.part.source.empty();
    if (!lacks && job->source != add.part.source) {
      remove_order(add.id, *job);
      count(*job, -1);
      job->source = add.part.source;
      job->offset = add.part.offset;
      count(*job, 1);
      put_order(add.id, *job);
    }
    if (!lacks) job->location = lsn;  // the newer copy; the older may be the one whose sync failed
    // Sent again, it may have been accepted by two nodes. All see the same of them as its owner.
    event::State accepted = state_of(add.id, *job);
    accepted.node = add.node;
    accepted.store = add.store;
    accepted.at = add.at;
    accepted.term = accepted.version = 0;
    if (!job->once || job->state == State::kept || add.node.empty() || add.store == job->store || !is_newer(accepted, *job)) {
      m_table.put(job_key(add.id), encode_job(*job));
      return;
    }
    const Job before = *job;
    remove_order(add.id, *job);
    count(*job, -1);
    job->node = add.node;
    job->store = add.store;
    job->changed_at = add.at;
    job->copies = add.copies;
    job->peers.clear();
    if (job->owner.empty()) {
      leave(add.id, before);
      enter(add.id, *job);
    }
    store(add.id, *job);
    return;
  }
  // Also of the node that this one was before it was restored or set up anew: the answer has been given.
  const bool own = add.node.empty() || add.node == m_self.node;
  bool taken = false;
  if (!add.asked.key.empty()) {
    auto holder = keyed(add.asked.function, add.asked.key, add.at);
    taken = holder.has_value();
    if (taken) touch(*holder, lsn);
    if (taken && own) return;  // it is that job again; what another node has accepted is a job of its own
    std::string value = add.id;
    put_le<uint64_t>(value, 0);
    if (!taken) m_table.put(key_key(add.asked.function, add.asked.key), value);
  }
  Job job;
  static_cast<Submission&>(job) = add.asked;
  if (taken) job.key.clear();
  job.node = add.node;
  job.store = add.store;
  job.copies = add.copies;
  job.once = add.once;
  job.first_lsn = job.location = lsn;
  job.size = size;
  job.sum = sum;
  job.source = add.part.source;
  job.offset = add.part.offset;
  job.enqueued_at = job.changed_at = add.at;
  enter(add.id, job);
  store(add.id, job);
  m_last_job = std::max(m_last_job, job_key(add.id));
}

// Whether the job was accepted here and is not yet on as many nodes as it must be.
bool Fold::lacks_copies(const Job& job) const {
  if (job.node.empty() || !is_own(job) || job.copies < 2) return false;
  size_t nodes = job.peers.empty() ? 1 : 2 + static_cast<size_t>(std::count(job.peers.begin(), job.peers.end(), ','));
  return nodes < job.copies;
}

void Fold::apply(const event::Copied& copied, const RecordHead&, Lsn) {
  for (const auto& id : copied.ids) {
    auto job = get(id);
    if (!job || job->state != State::pending) continue;
    remove_order(id, *job);
    count(*job, -1);
    for (const auto& peer : split(copied.peers, ',')) {
      auto known = split(job->peers, ',');
      if (peer.empty() || std::find(known.begin(), known.end(), peer) != known.end()) continue;
      job->peers += (job->peers.empty() ? "" : ",") + peer;
    }
    if (copied.enough) job->copies = 0;
    enter(id, *job);
    if (job->state != State::pending)
      job->peers.clear(), job->copies = 0;  // or they would be counted again when it is its turn, or is kicked
    store(id, *job);
  }
}

// What another node, or this one for another that is gone, says of a job.
void Fold::apply(const event::State& state, const RecordHead&, Lsn lsn) {
  auto job = get(state.id);
  if (!job) {
    if (state.state != "finished") return;  // without an add it is nothing that could be run
    job.emplace();
    job->function = state.function;
    job->node = state.node;
    job->store = state.store;
    job->enqueued_at = state.at;
    m_last_job = std::max(m_last_job, job_key(state.id));
  } else {
    if (!is_newer(state, *job)) return;
    remove_order(state.id, *job);
    count(*job, -1);
  }
  const Job before = *job;
  job->node = state.node;
  job->store = state.store;
  job->term = state.term;
  job->version = state.version;
  job->starts = state.starts;
  job->failures = state.failures;
  job->crashes = state.crashes;
  job->due = state.due;
  job->why = state.why;
  job->exit = state.exit;
  job->signal = state.signal;
  // Nodes of before do not tell these.
  job->dropped = state.state == "finished" && (state.dropped || state.why == "dropped");
  job->tries = state.state != "finished" && state.state != "kept" ? 0
               : state.attempts || job->dropped                   ? state.attempts
                                                                  : state.failures + 1;
  job->changed_at = state.at;
  job->peers.clear();
  job->copies = 0;  // it has travelled
  job->keep = state.keep;
  // While its command runs here it stays claimed, whoever else owns it by now.
  if (state.state != "queued" || job->owner.empty()) {
    job->owner.clear();
    job->state = state.state == "dead" ? State::dead : state.state == "kept" ? State::kept : State::finished;
    if (before.state != State::kept) leave(state.id, before);
    if (state.state == "queued") enter(state.id, *job);
  }
  if (job->state == State::finished) job->location = lsn;
  store(state.id, *job);
  bool ended = job->state == State::finished || job->state == State::kept;
  if (ended && before.state != State::kept) set_key(state.id, *job, job->dropped, state.at);
}

// Jobs that have long been finished. When records of theirs are gone already, others may stand here that made a job of
// the ID.
void Fold::apply(const event::Forget& forget, const RecordHead&, Lsn lsn) {
  for (const auto& id : forget.ids) {
    auto job = get(id);
    auto touched_at = touched(id);
    if (touched_at && *touched_at >= forget.position) continue;  // that came in between
    std::string noted;
    put_le<uint64_t>(noted, lsn);
    put_le<uint64_t>(noted, job && !touched_at ? job->first_lsn : no_lsn);
    m_table.put("f" + id, noted);
    if (!job) continue;
    remove_order(id, *job);
    count(*job, -1);
    if (job->state != State::dead && job->state != State::kept && job->state != State::finished) leave(id, *job);
    m_table.remove(job_key(id));
    m_table.remove("t" + id);
    if (!job->key.empty() && key_holder(job->function, job->key) == id)
      m_table.remove(key_key(job->function, job->key));
  }
  remove_troubles([&](const Trouble& t) {
    return t.kind == Trouble::Kind::conflict &&
           std::find(forget.ids.begin(), forget.ids.end(), t.id) != forget.ids.end();
  });
}

void Fold::apply(const Gap& gap, const RecordHead&, Lsn) {
  remove_troubles([&](const Trouble& t) {
    return t.kind != Trouble::Kind::conflict && t.lsn >= gap.since && t.lsn < gap.position;
  });
}

void Fold::remove_troubles(const std::function<bool(const Trouble&)>& is_gone) {
  for (const auto& t : troubles())
    if (is_gone(t)) m_table.remove(trouble_key(t.lsn));
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

bool Fold::is_help(std::string_view key, std::string_view value, Millis now) {
  if (key[0] == 'g' || key[0] == 't' || key[0] == 'f') return true;
  if (key[0] == 'e') return !value.empty() && static_cast<Trouble::Kind>(value[0]) == Trouble::Kind::conflict;
  // A key that stands for nothing any more.
  uint64_t until = key[0] == 'k' && value.size() == ulid_size + 8 ? get_le<uint64_t>(value, ulid_size) : 0;
  return until != 0 && until <= static_cast<uint64_t>(now.count());
}

bool Fold::may_forget(const std::string& id, const Job& job, Millis now, const std::function<bool(Lsn)>& is_clean) {
  if (job.state != State::finished || is_referenced(id) || !end_is_known(job)) return false;
  if (!job.key.empty() && keyed(job.function, job.key, now) == id) return false;
  auto at = touched(id);
  return !at || is_clean(*at);
}

bool Fold::end_is_known(const Job& job) {
  if (job.node.empty()) return true;
  for (const auto& [node, peer] : peers())
    if (peer.position <= std::max(job.first_lsn, job.location)) return false;
  return true;
}

void Fold::apply(const event::Peer& said, const RecordHead&, Lsn) {
  PeerState peer = this->peer(said.node);
  if (!peer.store.empty() && peer.store != said.store) peer.former.push_back(peer.store);
  if (peer.former.size() > most_former) peer.former.erase(peer.former.begin());
  std::string value;
  put_le<uint64_t>(value, said.position);
  put_le<uint64_t>(value, said.since);
  for (const auto& store : peer.former) value += store;
  m_table.put("r" + said.node, value + (said.store.empty() ? std::string(ulid_size, '-') : said.store));
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

// When a job with a key has ended, the key stands for it a while longer.
void Fold::set_key(const std::string& id, const Job& job, bool dropped, Millis at) {
  if (job.key.empty()) return;
  std::string key = key_key(job.function, job.key), value = id;
  put_le<uint64_t>(value, static_cast<uint64_t>((at + job.window).count()));
  auto now = m_table.get(key);
  if (!now || now->substr(0, ulid_size) != id) return;  // it stands for another one
  if (dropped) m_table.remove(key);
  else m_table.put(key, value);
}

void Fold::apply(const event::Pause& pause, const RecordHead&, Lsn) {
  std::string value;
  put_le<uint64_t>(value, static_cast<uint64_t>(pause.at.count()));
  counter(pause.function);
  m_table.put("p" + pause.function, value);
}

void Fold::apply(const event::Resume& resume, const RecordHead&, Lsn) {
  counter(resume.function);
  m_table.remove("p" + resume.function);
}

namespace {

// start, fail and dead count only for the one who holds the job, and only for this start of it. done always counts, and
// what a person says.
bool holds(const Job& job, const auto& event) {
  return job.owner == event.owner && job.starts == event.start &&
         (job.state == State::running || job.state == State::claimed);
}

// Only what stands in this record: those between the first and this one are not kept for long.
void end(Job& job, State state, uint32_t tries, uint32_t exit, uint32_t signal) {
  job.state = state;
  job.owner.clear();
  job.tries = tries;
  job.exit = exit;
  job.signal = signal;
}

}  // namespace

void Fold::change(Job& job, const event::Start& start) {
  // Only the next start: an older one may stand here again, appended anew after its first sync had failed.
  if (job.state != State::claimed || start.start != job.starts + 1 ||
      owner_process(job.owner) != owner_process(start.owner))
    return;
  job.state = State::running;
  job.owner = start.owner;
  job.starts = start.start;
}

void Fold::change(Job& job, const event::Fail& fail) {
  if (!holds(job, fail)) return;
  job.state = !may_run(job) ? State::held : fail.due.count() ? State::delayed : State::queued;
  if (fail.spent) ++job.failures;
  job.due = fail.due;
  job.owner.clear();
  if (!fail.spent && fail.why.empty()) return;  // given back: what there is to say is as before
  job.why = fail.why;
  job.exit = fail.exit;
  job.signal = fail.signal;
}

void Fold::change(Job& job, const event::Dead& dead) {
  if (!holds(job, dead)) return;
  // No attempt has ended: the workload is damaged, or its worker died once more.
  if (dead.spent) ++job.failures;
  else if (job.state == State::running) ++job.crashes;
  job.state = State::dead;
  job.why = dead.why;
  job.exit = dead.exit;
  job.signal = dead.signal;
  job.owner.clear();
}

void Fold::change(Job& job, const event::Done& done) {
  if (job.state == State::kept) return;
  if (done.keep) job.keep = 1;
  job.dropped = 0;
  job.why.clear();
  end(job, job.keep ? State::kept : State::finished, done.attempts ? done.attempts : 1, done.exit, done.signal);
}

void Fold::change(Job& job, const event::Drop& drop) {
  job.dropped = 1;
  job.why = "dropped";
  end(job, State::finished, drop.attempts, no_exit, 0);
}

void Fold::change(Job& job, const event::Keep&) { job.keep = 1; }

void Fold::change(Job& job, const event::Release&) {
  job.keep = 0;
  if (job.state == State::kept) job.state = State::finished;
}

void Fold::change(Job& job, const event::Kick& kick) {
  if (job.state == State::dead) {
    job.failures = job.crashes = job.signal = 0;
    job.exit = no_exit;
    job.why.clear();
    job.due = Millis(0);
    enter(kick.id, job);
  } else if (job.state == State::delayed) {
    job.state = State::queued;
    job.due = Millis(0);
  } else if (job.state == State::waiting) {
    job.due = Millis(0);
  }
}

template <typename E>
void Fold::apply(const E& event, const RecordHead&, Lsn lsn) {
  constexpr bool is_drop = std::is_same_v<E, event::Drop>;
  auto job = get(event.id);
  // Of one that has ended, a person may say that its key is free.
  if (job && job->state == State::finished && is_drop) return set_key(event.id, *job, true, event.at);
  if (!job || job->state == State::finished) return;
  const bool was_live = job->state != State::dead && job->state != State::kept;
  remove_order(event.id, *job);
  count(*job, -1);
  const State before = job->state;
  const uint32_t keep_before = job->keep;
  const Millis due_before = job->due;
  change(*job, event);
  // What another node owns changes here only by its end, and by what a person says of a dead one.
  const bool changed = job->state != before || job->keep != keep_before || job->due != due_before;
  const bool ended = job->state == State::finished || job->state == State::kept;
  if (changed && (may_run(*job) || ended || before == State::dead || before == State::kept)) ++job->version;
  if (changed) job->changed_at = event.at;
  if (job->state == State::finished) job->location = lsn;
  store(event.id, *job);
  if (ended && before != State::kept) set_key(event.id, *job, is_drop, event.at);
  bool left = job->state == State::dead || ended || (job->state == State::held && before != State::held);
  if (was_live && left) leave(event.id, *job);
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

std::vector<Trouble> Fold::troubles() {
  std::vector<Trouble> all;
  for (auto c = m_table.walk("e"); c->valid() && c->key()[0] == 'e'; c->next()) {
    if (c->key().size() != 9 || c->value().size() < 9) throw TableError("bad trouble");
    all.push_back({static_cast<Trouble::Kind>(c->value()[0]), get_be64(c->key(), 1), get_le<uint64_t>(c->value(), 1),
                   std::string(c->value().substr(9))});
  }
  return all;
}

void Fold::walk(const std::string& prefix, const Visit& visit) {
  for (auto c = m_table.walk(prefix); c->valid() && starts_with(c->key(), prefix); c->next())
    if (!visit(std::string(c->value()))) return;
}

void Fold::queued(const std::string& function, const Visit& visit) { walk(function_prefix('q', function), visit); }

void Fold::dead(const std::string& function, const Visit& visit) { walk(function_prefix('x', function), visit); }

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

uint64_t Fold::due_first(const std::string& function, Millis now, uint64_t most) {
  uint64_t n = 0;
  if (counter(function).first > 0 && most > 0)
    delayed(function, now, [&](const std::string& id) {
      auto job = get(id);
      if (!job) throw TableError("an order names a job that is not there");
      return (n += waits_for_first(*job)) < most;
    });
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

std::vector<std::string> Fold::oldest() {
  std::vector<std::string> ids;
  // Of the jobs of one function and state (and priority; of one node) the first is the oldest. Waiting ones are younger
  // than that for which they wait.
  for (char order : {'q', 'n', 'o'}) {
    auto c = m_table.walk(std::string(1, order));
    while (c->valid() && c->key()[0] == order) {
      if (c->key().size() < 10) throw TableError("an order's key is too short");
      ids.emplace_back(c->value());
      c->seek(std::string(c->key().substr(0, c->key().size() - 8)) + std::string(9, '\xff'));
    }
  }
  for (auto c = m_table.walk("d"); c->valid() && c->key()[0] == 'd'; c->next()) ids.emplace_back(c->value());
  for (auto c = m_table.walk("c"); c->valid() && c->key()[0] == 'c'; c->next()) {
    if (c->key().size() <= ulid_size) throw TableError("an owner's key is too short");
    ids.emplace_back(c->key().substr(c->key().size() - ulid_size));
  }
  return ids;
}

std::vector<std::string> Fold::owners() {
  std::vector<std::string> all;
  auto c = m_table.walk("c");
  while (c->valid() && c->key()[0] == 'c') {
    std::string owner(c->key().substr(1, c->key().find('\0') - 1));
    all.push_back(owner);
    c->seek("c" + owner + '\1');  // behind all of this owner's jobs
  }
  return all;
}

std::vector<std::string> Fold::functions() {
  std::vector<std::string> all;
  for (auto c = m_table.walk("s"); c->valid() && c->key()[0] == 's'; c->next()) all.emplace_back(c->key().substr(1));
  for (const auto& [function, c] : m_counters)
    if (all.empty() || std::find(all.begin(), all.end(), function) == all.end()) all.push_back(function);
  return all;
}

}  // namespace gq::old
