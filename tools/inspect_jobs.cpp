#include "inspect_jobs.hpp"

#include <algorithm>

#include "gq/base/columns.hpp"
#include "gq/base/text.hpp"
#include "gq/base/ulid.hpp"
#include "gq/replication/debts.hpp"
#include "gq/store/listing.hpp"

namespace gq {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t most_parents_shown = 100;  // among so many parents, the first dead one is looked for
constexpr size_t page_rows = 500;           // rows of a table whose columns are fitted together

// When a job that has not started may start; nullopt if it has no such time.
std::optional<Millis> due_of(const Job& job) {
  const bool later = job.state == State::waiting || job.state == State::pending || job.state == State::held;
  if (job.state == State::delayed || (later && job.due.count())) return job.due;
  return std::nullopt;
}

// Returns for which of its parents a job waits, as a text for users.
std::string parents_of(Queue& store, const Claim& c) {
  if (c.job.edges < c.job.after)
    return "until its client has named all jobs that it is after: " + std::to_string(c.job.edges) + " of " +
           std::to_string(c.job.after) + " are recorded";
  std::string text;
  store.look([&](Fold& fold) {
    const auto parents = fold.unmet(c.id, most_parents_shown);
    text.clear();
    if (parents.empty()) return;
    std::string first = parents.front(), what;
    for (const auto& id : parents) {
      const auto parent = fold.get(id);
      if (parent && parent->state != State::dead && !parent->dropped) continue;
      first = id;
      what = !parent ? ", which this store does not know" : parent->dropped ? ", which was dropped" : ", which is dead";
      break;
    }
    text = "after " + first + what;
    if (c.job.unmet > 1) text += " and " + counted(c.job.unmet - 1, "other job");
  });
  return text;
}

}  // namespace

std::optional<Holder> find_holder(Ledger& ledger, Claim& c) {
  if (c.job.owner.empty()) return std::nullopt;
  if (auto holder = holder_of(ledger.owners_directory(), c.job.owner)) return holder;
  // The owner may also have ended or given back the job since the job was read; then the store has the result.
  std::optional<Job> now;
  ledger.look([&](Fold& fold) { now = fold.get(c.id); });
  const bool same = !now || (now->owner == c.job.owner && now->starts == c.job.starts);
  if (now) c.job = std::move(*now);
  if (!same) return find_holder(ledger, c);
  if (c.job.state == State::running) ++c.job.crashes;
  c.job.state = State::queued;
  return std::nullopt;
}

Waits::Waits(Queue& store)
    : m_store(store), m_group(store.group()), m_node(m_group.once ? store.waits() : std::string()) {
  for (const auto& member : m_group.members) {
    if (member == m_group.self.node) continue;
    Millis at = answered_at(store, member);
    m_others += (m_others.empty() ? "" : ", ") + member +
                (at.count() ? " (last answered " + format_time(at) + ")" : " (never answered)");
  }
}

std::string Waits::of(const Claim& c) const {
  const Job& job = c.job;
  if (job.state == State::waiting && is_blocked(job)) return parents_of(m_store, c);
  if (job.unborn) return "until the end of " + job.parent + " is recorded, whose output became this job";
  if (is_spooled(job)) return "until it is forwarded to another store";
  if (job.state == State::pending)
    return "until " + std::to_string(job.copies) + " nodes have it: this one" +
           (job.peers.empty() ? "" : "," + job.peers) + "; the others: " + m_others;
  return job.state == State::queued || job.state == State::claimed ? m_node : std::string();
}

