// gq-flush: makes one pass over a store, for cron: runs the jobs that no living process holds, and then cleans the
// journal. It exits when no job can be run now, prints nothing if there was nothing to do, and never runs a job that is
// already running. Users also kick and drop jobs with it, keep and release workloads, and pause and resume functions.
#include <unistd.h>

#include <algorithm>

#include "frame.hpp"
#include "gq/base/child.hpp"
#include "gq/base/fd.hpp"
#include "gq/base/text.hpp"
#include "gq/database/open_store.hpp"
#include "gq/replication/features.hpp"
#include "gq/replication/forwarder.hpp"
#include "gq/store/cleaner.hpp"
#include "gq/store/listing.hpp"
#include "gq/work/runner.hpp"
#include "replicate_options.hpp"
#include "work_options.hpp"

namespace gq {
namespace {

constexpr Millis settle_time{60000};  // how long to send to peers what they are owed, while they answer

struct Options {
  WorkOptions work;
  ReplicateOptions replicate;
  bool all = false;
  bool dry_run = false;
  bool clean = false;
  bool forward = false;
  std::vector<std::string> kick, cancel, drop, keep, release;  // IDs, or "-"
  bool changes() const {
    return !kick.empty() || !cancel.empty() || !drop.empty() || !keep.empty() || !release.empty() || kick_dead ||
           !pause.empty() || !resume.empty() || !limits.empty() || !rates.empty() || !letters.empty();
  }
  bool kick_dead = false;
  std::vector<std::string> pause, resume, limits, rates, letters;
};

constexpr uint64_t most_limit = 1'000'000;

// Reads FUNCTION=N, or FUNCTION=none, which is 0.
std::pair<std::string, uint32_t> parse_limit(const std::string& text) {
  const size_t at = text.rfind('=');
  const std::string value = at == std::string::npos ? "" : text.substr(at + 1);
  const auto n = parse_count(value);
  if (value != "none" && (!n || *n == 0 || *n > most_limit))
    throw Error(Exit::usage, "cannot use --limit-of " + printable(text) +
                                 ": it is neither FUNCTION=N, with N from 1 to 1000000, nor FUNCTION=none");
  check_function(text.substr(0, at));
  return {text.substr(0, at), static_cast<uint32_t>(n.value_or(0))};
}

// Reads FUNCTION=N/s, N/m or N/h, or FUNCTION=none, which is no start rate.
std::pair<std::string, StartRate> parse_rate_of(const std::string& text) {
  const size_t at = text.rfind('=');
  const std::string value = at == std::string::npos ? "" : text.substr(at + 1);
  const auto rate = parse_start_rate(value);
  if (value != "none" && !rate)
    throw Error(Exit::usage,
                "cannot use --rate-of " + printable(text) +
                    ": it is neither FUNCTION=N/s, N/m or N/h, with N from 1 to 1000000, nor FUNCTION=none");
  check_function(text.substr(0, at));
  return {text.substr(0, at), rate.value_or(StartRate())};
}

// Reads FUNCTION=TO, or FUNCTION=none, for which the second function is empty.
std::pair<std::string, std::string> parse_letters(const std::string& text) {
  const size_t at = text.find('=');
  const std::string function = text.substr(0, at), to = at == std::string::npos ? "" : text.substr(at + 1);
  if (at == std::string::npos || function_name_problem(function) || function_name_problem(to) || function == to)
    throw Error(Exit::usage, "cannot use --dead-letter-of " + printable(text) +
                                 ": it is neither FUNCTION=OTHER, with two functions, nor FUNCTION=none");
  check_function(function), check_function(to);
  return {function, to == "none" ? "" : to};
}

constexpr size_t most_changes = 1000;  // how many jobs are changed in one visit to the index

struct Changed {
  bool good = true;
  bool later = false;  // a job could not be cancelled that can be later, or on another node
  uint64_t count = 0;
};

void change(Queue& store, Change what, const std::vector<std::string>& ids, Changed& changed) {
  for (size_t at = 0; at < ids.size(); at += most_changes) {
    std::vector<std::string> some(ids.begin() + static_cast<long>(at),
                                  ids.begin() + static_cast<long>(std::min(ids.size(), at + most_changes)));
    auto results = store.change(what, some);
    for (size_t i = 0; i < some.size(); ++i) {
      if (!results[i]) {
        ++changed.count;
        continue;
      }
      changed.good = false;
      if (what == Change::cancel)
        store.look([&](Fold& fold) {
          const auto job = fold.get(some[i]);
          changed.later = changed.later || (job && (job->state == State::held || job->state == State::pending));
        });
      log(Level::error, "cannot " + std::string(change_name(what)) + " " + some[i] + ": " + *results[i]);
    }
  }
}

void kick_dead(Queue& store, const std::string& function, Changed& changed) {
  std::vector<std::string> ids;
  auto kick = [&] {
    change(store, Change::kick, ids, changed);
    ids.clear();
  };
  const auto functions = function.empty() ? std::vector<std::string>() : std::vector{function};
  list_jobs(store, {{"dead"}, functions}, [&](const Claim& c) {
    ids.push_back(c.id);
    if (ids.size() == most_changes) kick();
    return true;
  });
  kick();
}

// Carries out a user's changes to jobs and functions.
Exit administer(const Options& o, const Common& common) {
  if (!common.command.empty() || o.all || o.dry_run || o.clean || o.forward ||
      (!o.work.functions.empty() && !o.kick_dead))
    throw Error(Exit::usage,
                "cannot kick, cancel, drop, keep, release, pause, resume, limit, set rates or dead letters and run a "
                "command at the "
                "same time");
  for (const auto* names : {&o.pause, &o.resume})
    for (const auto& f : *names) check_function(f);
  std::vector<std::pair<std::string, uint32_t>> limits;
  for (const auto& text : o.limits) limits.push_back(parse_limit(text));
  std::vector<std::pair<std::string, StartRate>> rates;
  for (const auto& text : o.rates) rates.push_back(parse_rate_of(text));
  std::vector<std::pair<std::string, std::string>> letters;
  for (const auto& text : o.letters) letters.push_back(parse_letters(text));
  auto kick = read_ids(o.kick), cancel = read_ids(o.cancel), drop = read_ids(o.drop), keep = read_ids(o.keep),
       release = read_ids(o.release);
  Queue store = open_store(common.store, false);
  EndsInOrder in_order([&] { store.leave_for_good(); });
  std::vector<std::string> known;
  store.for_each_function([&](const std::string& function, const Counters&) { known.push_back(function); });
  auto is_known = [&](const std::string& f) { return std::find(known.begin(), known.end(), f) != known.end(); };
  bool good = true;
  auto many = [&](Change what, const std::vector<std::string>& ids) {
    Changed changed;
    change(store, what, ids, changed);
    good = good && changed.good;
    if (what == Change::drop && !ids.empty()) print(counted(changed.count, "job") + " dropped\n");
    if (what == Change::cancel && !ids.empty()) print(counted(changed.count, "job") + " cancelled\n");
    return changed.later;
  };
  many(Change::kick, kick);
  if (o.kick_dead) {
    Changed changed;
    for (const auto& f : o.work.functions.empty() ? std::vector<std::string>{""} : o.work.functions) {
      kick_dead(store, f, changed);
      if (f.empty() || is_known(f)) continue;
      log(Level::error, "cannot kick dead jobs of " + printable(f) + ": this store knows no job of that function");
      good = false;
    }
    print(counted(changed.count, "job") + " kicked\n");
    good = good && changed.good;
  }
  // If each job runs on one node, the others learn from its state that it is cancelled.
  if (!cancel.empty() && store.group().once)
    if (const auto why = why_unread(store, Feature::cancel)) throw Error(Exit::retry, "cannot cancel: " + *why);
  const bool later = many(Change::cancel, cancel);
  many(Change::drop, drop);
  many(Change::keep, keep);
  many(Change::release, release);
  for (const auto& f : o.pause) {
    store.pause(f, true);
    if (!is_known(f)) log(Level::warning, printable(f) + " is paused, but this store knows no job of that function");
  }
  for (const auto& f : o.resume) store.pause(f, false);
  for (const auto& [f, n] : limits) {
    store.limit(f, n);
    if (n && !is_known(f))
      log(Level::warning, printable(f) + " has a limit, but this store knows no job of that function");
  }
  for (const auto& [f, rate] : rates) {
    store.rate(f, rate);
    if (rate.starts && !is_known(f))
      log(Level::warning, printable(f) + " has a rate, but this store knows no job of that function");
  }
  for (const auto& [f, to] : letters) {
    store.dead_letters(f, to);
    if (!to.empty() && !is_known(f))
      log(Level::warning, printable(f) + " has dead letters, but this store knows no job of that function");
  }
  return later ? Exit::retry : good ? Exit::ok : Exit::no;
}

// Cleans the journal. A failure is only a warning, because the next pass will clean; with `all` it is an error.
void clean(Ledger& ledger, bool all) {
  try {
    Cleaner cleaner(ledger);
    while (cleaner.step()) continue;
    cleaner.sweep(all);
  } catch (const Error& e) {
    if (all) throw;
    log(Level::warning, std::string("cannot clean the journal: ") + e.what());
  }
}

Exit forward(const Options& o, const Common& common) {
  if (!common.command.empty() || o.all || o.dry_run) throw Error(Exit::usage, "cannot use --forward with a command");
  Queue store = open_store(common.store, false);
  EndsInOrder in_order([&] { store.leave_for_good(); });
  const auto pass = Forwarder(store, common.servers).run(o.work.functions);
  for (const auto& [id, why] : pass.dead) log(Level::error, refused_text(id, why));
  if (pass.is_busy) throw Error(Exit::retry, "cannot forward the spooled jobs: another process does so now");
  if (!pass.trouble.empty()) throw Error(Exit::retry, "cannot forward all spooled jobs: " + pass.trouble);
  return pass.dead.empty() ? Exit::ok : Exit::no;
}

// Whether a pass would run a job now. The caller checks whether the job's function is paused.
bool would_run(Queue& store, const Claim& c) {
  if (is_late(c.job, now_ms())) return false;
  if (c.job.state == State::queued) return true;
  if (c.job.state == State::delayed) return c.job.due <= now_ms();
  if (owner_alive(store.owners_directory(), c.job.owner)) return false;
  // A dead owner may have recorded the job's end or given it back since the job was read.
  std::optional<Job> now;
  store.look([&](Fold& fold) { now = fold.get(c.id); });
  return now && now->owner == c.job.owner && now->starts == c.job.starts && may_run(*now, store.group().self);
}

// Returns the jobs that a pass would wake, because their parents have ended, and then run.
std::vector<Claim> would_wake(Queue& store) {
  std::vector<Claim> jobs;
  store.look([&](Fold& fold) {
    std::map<std::string, uint32_t> met;
    for (const auto& woken : fold.wakes(SIZE_MAX, now_ms()))
      if (!woken.dropped) met[woken.id] += static_cast<uint32_t>(woken.ids.size());
    jobs.clear();
    for (const auto& [id, count] : met) {
      auto job = fold.get(id);
      if (!job || job->state != State::waiting || job->edges < job->after || count < job->unmet) continue;
      if (job->due <= now_ms() && !is_late(*job, now_ms()) &&
          (job->serial.empty() || !fold.with_serial(job->serial, 1)))
        jobs.push_back({id, std::move(*job)});
    }
  });
  return jobs;
}

// Prints the jobs that a pass would run now. `functions` is empty: of all functions.
void print_runnable(Queue& store, const std::vector<std::string>& functions) {
  std::map<std::string, bool> runs;  // by function
  auto does_run = [&](const std::string& function) {
    const auto [it, is_new] = runs.try_emplace(function, false);
    bool& does = it->second;
    if (is_new && (functions.empty() || std::find(functions.begin(), functions.end(), function) != functions.end()))
      store.look([&](Fold& fold) { does = !fold.paused(function); });
    return does;
  };
  std::string lines;
  list_jobs(store, {{std::string(runnable)}, functions}, [&](const Claim& c) {
    if (does_run(c.job.function) && would_run(store, c)) lines += text_line({c.id, c.job.function});
    if (lines.size() > 60000) print(std::exchange(lines, {}));
    return true;
  });
  for (const auto& c : would_wake(store))
    if (does_run(c.job.function)) lines += text_line({c.id, c.job.function});
  print(lines);
}

Exit flush(Options& o, const Common& common) {
  o.work.check_functions();
  if (o.changes()) return administer(o, common);
  if (o.clean) {
    if (!common.command.empty() || o.all || o.dry_run || !o.work.functions.empty())
      throw Error(Exit::usage, "cannot use --clean with functions or a command");
    Queue store = open_store(common.store, false);
    EndsInOrder in_order([&] { store.leave_for_good(); });
    clean(store, true);
    return Exit::ok;
  }
  if (o.forward) return forward(o, common);
  if (o.all != o.work.functions.empty())
    throw Error(Exit::usage,
                o.all ? "cannot use --all with -f" : "cannot flush: no function is given (-f FUNCTION, or --all)");
  if (common.command.empty() && !o.dry_run) throw Error(Exit::usage, "cannot flush: no command is given (-- CMD)");
  auto config = o.work.config(common.command);
  config.until = Until::nothing_now;
  // Check the command even if there is nothing to run now, so that an error in a crontab shows at once.
  if (int problem = o.dry_run ? 0 : command_problem(config.command[0]))
    throw Error(Exit::config,
                "cannot run " + printable(config.command[0]) + ": " + errno_text(problem) + "; no attempt is spent");
  Queue store = open_store(common.store, false);
  if (o.dry_run) {
    print_runnable(store, o.work.functions);
    return Exit::ok;
  }
  block_signals();
  // Before the pass, send what is owed to other nodes; afterwards, send what the pass has added.
  auto replicator = o.replicate.open(store, common);
  bool waits = false;
  if (replicator) {
    replicator->start();
    replicator->settle(settle_time, stop_signal_waits);
    waits = store.group().once && !store.has_returned();
    if (waits)
      log(Level::warning,
          "no other node could be asked what became of this one's jobs: nothing is run (--alone-after)");
  }
  Backlog backlog;
  bool good, lost_output;
  {
    Runner runner(store, config, backlog);
    good = runner.run([] {});
    lost_output = runner.lost_output();
  }
  if (replicator && !replicator->leave(settle_time, stop_signal_waits))
    log(Level::warning, "not all that is owed to other nodes could be sent in this pass");
  clean(store, false);
  return !good ? Exit::config : waits ? Exit::retry : lost_output ? Exit::storage : Exit::ok;
}

}  // namespace
}  // namespace gq

