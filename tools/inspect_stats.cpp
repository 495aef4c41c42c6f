#include "inspect_stats.hpp"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "frame.hpp"
#include "gq/base/columns.hpp"
#include "gq/base/text.hpp"
#include "gq/replication/debts.hpp"
#include "gq/store/owners.hpp"
#include "gq/view/overview.hpp"

namespace gq {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t most_looked_up = 2000;  // how many jobs are looked up in one visit to the index

std::string coloured_line(const View& view, const std::string& line, bool is_late) {
  const std::string text = cut_to(printable(line, any_length), view.width ? view.width : SIZE_MAX);
  return (view.has_colour && is_late ? coloured(text, Colour::yellow) : text) + "\n";
}

// Prints for each other node of the group what is owed to it and when it last answered; and what this node waits for
// before it runs jobs.
void print_peers(const StatsOptions& o, const View& view, Queue& store) {
  const Millis now = now_ms();
  if (std::string waits = store.group().once ? store.waits() : std::string(); !waits.empty())
    print(o.json ? json_line({{"node", store.group().self.node}, {"waits", waits}})
                 : text_line({store.group().self.node + ": runs no job " + waits}));
  for (const auto& [node, debt] : debts_of(store)) {
    Json json = {{"peer", node}, {"owed", debt.jobs}};
    if (debt.jobs) json["owed_since"] = format_time(debt.since);
    if (debt.answered_at.count()) json["answered_at"] = format_time(debt.answered_at);
    for (const auto& [id, why] : debt.refused) json["refused"][id] = why;
    for (const auto& [id, why] : debt.unreadable) json["unreadable"][id] = why;
    if (o.json) {
      print(json_line(json));
      continue;
    }
    std::string line = node + ": owed " + counted(debt.jobs, "job");
    if (view.is_table) {
      if (debt.jobs) line += " for " + short_duration(now - debt.since);
      line += debt.answered_at.count() ? ", answered " + short_duration(now - debt.answered_at) + " ago"
                                       : ", has never answered";
      print(coloured_line(view, line, debt.jobs && now - debt.since > late_after));
    } else {
      for (const char* key : {"owed_since", "answered_at"})
        if (json.contains(key)) line += " " + std::string(key) + " " + json[key].get<std::string>();
      print(text_line({line}));
    }
    for (const auto& [id, why] : debt.refused) print(text_line({node + ": refuses " + id + ": " + why}));
    for (const auto& [id, why] : debt.unreadable) print(text_line({node + ": cannot be given " + id + ": " + why}));
  }
}

// Passes the `wanted` jobs of an order (fold.hpp) to `take`. Reads page by page, so that the lock of the index is never
// held for long.
template <typename Wanted, typename Take>
void for_each_page(Ledger& ledger, char order, Wanted wanted, Take take) {
  std::string cursor;
  bool last = false;
  while (!last) {
    std::vector<Claim> found;
    std::string next;
    ledger.look([&](Fold& fold) {
      found.clear();
      std::vector<std::string> ids;
      next = cursor;
      last = fold.page(order, "", most_looked_up, next, ids);
      for (const auto& id : ids)
        if (auto job = fold.get(id); job && wanted(fold, *job)) found.push_back({id, std::move(*job)});
    });
    cursor = next;
    take(found);
  }
}

// Prints the serial keys whose first job is delayed while other jobs, of any function, wait for it. Prints only some:
// those whose first job is due last.
void print_serials(const StatsOptions& o, const View& view, Ledger& ledger) {
  constexpr size_t most_shown = 10, most_counted = 10000;
  std::vector<Claim> firsts;
  const Millis now = now_ms();
  const auto holds_others_up = [&](Fold& fold, const Job& job) {
    return job.state == State::delayed && job.due > now && fold.with_serial(job.serial, 2) > 1;
  };
  for_each_page(ledger, 'h', holds_others_up, [&](std::vector<Claim>& found) {
    firsts.insert(firsts.end(), std::make_move_iterator(found.begin()), std::make_move_iterator(found.end()));
    std::sort(firsts.begin(), firsts.end(), [](const Claim& x, const Claim& y) { return x.job.due > y.job.due; });
    if (firsts.size() > most_shown) firsts.erase(firsts.begin() + most_shown, firsts.end());
  });
  for (const auto& first : firsts) {
    size_t behind = 0;
    ledger.look(
        [&](Fold& fold) { behind = std::max<size_t>(fold.with_serial(first.job.serial, most_counted), 1) - 1; });
    if (behind == 0) continue;
    Json json = {{"serial", first.job.serial},
                 {"waits_for", first.id},
                 {"function", first.job.function},
                 {"due_at", format_time(first.job.due)},
                 {"waiting", behind}};
    if (o.json) print(json_line(json));
    else
      print(text_line(
          {counted(behind, "job") + " waiting for " + first.id + " of " + first.job.function + ", due " +
           (view.is_table ? "in " + short_duration(first.job.due - now) : "at " + format_time(first.job.due)) +
           ": serial key " + first.job.serial}));
  }
}

// Prints how much of the journal is still needed, and how old the oldest unfinished job is.
void print_disk(const StatsOptions& o, const View& view, Ledger& ledger) {
  const DiskUse use = disk_use(ledger);
  std::optional<Millis> oldest;
  std::string cursor;
  for (bool last = false; !last;) {
    std::string next;
    ledger.look([&](Fold& fold) {
      std::vector<std::string> ids;
      next = cursor;
      last = fold.oldest(most_looked_up, next, ids);
      for (const auto& id : ids)
        if (auto job = fold.get(id); job && (!oldest || job->enqueued_at < *oldest)) oldest = job->enqueued_at;
    });
    cursor = next;
  }
  const uint64_t garbage = use.journal - use.needed;
  Json json = {
      {"journal_bytes", use.journal}, {"live_bytes", use.needed}, {"garbage_bytes", garbage}, {"damaged", use.damaged}};
  if (oldest)
    json.update({{"oldest_at", format_time(*oldest)},
                 {"oldest_seconds", std::max<int64_t>(0, (now_ms() - *oldest).count() / 1000)}});
  if (o.json) return print(json_line(json));
  if (view.is_table) {
    print(coloured_line(view,
                        "journal: " + short_size(use.journal) + ", of which jobs need " + short_size(use.needed) +
                            "; the disk has " + short_size(use.free) + " free",
                        false));
    if (oldest)
      print(coloured_line(view, "oldest job that has not ended: " + short_duration(now_ms() - *oldest), false));
  } else {
    std::string line = "journal: bytes " + std::to_string(use.journal) + " live " + std::to_string(use.needed) +
                       " garbage " + std::to_string(garbage);
    if (oldest) line += " oldest " + format_time(*oldest);
    print(text_line({line}));
  }
  if (use.damaged) log(Level::warning, counted(use.damaged, "segment") + " in damaged/ could not be read whole");
}

// Returns the row of a function in the table. `now` is the time.
TextTable::Row row_of(const std::string& function, const FunctionStats& found, Millis now) {
  const auto count = [](uint64_t n, Colour colour = Colour::none) {
    return n == 0 ? Cell{} : Cell{std::to_string(n), colour};
  };
  Cell oldest;
  if (found.waits_since) {
    const Millis age = now - *found.waits_since;
    oldest = {short_duration(age), age > late_after ? Colour::yellow : Colour::none};
  }
  std::string notes;
  const auto note = [&](const std::string& text) { notes += (notes.empty() ? "" : ", ") + text; };
  if (found.paused) note("paused for " + short_duration(now - *found.paused));
  if (found.limit) note("limit " + std::to_string(*found.limit));
  if (found.rate) note("rate " + rate_text(*found.rate));
  if (found.letters) note("dead letters to " + *found.letters);
  if (found.counters.blocked) note(std::to_string(found.counters.blocked) + " after other jobs");
  if (found.counters.spooled) note(std::to_string(found.counters.spooled) + " spooled");
  return {{function},
          count(found.queued()),
          oldest,
          count(found.at(State::running)),
          count(found.at(State::delayed)),
          count(found.at(State::waiting)),
          count(found.at(State::pending) - found.counters.spooled),
          count(found.at(State::held)),
          count(found.at(State::dead), Colour::red),
          count(found.at(State::kept)),
          count(found.at(State::finished)),
          {found.counters.bytes ? short_size(found.counters.bytes) : ""},
          {notes, found.paused ? Colour::yellow : Colour::none}};
}

void print_table(const StatsOptions& o, const View& view, const std::map<std::string, FunctionStats>& functions) {
  TextTable table({{"FUNCTION", false, 12},
                   {"QUEUED", true},
                   {"OLDEST", true},
                   {"RUNNING", true},
                   {"DELAYED", true, 0, 1},
                   {"WAITING", true, 0, 1},
                   {"PENDING", true, 0, 1},
                   {"HELD", true, 0, 1},
                   {"DEAD", true},
                   {"KEPT", true, 0, 2},
                   {"FINISHED", true, 0, 3},
                   {"SIZE", true, 0, 4},
                   {"NOTES", false, 8, 2}},
                  view.width, view.has_colour);
  std::vector<TextTable::Row> rows;
  for (const auto& [function, found] : functions)
    if (o.function.empty() || function == o.function) rows.push_back(row_of(function, found, now_ms()));
  print(table.page(rows));
}

}  // namespace