nlohmann::ordered_json job_json(const Claim& c, const std::optional<Holder>& holder, const Waits& waits) {
  const Job& job = c.job;
  Json j = {{"id", c.id},
            {"function", job.function},
            {"state", state_name(job)},
            {"attempts", job.attempts()},
            {"enqueued_at", format_time(job.enqueued_at)},
            {"size", job.size},
            {"changed_at", format_time(job.changed_at)}};
  if (job.priority != normal_priority) j["priority"] = priority_name(job.priority);
  if (job.max_attempts) j["max_attempts"] = job.max_attempts;
  if (!job.key.empty()) j["key"] = job.key;
  if (!job.serial.empty()) j["serial"] = job.serial;
  if (!job.name.empty()) j["name"] = job.name;
  if (!job.parent.empty()) j["parent"] = job.parent;
  if (const auto due = due_of(job)) j["due_at"] = format_time(*due);
  if (can_expire(job)) j["expires_at"] = format_time(job.expire);
  if (job.dropped) j["dropped"] = true;
  if (job.cancelled) j["cancelled"] = true;
  if (!job.why.empty()) j["reason"] = job.why;
  if (job.exit != no_exit) j["exit_status"] = job.exit;
  if (job.signal) j["signal"] = job.signal;
  if (job.after) j.update({{"after", job.after}, {"unmet", job.unmet}});
  if (job.after_any) j["after_any"] = true;
  if (std::string w = waits.of(c); !w.empty()) j["waits"] = w;
  if (holder) {
    j["owner"] = job.owner;
    if (holder->pid) j["pid"] = holder->pid;
    if (holder->worker) j["worker_pid"] = holder->worker;
    if (!holder->host.empty()) j["host"] = holder->host;
    j["since"] = format_time(job.changed_at);
  }
  if (job.crashes) j["crashes"] = job.crashes;
  if (!job.node.empty()) j.update({{"node", job.node}, {"identity", job.store}});
  if (job.once) j["term"] = job.term;
  if (job.keep) j["keep"] = true;
  if (job.result) j["result"] = true;
  if (job.output == Kept::whole) j["output_size"] = job.output_size;
  if (job.output == Kept::too_large || job.output == Kept::no_room)
    j["output_lost"] = job.output == Kept::too_large ? "too large" : "no room";
  if (!job.source.empty()) j.update({{"from", job.source}, {"offset", job.offset}});
  return j;
}

std::optional<std::string> find_id(Ledger& ledger, const std::string& text) {
  constexpr size_t most_named = 3;
  const std::string zeros(ulid_size - std::min(ulid_size, text.size()), '0');
  const auto whole = text.empty() ? std::nullopt : parse_ulid(text + zeros);
  if (!whole)
    throw Error(Exit::usage, "cannot look for " + printable(text) +
                                 ": it is not a job ID (26 characters), nor the beginning of one");
  const auto ids = jobs_with_prefix(ledger, whole->substr(0, text.size()), most_named);
  if (ids.size() > 1) {
    std::string named;
    for (const auto& id : ids) named += (named.empty() ? "" : ", ") + id;
    throw Error(Exit::usage,
                "cannot tell which job " + printable(text) + " is: several IDs begin so, such as " + named);
  }
  if (ids.empty()) return std::nullopt;
  return ids.front();
}

std::vector<std::string> find_ids(Ledger& ledger, const std::vector<std::string>& names) {
  std::vector<std::string> ids;
  for (const auto& name : names) {
    const auto id = name.size() < ulid_size && name != "-" ? find_id(ledger, name) : std::nullopt;
    if (id) ids.push_back(*id);
    else
      for (auto& whole : read_ids({name})) ids.push_back(std::move(whole));
  }
  return ids;
}

namespace {

// The names of the fields that job_json() returns, in their order.
const std::vector<std::string>& field_names() {
  static const std::vector<std::string> names{
      "id",           "function", "state",       "attempts",    "enqueued_at", "size",    "changed_at", "priority",
      "max_attempts", "key",      "serial",      "name",        "parent",      "due_at",  "expires_at", "dropped",
      "cancelled",    "reason",   "exit_status", "signal",      "after",       "unmet",   "after_any",  "waits",
      "owner",        "pid",      "worker_pid",  "host",        "since",       "crashes", "node",       "identity",
      "term",         "keep",     "result",      "output_size", "output_lost", "from",    "offset"};
  return names;
}

// A time that a user gave: or a duration before now.
Millis parse_moment(const std::string& option, const std::string& text) {
  if (const auto time = parse_time(text)) return *time;
  if (const auto ago = parse_duration(text)) return now_ms() - *ago;
  throw Error(Exit::usage,
              "cannot use " + option + " " + printable(text) +
                  ": it is neither a time such as 2026-01-31T12:00:00Z nor a duration before now such as 2h");
}

// Decides which jobs are listed.
class Filter {
 public:
  Filter(const ListOptions& o, Queue& store, const Waits& waits) : m_options(o), m_store(store), m_waits(waits) {
    if (!o.since.empty()) m_since = parse_moment("--since", o.since);
    if (!o.until.empty()) m_until = parse_moment("--until", o.until);
  }
  bool accepts(const Claim& c) const {
    const Job& job = c.job;
    return is_of_state(job) && job.enqueued_at >= m_since && job.enqueued_at < m_until &&
           (m_options.key.empty() || job.key == m_options.key) &&
           (m_options.serial.empty() || job.serial == m_options.serial) &&
           (m_options.reason.empty() || reason_of(c).find(m_options.reason) != std::string::npos) && has_text(c);
  }
  // Why a job waits or is dead.
  std::string reason_of(const Claim& c) const {
    const std::string waits = m_waits.of(c);
    return c.job.why + (c.job.why.empty() || waits.empty() ? "" : "; ") + waits;
  }

