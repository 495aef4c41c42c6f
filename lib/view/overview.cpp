#include "gq/view/overview.hpp"

#include <algorithm>

#include "gq/store/names.hpp"

namespace gq {
namespace {

constexpr size_t functions_a_visit = 500, claims_a_visit = 2000;  // how many one visit to the index reads

void count_left_behind(Ledger& ledger, std::map<std::string, FunctionStats>& functions) {
  std::map<std::string, std::map<std::string, uint64_t>> running;  // by owner and function
  std::string cursor;
  for (bool last = false; !last;) {
    std::string next;
    std::vector<Job> jobs;
    ledger.look([&](Fold& fold) {
      std::vector<std::string> ids;
      jobs.clear();
      next = cursor;
      last = fold.page('c', "", claims_a_visit, next, ids);
      for (const auto& id : ids)
        if (auto job = fold.get(id); job && job->state == State::running) jobs.push_back(std::move(*job));
    });
    cursor = next;
    for (const auto& job : jobs) ++running[job.owner][job.function];
  }
  for (const auto& [owner, counts] : running) {
    if (owner_alive(ledger.owners_directory(), owner)) continue;
    for (const auto& [function, count] : counts) {
      auto& jobs = functions[function].counters.jobs;
      const uint64_t n = std::min(count, jobs[static_cast<size_t>(State::running)]);
      jobs[static_cast<size_t>(State::running)] -= n;
      jobs[static_cast<size_t>(State::queued)] += n;
    }
  }
}

}  // namespace

std::map<std::string, FunctionStats> stats_of_functions(Ledger& ledger) {
  std::map<std::string, FunctionStats> functions;
  const Millis now = now_ms();
  std::string cursor;
  for (bool last = false; !last;) {
    std::string next;
    ledger.look([&](Fold& fold) {
      std::vector<std::string> names;
      next = cursor;
      last = fold.functions(functions_a_visit, next, names);
      for (const auto& name : names)
        functions[name] = {fold.counters(name), fold.paused(name),       fold.limit(name),
                           fold.rate(name),     fold.dead_letters(name), fold.waits_since(name, now)};
    });
    cursor = next;
  }
  count_left_behind(ledger, functions);
  return functions;
}

uint64_t count_troubles(Ledger& ledger) {
  uint64_t troubles = 0;
  ledger.for_each_trouble(
      [&](const Trouble& t) { troubles += t.kind == Trouble::Kind::damage || t.kind == Trouble::Kind::missing; });
  return troubles;
}

DiskUse disk_use(Ledger& ledger) {
  DiskUse use;
  const auto segments = ledger.segments();
  for (const auto& s : segments) use.journal += s.size;
  ledger.look([&](Fold& fold) {
    use.needed = segments.empty() ? 0 : std::min(use.journal, fold.weight(0, segments.back().end).bytes);
    use.outputs = fold.outputs();
  });
  if (auto aside = ledger.directory().find_below(damaged_name)) use.damaged = aside->names().size();
  use.free = ledger.available();
  return use;
}

Overview overview_of(Queue& store) {
  Overview all{.at = now_ms()};
  all.functions = stats_of_functions(store);
  all.processes = processes_here(store.owners_directory());
  all.workers = running_here(all.processes);
  all.nodes = debts_of(store);
  if (store.group().once) all.waits = store.waits();
  all.disk = disk_use(store);
  all.troubles = count_troubles(store);
  return all;
}

}  // namespace gq