Exit stats(const StatsOptions& o, const View& view, Queue& store) {
  const auto functions = stats_of_functions(store);
  const uint64_t troubles = count_troubles(store);
  const bool is_table = view.is_table && !o.json;
  if (is_table) print_table(o, view, functions);
  for (const auto& [function, found] : functions) {
    if (is_table) break;
    if (!o.function.empty() && function != o.function) continue;
    Json json = {{"function", function},
                 {"queued", found.queued()},
                 {"running", found.at(State::running)},
                 {"delayed", found.at(State::delayed)},
                 {"waiting", found.at(State::waiting)},
                 {"pending", found.at(State::pending) - found.counters.spooled},
                 {"held", found.at(State::held)},
                 {"dead", found.at(State::dead)},
                 {"kept", found.at(State::kept)},
                 {"finished", found.at(State::finished)},
                 {"bytes", found.counters.bytes}};
    if (found.counters.blocked) json["after"] = found.counters.blocked;
    if (found.counters.spooled) json["spooled"] = found.counters.spooled;
    if (found.paused) json["paused_at"] = format_time(*found.paused);
    if (found.limit) json["limit"] = *found.limit;
    if (found.rate) json["rate"] = rate_text(*found.rate);
    if (found.letters) json["dead_letters"] = *found.letters;
    if (o.json) {
      print(json_line(json));
      continue;
    }
    std::string line = function + ":";
    for (const auto& [key, value] : json.items())
      if (key != "function") line += " " + key + " " + (value.is_string() ? value.get<std::string>() : value.dump());
    print(text_line({line}));
  }
  const bool any_waits =
      std::any_of(functions.begin(), functions.end(), [&](const auto& f) { return f.second.at(State::waiting) > 0; });
  if (o.function.empty() && any_waits) print_serials(o, view, store);
  if (o.function.empty()) print_peers(o, view, store);
  if (o.function.empty()) print_disk(o, view, store);
  const RunHere running = running_here(store.owners_directory());
  for (const auto& target : running.targets)
    if (!running.has(target))
      log(Level::warning, "no worker of this store runs " + printable(target) +
                              ", of which another worker's --then makes jobs; they wait for one");
  if (troubles) log(Level::warning, counted(troubles, "trouble") + " in the journal (gq-inspect check tells which)");
  return Exit::ok;
}

}  // namespace gq