 private:
  bool is_of_state(const Job& job) const {
    const auto& states = m_options.states;
    if (states.empty()) return job.state != State::finished;
    return std::find(states.begin(), states.end(), state_name(job)) != states.end();
  }
  bool has_text(const Claim& c) const {
    if (m_options.text.empty()) return true;
    if (!c.job.is_inline() || c.job.state == State::finished) return false;
    std::string reason;
    const auto workload = m_store.workload(c.id, c.job, reason);
    return workload && !workload->blob && workload->data.find(m_options.text) != std::string::npos;
  }

  const ListOptions& m_options;
  Queue& m_store;
  const Waits& m_waits;
  Millis m_since{0}, m_until{INT64_MAX};
};

// Calls `visit` with the jobs that have a key: the index knows the one of each function.
void list_keyed(const ListOptions& o, Queue& store, const std::function<bool(Claim&)>& visit) {
  std::vector<std::string> functions = o.functions;
  remove_repeated(functions);
  if (functions.empty())
    store.for_each_function([&](const std::string& name, const Counters&) { functions.push_back(name); });
  for (const auto& function : functions) {
    std::optional<Claim> found;
    store.look([&](Fold& fold) {
      found.reset();
      const auto id = fold.keyed(function, o.key, now_ms());
      auto job = id ? fold.get(*id) : std::nullopt;
      if (job) found = Claim{*id, std::move(*job)};
    });
    if (found && !visit(*found)) return;
  }
}

std::string process_of(const Holder& holder) {
  return "pid " + std::to_string(holder.pid ? holder.pid : holder.worker) + " on " + holder.host;
}

// Returns the line that other programs read.
std::string line_of(const Claim& c, const std::optional<Holder>& holder, std::string why) {
  const Job& job = c.job;
  if (holder && job.state == State::running) why = process_of(*holder) + " since " + format_time(job.changed_at);
  std::vector<std::string> fields = {c.id,
                                     state_name(job),
                                     job.function,
                                     std::to_string(job.attempts()),
                                     std::to_string(job.size),
                                     format_time(job.enqueued_at)};
  const bool expires = can_expire(job);
  const auto due = due_of(job);
  if (!why.empty() || !job.name.empty() || expires || due) fields.push_back(printable(why, 1000));
  if (!job.name.empty()) fields.push_back("name=" + job.name);
  if (expires) fields.push_back("expires=" + format_time(job.expire));
  if (due) fields.push_back("due=" + format_time(*due));
  return text_line(fields);
}

std::string until(Millis at, Millis now) {
  return at > now ? "in " + short_duration(at - now) : short_duration(now - at) + " ago";
}

const std::vector<Column>& list_columns() {
  static const std::vector<Column> columns{
      {"ID"},        {"STATE"},     {"FUNCTION", false, 8}, {"TRIES", true, 0, 1}, {"SIZE", true, 0, 2},
      {"AGE", true}, {"DUE", true}, {"REASON", false, 20}};
  return columns;
}

TextTable::Row row_of(const Claim& c, const std::optional<Holder>& holder, std::string why, Millis now) {
  const Job& job = c.job;
  const auto add = [&](const std::string& text) { why += (why.empty() ? "" : "; ") + text; };
  if (holder) add(process_of(*holder) + " for " + short_duration(now - job.changed_at));
  if (!job.name.empty()) add("name " + job.name);
  if (can_expire(job)) add("expires " + until(job.expire, now));
  const auto due = due_of(job);
  const bool is_startable = job.state == State::queued || job.state == State::delayed;
  const bool is_late = is_startable && now - std::max(due.value_or(job.changed_at), job.changed_at) > late_after;
  const Colour state = job.state == State::dead ? Colour::red : is_late ? Colour::yellow : Colour::none;
  return {{c.id},
          {job.dropped ? "dropped" : state_name(job), state},
          {job.function},
          {job.attempts() ? std::to_string(job.attempts()) : ""},
          {short_size(job.size)},
          {short_duration(now - job.enqueued_at), is_late && !due ? Colour::yellow : Colour::none},
          {due ? until(*due, now) : "", is_late && due ? Colour::yellow : Colour::none},
          {printable(why, 1000), job.state == State::dead ? Colour::red : Colour::none}};
}

}  // namespace

