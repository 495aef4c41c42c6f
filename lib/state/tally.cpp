#include "gq/state/tally.hpp"

#include <algorithm>

#include "gq/base/bytes.hpp"
#include "gq/base/text.hpp"

namespace gq {
namespace {

// The keys, see fold.hpp.
const std::string head_key = "M", minutes_prefix("M\0", 2), functions_prefix = "M\1";
constexpr size_t most_in_record = 20'000;  // bytes of values, so that they fit into a record's meta data
constexpr int64_t minute_length = 60'000;

std::string minute_key(uint64_t number) {
  std::string key = minutes_prefix;
  put_be64(key, number);
  return key;
}

bool starts_with(std::string_view text, std::string_view prefix) { return text.substr(0, prefix.size()) == prefix; }

template <typename T>
void put_values(std::string& out, const T& tally) {
  for (const uint64_t value : tally.values) put_le<uint64_t>(out, value);
}

template <typename T>
T get_values(std::string_view in, size_t at) {
  T tally;
  for (uint64_t& value : tally.values) value = get_le<uint64_t>(in, at), at += 8;
  return tally;
}

// An entry is: taken, mark, the present values; and the values at the mark, if there are some.
template <typename Entry>
std::string encode(const Entry& entry) {
  std::string out;
  put_le<uint64_t>(out, entry.taken);
  put_le<uint64_t>(out, entry.mark);
  put_values(out, entry.now);
  if (entry.mark) put_values(out, entry.base);
  return out;
}

template <typename Entry>
Entry decode(std::string_view in) {
  using T = decltype(Entry::now);
  constexpr size_t size = 8 * T::size;
  Entry entry;
  if (in.size() < 16) throw TableError("a bad tally");
  entry.taken = get_le<uint64_t>(in, 0);
  entry.mark = get_le<uint64_t>(in, 8);
  if (in.size() != 16 + (entry.mark ? 2 : 1) * size) throw TableError("a bad tally");
  entry.now = get_values<T>(in, 16);
  if (entry.mark) entry.base = get_values<T>(in, 16 + size);
  return entry;
}

// The text of values in a record: a name, and numbers without zeros at the end, each after a space.
template <typename T>
std::string to_text(const std::string& name, const T& tally) {
  size_t n = tally.values.size();
  while (n > 0 && tally.values[n - 1] == 0) --n;
  std::string text = name;
  for (size_t i = 0; i < n; ++i) text += " " + std::to_string(tally.values[i]);
  return text;
}

// Values beyond those that this program knows are left out.
template <typename T>
std::optional<std::pair<std::string, T>> from_text(const std::string& text) {
  const auto words = split(text, ' ');
  T tally;
  for (size_t i = 1; i < words.size(); ++i) {
    const auto value = parse_count(words[i]);
    if (!value) return std::nullopt;
    if (i <= tally.values.size()) tally.values[i - 1] = *value;
  }
  return std::pair(words.empty() ? std::string() : words[0], tally);
}

std::optional<uint64_t> minute_of(Millis at) {
  if (at.count() < 0) return std::nullopt;
  return static_cast<uint64_t>(at.count() / minute_length);
}

std::optional<Ending> ending_of(const std::optional<Job>& before, const Job& after, const Event& event) {
  if (has_ended(after)) {
    if (before && has_ended(*before)) return std::nullopt;
    return after.dropped ? Ending::dropped : Ending::done;
  }
  if (after.state != State::dead || !before || before->state == State::dead) return std::nullopt;
  if (is_any_of<event::Cancel>(event) || before->cancelled) return Ending::cancelled;
  const auto* dead = std::get_if<event::Dead>(&event);
  return dead && dead->owner == event::nobody && !after.spooled ? Ending::expired : Ending::dead;
}

}  // namespace

size_t bucket_of(Millis value) {
  return static_cast<size_t>(std::lower_bound(bucket_bounds.begin(), bucket_bounds.end(), value.count()) -
                             bucket_bounds.begin());
}

const char* ending_name(Ending ending) {
  static constexpr const char* names[] = {"done", "dead", "expired", "cancelled", "dropped"};
  return names[static_cast<size_t>(ending)];
}

bool is_valid(const event::Counts& counts) {
  return std::all_of(counts.functions.begin(), counts.functions.end(),
                     [](const std::string& text) { return from_text<FunctionTally>(text).has_value(); }) &&
         std::all_of(counts.minutes.begin(), counts.minutes.end(), [](const std::string& text) {
           const auto minute = from_text<MinuteTally>(text);
           return minute && parse_count(minute->first);
         });
}

// Returns a value that is about to change. At the first change after a mark, keeps the values of before.
template <typename T>
uint64_t& Tally::Entry<T>::change(size_t value, Lsn present_mark) {
  if (mark != present_mark) mark = present_mark, base = now;
  return now.values[value];
}

void Tally::count(const std::optional<Job>& before, const std::optional<Job>& after, const Event& event, Lsn lsn) {
  // Another node says how it has ended a job: that node counts this.
  if (!after || is_any_of<event::State>(event)) return;
  const bool is_added = !before && after->state != State::held && is_any_of<event::Add>(event);
  const auto ending = ending_of(before, *after, event);
  const bool has_failed = before && after->failures > before->failures;
  const bool has_run = before && before->state == State::running && after->state != State::running &&
                       is_any_of<event::Done, event::Fail, event::Dead>(event);
  const auto* start = std::get_if<event::Start>(&event);
  const bool is_first =
      start && start->start == 1 && before && before->state == State::claimed && after->state == State::running;
  if (!is_added && !ending && !has_failed && !has_run && !is_first) return;
  const Lsn mark = head().mark;
  head().counted = lsn + 1;
  m_changed = true;
  const Millis at = at_of(event);
  auto& f = function(after->function);
  const auto number = minute_of(at);
  auto* m = number ? &minute(*number) : nullptr;
  const auto add = [&](size_t of_function, std::optional<size_t> of_minute = {}, uint64_t n = 1) {
    f.change(of_function, mark) += n;
    if (m && of_minute) m->change(*of_minute, mark) += n;
  };
  if (is_added) add(FunctionTally::queued, MinuteTally::queued);
  if (has_failed) add(FunctionTally::failed, MinuteTally::failed);
  if (ending)
    add(FunctionTally::ends + static_cast<size_t>(*ending),
        *ending == Ending::done ? std::optional(MinuteTally::done) : std::nullopt);
  if (has_run) {
    const Millis ran = std::max(Millis(0), at - before->changed_at);
    add(FunctionTally::runs + bucket_of(ran));
    add(FunctionTally::ran, {}, static_cast<uint64_t>(ran.count()));
  }
  if (!is_first) return;
  const Millis waited = std::max(Millis(0), at - std::max(before->enqueued_at, before->due));
  const uint64_t ms = static_cast<uint64_t>(waited.count());
  add(FunctionTally::waits + bucket_of(waited));
  add(FunctionTally::waited, {}, ms);
  if (m && ms > m->now.values[MinuteTally::longest_wait]) m->change(MinuteTally::longest_wait, mark) = ms;
}

// Takes over a value, and adds what was counted since the mark.
template <typename T>
void Tally::take(Entry<T>& entry, const T& said, Lsn mark) {
  if (entry.taken >= mark) return;
  T sum = said;
  if (entry.mark == mark)
    for (size_t i = 0; i < T::size; ++i) sum.values[i] += entry.now.values[i] - entry.base.values[i];
  entry = {.taken = mark, .now = sum};
}

void Tally::take(const event::Counts& counts, Lsn lsn) {
  Head& all = head();
  m_changed = true;
  if (counts.mark == 0) {
    all.mark = lsn;
    return;
  }
  if (counts.mark <= all.taken) return;  // appended again after a failed sync
  for (const auto& text : counts.functions) {
    const auto said = from_text<FunctionTally>(text);
    take(function(said->first, true), said->second, counts.mark);
  }
  for (const auto& text : counts.minutes) {
    const auto said = from_text<MinuteTally>(text);
    auto& entry = minute(*parse_count(said->first));
    if (entry.taken >= counts.mark) continue;
    // The longest wait is no sum.
    const uint64_t longest = std::max(said->second.values[MinuteTally::longest_wait],
                                      entry.mark == counts.mark ? entry.now.values[MinuteTally::longest_wait] : 0);
    take(entry, said->second, counts.mark);
    entry.now.values[MinuteTally::longest_wait] = longest;
  }
  if (!counts.last) return;
  leave_older(counts.mark);
  all.taken = counts.mark;
  if (all.mark <= counts.mark) all.mark = 0;
}

bool Tally::needs(const event::Counts& counts, Lsn lsn) { return (counts.mark ? counts.mark : lsn) >= head().taken; }

std::vector<std::string> Tally::mark_record(Millis now) {
  if (head().counted <= head().taken) return {};
  return {encode_record(event::Counts{.at = now})};
}

std::vector<std::string> Tally::value_records(Millis now) {
  const Lsn mark = head().mark;
  std::vector<std::string> records;
  if (mark == 0) return records;
  commit();
  event::Counts counts{.at = now, .mark = mark};
  size_t bytes = 0;
  const auto add = [&](std::vector<std::string>& texts, std::string text) {
    if (bytes + text.size() > most_in_record) {
      records.push_back(encode_record(counts));
      counts.functions.clear(), counts.minutes.clear();
      bytes = 0;
    }
    bytes += text.size() + 3;
    texts.push_back(std::move(text));
  };
  for (auto c = m_table.walk(functions_prefix); c->valid() && starts_with(c->key(), functions_prefix); c->next()) {
    const auto entry = decode<Entry<FunctionTally>>(c->value());
    add(counts.functions, to_text(std::string(c->key().substr(2)), entry.mark == mark ? entry.base : entry.now));
  }
  for (auto c = m_table.walk(minutes_prefix); c->valid() && starts_with(c->key(), minutes_prefix); c->next()) {
    const auto entry = decode<Entry<MinuteTally>>(c->value());
    add(counts.minutes, to_text(std::to_string(get_be64(c->key(), 2)), entry.mark == mark ? entry.base : entry.now));
  }
  counts.last = true;
  records.push_back(encode_record(counts));
  return records;
}

Tally::Head& Tally::head() {
  if (m_head) return *m_head;
  m_head = Head();
  const auto value = m_table.get(head_key);
  if (!value) return *m_head;
  if (value->size() != 40) throw TableError("a bad tally");
  m_head->mark = get_le<uint64_t>(*value, 0), m_head->taken = get_le<uint64_t>(*value, 8);
  m_head->counted = get_le<uint64_t>(*value, 16);
  m_head->functions = get_le<uint64_t>(*value, 24), m_head->minutes = get_le<uint64_t>(*value, 32);
  return *m_head;
}

Tally::Entry<FunctionTally>& Tally::function(const std::string& name, bool always) {
  if (const auto known = m_functions.find(name); known != m_functions.end()) return known->second;
  const auto value = m_table.get(functions_prefix + name);
  if (value) return m_functions.emplace(name, decode<Entry<FunctionTally>>(*value)).first->second;
  if (head().functions >= most_tallied && name != other_functions && !always) return function(other_functions);
  ++head().functions;
  return m_functions[name];
}

Tally::Entry<MinuteTally>& Tally::minute(uint64_t number) {
  if (const auto known = m_minutes.find(number); known != m_minutes.end()) return known->second;
  const auto value = m_table.get(minute_key(number));
  if (value) return m_minutes.emplace(number, decode<Entry<MinuteTally>>(*value)).first->second;
  ++head().minutes;
  return m_minutes[number];
}

// Removes the entries that are not among the values of a mark, and were not counted since.
void Tally::leave_older(Lsn mark) {
  commit();
  Head& all = head();
  std::vector<std::string> old;
  const auto is_old = [&](const auto& entry) { return entry.taken < mark && entry.mark < mark; };
  for (auto c = m_table.walk(minutes_prefix); c->valid() && starts_with(c->key(), minutes_prefix); c->next())
    if (is_old(decode<Entry<MinuteTally>>(c->value()))) old.emplace_back(c->key());
  const size_t old_minutes = old.size();
  all.minutes -= old_minutes;
  for (auto c = m_table.walk(functions_prefix); c->valid() && starts_with(c->key(), functions_prefix); c->next())
    if (is_old(decode<Entry<FunctionTally>>(c->value()))) old.emplace_back(c->key());
  all.functions -= old.size() - old_minutes;
  for (const auto& key : old) m_table.remove(key);
}

// The decision does not depend on when it is made: of all minutes that ever had an entry, the latest stay.
void Tally::leave_latest_minutes() {
  while (head().minutes > most_minutes) {
    auto c = m_table.walk(minutes_prefix);
    if (!c->valid() || !starts_with(c->key(), minutes_prefix)) throw TableError("a bad tally");
    const std::string first(c->key());
    c.reset();
    m_table.remove(first);
    --head().minutes;
  }
}

void Tally::commit() {
  if (!m_changed) return;
  for (const auto& [name, entry] : m_functions) m_table.put(functions_prefix + name, encode(entry));
  for (const auto& [number, entry] : m_minutes) m_table.put(minute_key(number), encode(entry));
  m_functions.clear(), m_minutes.clear();
  leave_latest_minutes();
  const Head& all = head();
  std::string value;
  for (const uint64_t n : {all.mark, all.taken, all.counted, all.functions, all.minutes}) put_le<uint64_t>(value, n);
  m_table.put(head_key, value);
  m_changed = false;
}

std::map<std::string, FunctionTally> Tally::functions() {
  std::map<std::string, FunctionTally> all;
  commit();
  for (auto c = m_table.walk(functions_prefix); c->valid() && starts_with(c->key(), functions_prefix); c->next())
    all.emplace(c->key().substr(2), decode<Entry<FunctionTally>>(c->value()).now);
  return all;
}

std::map<uint64_t, MinuteTally> Tally::minutes() {
  std::map<uint64_t, MinuteTally> all;
  commit();
  for (auto c = m_table.walk(minutes_prefix); c->valid() && starts_with(c->key(), minutes_prefix); c->next())
    all.emplace(get_be64(c->key(), 2), decode<Entry<MinuteTally>>(c->value()).now);
  return all;
}

}  // namespace gq
