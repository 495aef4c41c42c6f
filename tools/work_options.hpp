// What gq-worker and gq-flush have in common on their command lines.
#pragma once

#include <signal.h>

#include "frame.hpp"
#include "runner.hpp"
#include "text.hpp"

namespace gq {

struct WorkOptions {
  std::vector<std::string> functions;
  uint64_t slots = 1;
  uint64_t max_attempts = 5;
  uint64_t max_crashes = 3;
  std::string backoff;
  Millis grace{30000};

  void add(CLI::App& app) {
    app.add_option("-f,--function", functions, "A function to work for; may be repeated")
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
        ->expected(1)
        ->allow_extra_args(false);
    add_count(app, "-j,--jobs", slots, "Commands that run at the same time (default 1)", 1, 1024);
    add_count(app, "--max-attempts", max_attempts, "Attempts before a job is dead (default 5)", 1, 1'000'000);
    add_count(app, "--max-crashes", max_crashes, "Deaths of its worker before a job is dead (default 3)", 1, 1'000'000);
    app.add_option("--backoff", backoff, "Delay before the first retry, and the longest: BASE[:MAX] (default 1s:1h)");
    add_duration(app, "--grace", grace, "How long commands may go on after SIGTERM (default 30s)");
  }

  Runner::Config config(const std::vector<std::string>& command) const {
    Runner::Config c;
    c.functions = functions;
    c.command = command;
    c.slots = slots;
    c.max_attempts = static_cast<uint32_t>(max_attempts);
    c.max_crashes = static_cast<uint32_t>(max_crashes);
    c.grace = grace;
    if (!backoff.empty()) {
      auto parts = split(backoff, ':');
      auto base = parse_duration(parts[0]);
      auto longest = parts.size() > 1 ? parse_duration(parts[1]) : std::max(base.value_or(Millis(0)), c.longest_backoff);
      if (!base || !longest || parts.size() > 2 || *longest < *base)
        throw Error(Exit::usage, "cannot use --backoff " + printable(backoff) + ": it is not BASE[:MAX], as in 1s:10m");
      c.backoff = *base;
      c.longest_backoff = *longest;
    }
    return c;
  }
};

// Before any thread starts: the runner reads these from a descriptor.
inline void block_signals() {
  sigset_t set = stop_signals();
  sigaddset(&set, SIGCHLD);
  ::sigprocmask(SIG_BLOCK, &set, nullptr);
}

}  // namespace gq