int main(int argc, char** argv) {
  gq::Options o;
  gq::Program program;
  program.name = "gq-flush";
  program.purpose = "Runs the jobs that wait, once, and ends; or changes jobs and functions.";
  program.usage = {"[OPTIONS] -f FUNCTION -- CMD [ARG...]", "[OPTIONS] --kick ID | --drop ID | --pause FUNCTION | ..."};
  program.example = "gq-flush -f resize -- ./resize.sh";
  program.takes_command = true;
  program.options = [&](CLI::App& app) {
    o.work.add(app);
    o.replicate.add(app, false, true);
    app.option_defaults()->group("Commands");
    app.add_flag("--all", o.all, "Jobs of every function; the command sees which in GQ_FUNCTION");
    auto list = [&](const char* name, const char* type, std::vector<std::string>& values, const char* help) {
      app.add_option(name, values, help)
          ->type_name(type)
          ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
          ->expected(1)
          ->allow_extra_args(false);
    };
    app.option_defaults()->group("Changes of jobs");
    list("--kick", "ID", o.kick,
         "Start this dead or delayed job again; - reads IDs from standard input; may be repeated");
    app.add_flag("--kick-dead", o.kick_dead, "Start all dead jobs again, or with -f those of a function");
    list("--cancel", "ID", o.cancel,
         "End this job, queued or running: it is dead; - reads IDs from standard input; may be repeated");
    list("--drop", "ID", o.drop, "Remove this job, done or not; - reads IDs from standard input; may be repeated");
    list("--keep", "ID", o.keep,
         "Keep the workload of this job when it is done; - reads IDs from standard input; may be repeated");
    list("--release", "ID", o.release,
         "Keep the workload of this job no longer; - reads IDs from standard input; may be repeated");
    app.option_defaults()->group("Changes of functions, and of the store");
    app.add_flag(
        "--forward", o.forward,
        "Only send the jobs that gq-enqueue --spool has kept here to a worker, or with -f those of a function");
    app.add_flag("--clean", o.clean, "Only clean the journal, and remove what crashes left");
    list("--limit-of", "F=N", o.limits,
         "F=N: run at most N jobs of function F at a time, in all processes; F=none: any number");
    list("--rate-of", "F=N/s", o.rates,
         "F=N/s, F=N/m or F=N/h: start at most N jobs of function F in a second, minute or hour, in all processes; "
         "F=none: any number");
    list("--dead-letter-of", "F=G", o.letters,
         "F=G: when a job of function F ends dead, a letter about it is a job of G; F=none: not any more");
    list("--pause", "FUNCTION", o.pause, "Start no more jobs of this function, in any process, until it is resumed");
    list("--resume", "FUNCTION", o.resume, "Start jobs of this function again");
    app.option_defaults()->group("Commands");
    app.add_flag("-n,--dry-run", o.dry_run, "Print what would be run, run nothing");
  };
  program.body = [&](const gq::Common& common) { return gq::flush(o, common); };
  return gq::run_program(argc, argv, program);
}
