#include "fold.hpp"

#include <algorithm>

#include "bytes.hpp"
#include "error.hpp"
#include "owners.hpp"
#include "ulid.hpp"

namespace gq {
namespace {

constexpr const char* position_key = "m";
constexpr uint8_t index_version = 2;

std::string job_key(const std::string& id) { return "j" + id; }

std::string function_prefix(char order, const std::string& function) {
  return order + function + std::string(1, '\0');
}

std::string owner_prefix(const std::string& owner) { return "c" + owner + std::string(1, '\0'); }

// The key under which a job stands in the order of its state; finished jobs stand in none.
std::string order_key(const std::string& id, const Job& job) {
  std::string key;
  switch (job.state) {
    case State::queued:
      key = function_prefix('q', job.function);
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
    case State::finished:
      break;
  }
  return key;
}

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
  for (State s : {State::queued, State::delayed, State::claimed, State::running}) n += jobs[static_cast<size_t>(s)];
  return n;
}

const char* trouble_name(Trouble::Kind kind) {
  static constexpr const char* names[] = {"damage", "torn", "missing", "conflict"};
  return names[static_cast<size_t>(kind)];
}

Fold::Fold(Table& table) : m_table(table) {
  auto value = table.get(position_key);
  if (!value) return;
  if (value->size() < 25 || static_cast<uint8_t>((*value)[0]) != index_version) throw TableError("another version");
  m_position = {get_le<uint64_t>(*value, 1), get_le<uint64_t>(*value, 9), get_le<uint64_t>(*value, 17)};
  m_last_job = value->substr(25);
}

bool Fold::run(JournalReader& reader, size_t most) {
  for (size_t n = 0; n < most; ++n) {
    auto item = reader.next();
    switch (item) {
      case JournalReader::Item::end:
        return true;
      case JournalReader::Item::record:
        apply(reader.head(), reader.lsn());
        m_position.last = reader.lsn();
        m_position.last_sum = reader.head().head_sum;
        break;
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

void Fold::commit() {
  if (m_changed) {
    for (const auto& [function, c] : m_counters) {
      std::string value;
      for (uint64_t n : c.jobs) put_le<uint64_t>(value, n);
      put_le<uint64_t>(value, c.bytes);
      m_table.put("s" + function, value);
    }
    std::string value(1, static_cast<char>(index_version));
    put_le<uint64_t>(value, m_position.end);
    put_le<uint64_t>(value, m_position.last);
    put_le<uint64_t>(value, m_position.last_sum);
    m_table.put(position_key, value + m_last_job);
    m_changed = false;
  }
  m_table.commit();
}

Counters& Fold::counter(const std::string& function) {
  auto it = m_counters.find(function);
  if (it == m_counters.end()) {
    auto value = m_table.get("s" + function);
    it = m_counters.emplace(function, value ? decode_counters(*value) : Counters{}).first;
  }
  return it->second;
}

void Fold::put_order(const std::string& id, const Job& job) {
  if (job.state == State::finished) return;
  bool by_owner = job.state == State::claimed || job.state == State::running;
  m_table.put(order_key(id, job), by_owner ? std::string_view() : std::string_view(id));
}

void Fold::remove_order(const std::string& id, const Job& job) {
  if (job.state != State::finished) m_table.remove(order_key(id, job));
}

void Fold::trouble(Trouble::Kind kind, Lsn lsn, Lsn end, const std::string& id) {
  std::string key = "e", value;
  put_be64(key, lsn);
  value += static_cast<char>(kind);
  put_le<uint64_t>(value, end);
  m_table.put(key, value + id);
}

void Fold::apply(const RecordHead& head, Lsn lsn) {
  const Meta& meta = head.meta;
  if (meta.type == RecordType::claim) {
    // A claim is made under index.lock by one who has seen that nobody alive holds the job. So the last one counts.
    for (const auto& id : meta.ids) {
      auto job = get(id);
      if (!job || job->state == State::dead || job->state == State::finished) continue;
      remove_order(id, *job);
      if (job->state == State::running) ++job->crashes;
      Counters& c = counter(job->function);
      --c.jobs[static_cast<size_t>(job->state)];
      ++c.jobs[static_cast<size_t>(State::claimed)];
      job->state = State::claimed;
      job->owner = meta.owner;
      job->changed_at = meta.at;
      put_order(id, *job);
      m_table.put(job_key(id), encode_job(*job));
    }
    return;
  }
  auto job = get(meta.id);
  if (meta.type == RecordType::add) {
    if (!job) {
      job.emplace();
      job->function = meta.function;
      job->first_lsn = job->location = lsn;
      job->size = head.data_size;
      job->sum = head.data_sum;
      job->enqueued_at = job->changed_at = meta.at;
      Counters& c = counter(job->function);
      ++c.jobs[static_cast<size_t>(State::queued)];
      c.bytes += job->size;
      put_order(meta.id, *job);
      m_last_job = std::max(m_last_job, job_key(meta.id));
    } else if (job->size != head.data_size || job->sum != head.data_sum || job->function != meta.function) {
      trouble(Trouble::Kind::conflict, lsn, lsn, meta.id);
      return;
    } else if (job->state == State::finished) {
      return;
    } else {
      job->location = lsn;  // the newer copy; the older may be the one whose sync failed
    }
    m_table.put(job_key(meta.id), encode_job(*job));
    return;
  }
  if (!job || job->state == State::finished) return;
  // start, fail and dead count only for the one who holds the job, and only for this start of it. done always counts.
  State next = job->state;
  remove_order(meta.id, *job);
  Counters& c = counter(job->function);
  --c.jobs[static_cast<size_t>(job->state)];
  bool holds = job->owner == meta.owner && job->starts == meta.start &&
               (job->state == State::running || job->state == State::claimed);
  switch (meta.type) {
    case RecordType::start:
      // Only the next start: an older one may stand here again, appended anew after its first sync had failed.
      if (job->state == State::claimed && meta.start == job->starts + 1 &&
          owner_process(job->owner) == owner_process(meta.owner)) {
        next = State::running;
        job->owner = meta.owner;
        job->starts = meta.start;
      }
      break;
    case RecordType::fail:
      if (holds) {
        next = meta.due.count() ? State::delayed : State::queued;
        if (meta.spent) ++job->failures;
        job->due = meta.due;
        job->why = meta.why;
        job->owner.clear();
      }
      break;
    case RecordType::dead:
      if (holds) {
        next = State::dead;
        ++job->failures;
        job->why = meta.why;
        job->owner.clear();
      }
      break;
    case RecordType::done:
      next = State::finished;
      c.bytes -= job->size;
      job->owner.clear();
      job->why.clear();
      break;
    default:
      break;
  }
  if (next != job->state) job->changed_at = meta.at;
  job->state = next;
  ++c.jobs[static_cast<size_t>(next)];
  put_order(meta.id, *job);
  m_table.put(job_key(meta.id), encode_job(*job));
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
  for (Table::Cursor c(m_table, "e"); c.valid() && c.key()[0] == 'e'; c.next()) {
    if (c.key().size() != 9 || c.value().size() < 9) throw TableError("bad trouble");
    all.push_back({static_cast<Trouble::Kind>(c.value()[0]), get_be64(c.key(), 1), get_le<uint64_t>(c.value(), 1),
                   std::string(c.value().substr(9))});
  }
  return all;
}

void Fold::walk(const std::string& prefix, const Visit& visit) {
  for (Table::Cursor c(m_table, prefix); c.valid() && starts_with(c.key(), prefix); c.next())
    if (!visit(std::string(c.value()))) return;
}

void Fold::queued(const std::string& function, const Visit& visit) { walk(function_prefix('q', function), visit); }

void Fold::dead(const std::string& function, const Visit& visit) { walk(function_prefix('x', function), visit); }

std::optional<Millis> Fold::delayed(const std::string& function, Millis until, const Visit& visit) {
  std::string prefix = function_prefix('d', function);
  for (Table::Cursor c(m_table, prefix); c.valid() && starts_with(c.key(), prefix); c.next()) {
    if (c.key().size() != prefix.size() + 16) throw TableError("bad due time");
    Millis due(static_cast<int64_t>(get_be64(c.key(), prefix.size())));
    if (due > until) return due;
    if (!visit(std::string(c.value()))) break;
  }
  return std::nullopt;
}

void Fold::claimed(const std::string& owner, const Visit& visit) {
  std::string prefix = owner_prefix(owner);
  for (Table::Cursor c(m_table, prefix); c.valid() && starts_with(c.key(), prefix); c.next())
    if (!visit(std::string(c.key().substr(prefix.size())))) return;
}

bool Fold::page(char order, const std::string& function, size_t most, std::string& cursor,
                std::vector<std::string>& ids) {
  std::string prefix = order == 'c' || function.empty() ? std::string(1, order) : function_prefix(order, function);
  Table::Cursor c(m_table, cursor.empty() ? prefix : cursor);
  if (!cursor.empty() && c.valid() && c.key() == cursor) c.next();
  for (; c.valid() && starts_with(c.key(), prefix); c.next()) {
    if (most-- == 0) return false;
    if (order == 'c' && c.key().size() <= ulid_size) throw TableError("an owner's key is too short");
    cursor = c.key();
    ids.emplace_back(order == 'c' ? c.key().substr(c.key().size() - ulid_size) : c.value());
  }
  return true;
}

std::vector<std::string> Fold::owners() {
  std::vector<std::string> all;
  Table::Cursor c(m_table, "c");
  while (c.valid() && c.key()[0] == 'c') {
    std::string owner(c.key().substr(1, c.key().find('\0') - 1));
    all.push_back(owner);
    c.seek("c" + owner + '\1');  // behind all of this owner's jobs
  }
  return all;
}

std::vector<std::string> Fold::functions() {
  std::vector<std::string> all;
  for (Table::Cursor c(m_table, "s"); c.valid() && c.key()[0] == 's'; c.next())
    all.emplace_back(c.key().substr(1));
  for (const auto& [function, c] : m_counters)
    if (all.empty() || std::find(all.begin(), all.end(), function) == all.end()) all.push_back(function);
  return all;
}

}  // namespace gq