void ListOptions::add_to(CLI::App& app) {
  const auto add = [&](const char* name, std::string& value, const char* type, const char* help) {
    not_empty(*app.add_option(name, value, help)->type_name(type));
  };
  const auto add_several = [&](const char* name, std::vector<std::string>& values, const char* type, const char* help) {
    return app.add_option(name, values, help)
        ->type_name(type)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
        ->expected(1)
        ->allow_extra_args(false);
  };
  add_several("--state", states, "STATE",
              "Only those that are queued, running, delayed, waiting, pending, spooled, held, dead, kept or "
              "finished; may be repeated")
      ->check(CLI::IsMember(
          {"queued", "running", "delayed", "waiting", "pending", "spooled", "held", "dead", "kept", "finished"}));
  add_several("-f,--function", functions, "FUNCTION", "Only those of this function; may be repeated");
  add("--since", since, "TIME", "Only those queued at this time or later; 2h: in the last two hours");
  add("--until", until, "TIME", "Only those queued before this time, or this long ago");
  add("--reason", reason, "STRING", "Only those whose reason contains this text");
  add("--key", key, "KEY", "Only those with this key");
  add("--serial", serial, "KEY", "Only those with this serial key");
  add("--grep", text, "STRING", "Only those whose workload has at most 64 KiB and contains this text");
  add("--format", format, "FIELDS", "The fields to print, by their names in JSON, separated by commas");
  add_count(app, "--limit", limit, "At most this many", 0, UINT64_MAX);
}

Exit list(const ListOptions& o, const View& view, Queue& store) {
  for (const auto& function : o.functions) check_function(function);
  if (!o.format.empty() && o.json) throw Error(Exit::usage, "cannot use --format and --json together");
  std::vector<std::string> fields;
  std::vector<Column> columns;
  if (!o.format.empty()) fields = split(o.format, ',');
  for (const auto& field : fields) {
    const auto& known = field_names();
    if (std::find(known.begin(), known.end(), field) == known.end())
      throw Error(Exit::usage,
                  "cannot use --format " + printable(o.format) + ": there is no field " + printable(field));
    std::string title = field;
    std::transform(title.begin(), title.end(), title.begin(), [](char c) { return c == '_' ? ' ' : std::toupper(c); });
    columns.push_back({title, false, field == "id" ? size_t{0} : size_t{8}});
  }
  if (columns.empty()) columns = list_columns();
  const Waits waits(store);
  const Filter filter(o, store, waits);
  uint64_t left = o.limit;
  if (left == 0) return Exit::ok;
  const bool is_table = view.is_table && !o.json;
  TextTable table(columns, view.width, view.has_colour);
  std::vector<TextTable::Row> rows;
  std::string out;
  const auto visit = [&](Claim& c) {
    const auto holder = find_holder(store, c);
    if (!filter.accepts(c)) return true;
    if (!fields.empty()) {
      const Json json = job_json(c, holder, waits);
      std::vector<std::string> values;
      TextTable::Row row;
      for (const auto& field : fields) {
        const Json value = json.value(field, Json());
        values.push_back(value.is_null() ? "" : value.is_string() ? value.get<std::string>() : value.dump());
        row.push_back({values.back()});
      }
      if (is_table) rows.push_back(row);
      else out += text_line(values);
    } else if (o.json) {
      out += json_line(job_json(c, holder, waits));
    } else if (is_table) {
      rows.push_back(row_of(c, holder, filter.reason_of(c), now_ms()));
    } else {
      out += line_of(c, holder, filter.reason_of(c));
    }
    if (rows.size() == page_rows) out += table.page(std::exchange(rows, {}));
    if (out.size() > 60000) print(std::exchange(out, {}));
    return --left > 0;
  };
  if (o.key.empty()) list_jobs(store, {o.states, o.functions}, visit);
  else list_keyed(o, store, visit);
  print(out + table.page(rows));
  return Exit::ok;
}

}  // namespace gq
