// The command-line options that gq-worker and gq-flush share.
#pragma once

#include <signal.h>

#include "frame.hpp"
#include "gq/base/text.hpp"
#include "gq/work/runner.hpp"

namespace gq {

struct WorkOptions {
  std::vector<std::string> functions;
  uint64_t slots = 1;
  uint64_t max_attempts = 5;
  uint64_t max_crashes = 3;
  std::string backoff;
  Millis time_limit{0};
  Millis grace{30000};
  std::string rate;
  std::vector<std::string> on_exit;
  OutputOptions output;
  uint64_t keep_output = 0;
  std::string joblog;
  bool stream = false;

  void add(CLI::App& app) {
    app.option_defaults()->group("Commands");
    app.add_option("-f,--function", functions, "A function to work for; may be repeated")
        ->type_name("FUNCTION")
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
        ->expected(1)
        ->allow_extra_args(false);
    add_count(app, "-j,--jobs", slots, "Commands that run at the same time (default 1)", 1, 1024);
    app.option_defaults()->group("Retries");
    add_count(app, "--max-attempts", max_attempts, "Attempts before a job is dead (default 5)", 1, 1'000'000);
    add_count(app, "--max-crashes", max_crashes, "Deaths of its worker before a job is dead (default 3)", 1, 1'000'000);
    app.add_option("--backoff", backoff, "Delay before the first retry, and the longest: BASE[:MAX] (default 1s:1h)")
        ->type_name("BASE[:MAX]");
    app.option_defaults()->group("Commands");
    add_duration(app, "--time-limit", time_limit, "Longest time for one attempt (default: none)");
    add_duration(app, "--grace", grace, "How long commands may go on after SIGTERM (default 30s)");
    app.option_defaults()->group("Retries");
    app.add_option("--on-exit", on_exit,
                   "What an exit status means: CODE=done, keep, retry[:DELAY] or dead; may be repeated")
        ->type_name("CODE=RESULT")
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
        ->expected(1)
        ->allow_extra_args(false);
    app.option_defaults()->group("Commands");
    not_empty(*app.add_option("--rate", rate, "Most starts in a time: N/s, N/m or N/h")->type_name("N/s"));
    app.add_flag("--stream", stream, "Start the command once for each slot, and feed it jobs; see gq-stream(7)");
    app.option_defaults()->group("Output of commands");
    not_empty(
        *app.add_option("--output", output.directory, "Write the output of each attempt to a file in this directory")
             ->type_name("DIR"));
    app.add_flag("--tag", output.tags, "Put function and ID before each line that commands print");
    add_size(app, "--output-cap", output.cap, "Keep at most this much of the output of an attempt (default 100M)");
    add_duration(app, "--output-keep", output.keep, "Remove files of attempts this old (default 7d)");
    add_size(
        app, "--keep-output", keep_output,
        "Keep what commands print, with the end of their jobs, up to this much of each (default 0: only of jobs that "
        "ask for it)");
    not_empty(
        *app.add_option("--joblog", joblog, "Append a line for each attempt, as GNU parallel does")->type_name("FILE"));
  }

  void check_functions() {
    for (const auto& f : functions) check_function(f);
    remove_repeated(functions);
  }

  Runner::Config config(const std::vector<std::string>& command) const {
    Runner::Config c;
    c.functions = functions;
    c.command = command;
    c.slots = slots;
    c.rules.max_attempts = static_cast<uint32_t>(max_attempts);
    c.max_crashes = static_cast<uint32_t>(max_crashes);
    c.time_limit = time_limit;
    c.grace = grace;
    c.output = output;
    c.rules.keep_output = keep_output;
    c.joblog = joblog;
    c.stream = stream;
    if (stream && keep_output)
      throw Error(Exit::usage, "cannot use --keep-output with --stream: what the command prints is its answers");
    if (output.tags && (stream || !output.directory.empty()))
      throw Error(Exit::usage, stream ? "cannot use --tag with --stream: what the command prints is its answers"
                                      : "cannot use --tag with --output: it writes a file for each attempt");
    if (stream && !output.directory.empty())
      throw Error(Exit::usage, "cannot use --output with --stream: what the command prints is its answers");
    for (const auto& row : on_exit)
      if (!c.rules.outcomes.replace(row))
        throw Error(Exit::usage, "cannot use --on-exit " + printable(row) +
                                     ": it is not CODE=done, CODE=keep, CODE=retry[:DELAY] or CODE=dead");
    if (!rate.empty()) {
      auto parsed = parse_rate(rate);
      if (!parsed) throw Error(Exit::usage, "cannot use --rate " + printable(rate) + ": it is not N/s, N/m or N/h");
      c.rate = *parsed;
    }
    if (!backoff.empty()) {
      auto parts = split(backoff, ':');
      auto base = parse_duration(parts[0]);
      auto longest =
          parts.size() > 1 ? parse_duration(parts[1]) : std::max(base.value_or(Millis(0)), c.rules.longest_backoff);
      if (!base || !longest || parts.size() > 2 || *longest < *base)
        throw Error(Exit::usage, "cannot use --backoff " + printable(backoff) + ": it is not BASE[:MAX], as in 1s:10m");
      c.rules.backoff = *base;
      c.rules.longest_backoff = *longest;
    }
    return c;
  }
};

// A serving program retries by itself, so each wait for another process is short.
constexpr Millis worker_patience{10'000};

// Call it before any thread starts, because the runner reads these signals from a descriptor. Resets SIGCHLD to its
// default: a process can inherit it as ignored, and then the kernel would not report the end of a command.
inline void block_signals() {
  ::signal(SIGCHLD, SIG_DFL);
  sigset_t set = runner_signals();
  ::sigprocmask(SIG_BLOCK, &set, nullptr);
}

}  // namespace gq
