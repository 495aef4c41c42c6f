#include "gq/view/status.hpp"

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>

#include "gq/base/text.hpp"

namespace gq {
namespace {

using Json = nlohmann::ordered_json;
using Counts = std::vector<std::pair<std::string, uint64_t>>;  // by function or node

constexpr size_t most_named = 3;  // functions or nodes in one clause
constexpr size_t longest_name = 60;

// "a 3, b 2, c 1 and 4 more", the greatest first.
std::string named(Counts counts, const std::function<std::string(uint64_t)>& text) {
  std::stable_sort(counts.begin(), counts.end(), [](const auto& x, const auto& y) { return x.second > y.second; });
  std::string all;
  for (size_t i = 0; i < std::min(counts.size(), most_named); ++i) {
    all += (i == 0 ? "" : ", ") + printable(counts[i].first, longest_name);
    if (text) all += " " + text(counts[i].second);
  }
  if (counts.size() > most_named) all += " and " + std::to_string(counts.size() - most_named) + " more";
  return all;
}

std::string number(uint64_t n) { return std::to_string(n); }

std::string are(uint64_t n) { return counted(n, "job") + (n == 1 ? " is " : " are "); }

// Returns how bad a value beyond a limit is; nullopt if it is not beyond it. `beyond` compares a value with a limit.
template <typename Beyond>
std::optional<Severity> judge(const std::optional<Threshold>& limit, uint64_t value, Beyond beyond) {
  if (!limit) return std::nullopt;
  if (limit->critical && beyond(value, *limit->critical)) return Severity::critical;
  if (beyond(value, limit->warning)) return Severity::warning;
  return std::nullopt;
}

constexpr auto more = [](uint64_t value, uint64_t limit) { return value > limit; };
constexpr auto less = [](uint64_t value, uint64_t limit) { return value < limit; };

bool could_run(const FunctionStats& f) { return f.queued() > 0 || f.waits_since; }

// What serves no function, or none of those that could run jobs.
Counts without_worker(const Overview& overview, const Status& status) {
  Counts lack;
  if (!status.limits.functions.empty()) {
    for (const auto& function : status.limits.functions)
      if (!overview.workers.has(function)) lack.emplace_back(function, 0);
    return lack;
  }
  for (const auto& [name, f] : overview.functions)
    if (could_run(f) && !f.paused && !overview.workers.has(name)) lack.emplace_back(name, f.queued());
  return lack;
}

std::string ends_part_of_line(std::string text) {
  std::replace(text.begin(), text.end(), '|', '/');
  return text;
}

std::string text_of(const Status& status) {
  std::string text;
  for (const auto& problem : status.problems) text += (text.empty() ? "" : "; ") + problem.text;
  if (!text.empty()) return text;
  text = number(status.queued) + " queued, " + number(status.running) + " running, " + number(status.delayed) +
         " delayed, " + number(status.dead) + " dead";
  if (status.oldest) text += "; the oldest waits for " + human_duration(*status.oldest);
  if (status.owed) text += "; " + counted(status.owed, "job") + " owed";
  return text + (status.any_worker ? "" : "; no worker") + "; " + human_size(status.free) + " free";
}

}  // namespace

Severity Status::level() const {
  Severity worst = Severity::ok;
  for (const auto& problem : problems) worst = std::max(worst, problem.level);
  return worst;
}

Status status_of(const Overview& overview, const StatusLimits& limits) {
  Status status{.any_worker = overview.workers.any, .free = overview.disk.free, .limits = limits};
  Counts dead, queued, owed;
  std::string oldest_of;
  const auto is_wanted = [&](const std::string& name) {
    return limits.functions.empty() ||
           std::find(limits.functions.begin(), limits.functions.end(), name) != limits.functions.end();
  };
  for (const auto& [name, f] : overview.functions) {
    if (!is_wanted(name)) continue;
    status.queued += f.queued(), status.running += f.at(State::running);
    status.delayed += f.at(State::delayed), status.dead += f.at(State::dead);
    if (f.at(State::dead)) dead.emplace_back(name, f.at(State::dead));
    if (f.queued()) queued.emplace_back(name, f.queued());
    if (!f.waits_since) continue;
    const Millis age = std::max(Millis(0), overview.at - *f.waits_since);
    if (status.oldest && *status.oldest >= age) continue;
    status.oldest = age;
    oldest_of = name;
  }
  for (const auto& [node, debt] : overview.nodes)
    if (debt.jobs) owed.emplace_back(node, debt.jobs), status.owed = std::max(status.owed, debt.jobs);
  const auto add = [&](const char* what, std::optional<Severity> level, const std::string& text) {
    if (level) status.problems.push_back({what, *level, text});
  };
  add("dead", judge(limits.dead, status.dead, more), are(status.dead) + "dead: " + named(dead, number));
  const uint64_t waited = static_cast<uint64_t>(status.oldest.value_or(Millis(0)).count());
  add("oldest", status.oldest ? judge(limits.oldest, waited, more) : std::nullopt,
      "a job of " + printable(oldest_of, longest_name) + " waits for " +
          human_duration(status.oldest.value_or(Millis(0))));
  add("queued", judge(limits.queued, status.queued, more), are(status.queued) + "queued: " + named(queued, number));
  add("owed", judge(limits.owed, status.owed, more), "jobs are owed to other nodes: " + named(owed, number));
  if (const Counts lack = without_worker(overview, status);
      limits.worker && (!lack.empty() || (limits.functions.empty() && !overview.workers.any)))
    add("worker", Severity::critical, lack.empty() ? "no worker runs" : "no worker runs jobs of " + named(lack, {}));
  add("disk", judge(limits.disk, status.free, less), "the disk has only " + human_size(status.free) + " left");
  if (!overview.waits.empty())
    add("node", Severity::warning, "this node runs no job " + printable(overview.waits, any_length));
  if (overview.troubles)
    add("journal", Severity::critical,
        counted(overview.troubles, "part") + " of the journal cannot be read (gq-inspect check tells which)");
  return status;
}

std::string status_line(const Status& status) {
  return (status.problems.empty() ? "ok: " : "wrong: ") + text_of(status);
}

std::string nagios_line(const Status& status) {
  static constexpr const char* names[] = {"OK", "WARNING", "CRITICAL", "UNKNOWN"};
  std::string line = std::string("GQ ") + names[static_cast<size_t>(status.level())] + " - " +
                     ends_part_of_line(text_of(status)) + " |";
  // 'label'=value[UOM];[warn];[crit];[min];[max]. A colon after a limit says that less than it is wrong.
  const auto add = [&](const char* label, const std::string& value, const std::string& unit,
                       const std::optional<Threshold>& limit, const std::function<std::string(uint64_t)>& text) {
    line += std::string(" ") + label + "=" + value + unit + ";" + (limit ? text(limit->warning) : "") + ";" +
            (limit && limit->critical ? text(*limit->critical) : "") + ";0";
  };
  const auto seconds = [](uint64_t ms) { return number(ms / 1000) + "." + padded(ms % 1000, 3); };
  const auto at_least = [](uint64_t n) { return number(n) + ":"; };
  const StatusLimits& limits = status.limits;
  add("queued", number(status.queued), "", limits.queued, number);
  add("running", number(status.running), "", {}, number);
  add("delayed", number(status.delayed), "", {}, number);
  add("dead", number(status.dead), "", limits.dead, number);
  add("oldest", seconds(static_cast<uint64_t>(status.oldest.value_or(Millis(0)).count())), "s", limits.oldest, seconds);
  add("owed", number(status.owed), "", limits.owed, number);
  add("free", number(status.free), "B", limits.disk, at_least);
  return line;
}

std::string nagios_unknown(const std::string& reason) {
  return "GQ UNKNOWN - " + ends_part_of_line(printable(reason, any_length));
}

Json status_json(const Status& status) {
  Json problems = Json::array();
  for (const auto& problem : status.problems)
    problems.push_back({{"what", problem.what},
                        {"level", problem.level == Severity::critical ? "critical" : "warning"},
                        {"text", problem.text}});
  Json json = {{"ok", status.problems.empty()}, {"problems", problems},      {"queued", status.queued},
               {"running", status.running},     {"delayed", status.delayed}, {"dead", status.dead}};
  if (status.oldest) json["oldest_seconds"] = status.oldest->count() / 1000;
  json.update({{"owed", status.owed}, {"worker", status.any_worker}, {"free_bytes", status.free}});
  return json;
}

std::string human_duration(Millis duration) {
  static constexpr std::pair<int64_t, const char*> units[] = {{86400, "d"}, {3600, "h"}, {60, "m"}, {1, "s"}};
  const int64_t seconds = duration.count() / 1000;
  for (size_t i = 0; i < std::size(units); ++i) {
    const auto& [size, name] = units[i];
    if (seconds < size) continue;
    std::string text = number(static_cast<uint64_t>(seconds / size)) + name;
    if (const int64_t rest = seconds % size; i + 1 < std::size(units) && rest / units[i + 1].first > 0)
      text += " " + number(static_cast<uint64_t>(rest / units[i + 1].first)) + units[i + 1].second;
    return text;
  }
  return number(static_cast<uint64_t>(std::max<int64_t>(0, duration.count()))) + "ms";
}

std::string human_size(uint64_t bytes) {
  static constexpr const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  size_t unit = 0;
  uint64_t tenths = bytes > UINT64_MAX / 10 ? UINT64_MAX : bytes * 10;
  for (; tenths >= 10240 && unit + 1 < std::size(units); ++unit) tenths /= 1024;
  std::string text = number(tenths / 10);
  if (unit > 0 && tenths < 100) text += "." + number(tenths % 10);
  return text + " " + units[unit];
}

}  // namespace gq
