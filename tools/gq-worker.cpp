// gq-worker: takes jobs from gearmand into the store, and runs a command for each. It answers a client "queued ID" only
// when the job is on stable storage. After that, the job runs until its command has succeeded, or until it is kept as
// dead.
#include <malloc.h>
#include <signal.h>

#include <algorithm>

#include "frame.hpp"
#include "gq/base/notify.hpp"
#include "gq/base/text.hpp"
#include "gq/database/open_store.hpp"
#include "gq/replication/forwarder.hpp"
#include "gq/replication/intake.hpp"
#include "gq/store/cleaner.hpp"
#include "gq/work/runner.hpp"
#include "replicate_options.hpp"
#include "work_options.hpp"

namespace gq {
namespace {

// Limits how many jobs a worker takes from the Gearman servers. --queue-only, whose purpose is to take jobs, has no
// default limit.
constexpr uint64_t default_backlog = 10000, not_given = UINT64_MAX;

// From this size on, freed memory goes back to the system. Otherwise malloc(3) would keep memory of workloads for each
// thread that takes jobs.
constexpr int returned_from = 64 << 10;  // bytes

struct Options {
  WorkOptions work;
  ReplicateOptions replicate;
  bool relay = false;
  uint64_t copies = 0;
  bool raw = false;
  std::string answer = "queued";
  uint64_t waiting = 64;
  bool local = false;
  bool queue_only = false;
  bool drain = false;
  bool strict = false;
  bool keep = false;
  uint64_t backlog = not_given;
  uint64_t max_workload = 256 << 20;
  ThenRules then;
  bool then_lines = false;
  bool then_null = false;
};

// Checks --then, and says if no worker of this store will run the jobs that it makes.
void check_then(Options& o, const Queue& store) {
  auto& then = o.then;
  if (then.function.empty()) {
    if (o.then_lines || o.then_null)
      throw Error(Exit::usage,
                  "cannot use --then-lines or --then-null without --then: it says of which function the jobs are");
    return;
  }
  if (auto problem = function_name_problem(then.function))
    throw Error(Exit::usage, "cannot use --then " + printable(then.function) + ": " + *problem);
  if (o.work.stream)
    throw Error(Exit::usage, "cannot use --then with --stream: what the command prints is its answers");
  if (o.queue_only) throw Error(Exit::usage, "cannot use --then with --queue-only: it runs no command");
  if (store.group().once)
    throw Error(Exit::config, "cannot use --then: the store belongs to a replication group that runs each job once");
  then.items = o.then_lines ? Items::lines : o.then_null ? Items::null : Items::whole;
  then.max_workload = o.max_workload;
  const auto& own = o.work.functions;
  if (std::find(own.begin(), own.end(), then.function) == own.end() &&
      !running_here(store.owners_directory()).has(then.function))
    log(Level::warning, "no worker of this store runs " + printable(then.function) +
                            " now: what the commands print becomes its jobs, and these wait for one");
}

void wait_for_stop_signal(Queue& store, const std::vector<std::string>& functions) {
  notify("READY=1");
  set_status("queueing only");
  sigset_t set = runner_signals();
  for (int signal = SIGUSR1; signal == SIGUSR1 || signal == SIGCHLD;) {
    if (sigwait(&set, &signal) != 0 || signal != SIGUSR1) continue;
    uint64_t live = 0;
    store.look([&](Fold& fold) {
      live = 0;
      for (const auto& function : functions) live += fold.counters(function).live();
    });
    log(Level::error, with_troubles("queueing only: " + counted(live, "job") + " left"));
  }
  stop_waiting();
  notify("STOPPING=1");
}

Exit work(Options& o, const Common& common) {
  if (o.work.functions.empty()) throw Error(Exit::usage, "cannot work: no function is given (-f FUNCTION)");
  o.work.check_functions();
  const std::string queueing = o.relay ? "--relay" : "--queue-only";
  o.queue_only = o.queue_only || o.relay;
  if (o.copies && !o.relay)
    throw Error(Exit::usage, "cannot use --copies without --relay: the group says how many (gq-replicate init)");
  if (o.queue_only != common.command.empty())
    throw Error(Exit::usage, o.queue_only ? "cannot run a command with " + queueing
                                          : "cannot work: no command is given (-- CMD, or --queue-only)");
  if (o.queue_only && (o.local || o.drain))
    throw Error(Exit::usage, "cannot use " + queueing + " with --local or --drain");
  const bool answers_result = o.answer == "result", takes_raw = o.raw || o.replicate.config.keyfile.empty();
  if (answers_result && (o.local || o.relay || o.work.stream))
    throw Error(Exit::usage,
                "cannot use --answer result with --local, --relay or --stream: there is no result to answer");
  if (answers_result && !takes_raw)
    throw Error(Exit::usage, "cannot use --answer result with --auth but without --raw: no raw jobs are taken");
  block_signals();
  ::mallopt(M_MMAP_THRESHOLD, returned_from);
  set_patience(worker_patience);
  Queue store = open_store(common.store, true);
  check_then(o, store);
  Backlog backlog;
  backlog.limit = static_cast<int64_t>(o.backlog != not_given ? o.backlog : o.queue_only ? 0 : default_backlog);
  o.replicate.config.relay = o.relay;
  auto replicator = o.replicate.open(store, common);
  if (o.relay && (!replicator || store.group().once))
    throw Error(
        Exit::usage,
        "cannot relay: the store belongs to no group whose nodes all run each job (gq-replicate init --run all)");
  if (o.copies >= std::max<size_t>(store.group().members.size(), 1))
    throw Error(Exit::usage, "cannot relay to more nodes than the group has besides this one");
  auto add = [&](std::vector<NewJob> jobs) {
    return o.relay      ? replicator->relay(std::move(jobs), static_cast<uint32_t>(o.copies))
           : replicator ? replicator->add(std::move(jobs))
                        : store.add(jobs);
  };
  Intake::Config taken{common.servers, o.work.functions, o.max_workload, takes_raw, answers_result ? o.waiting : 0};
  const Keys no_keys;
  PullService pull(store, no_keys);  // in a group, the replicator has one
  if (replicator) {
    taken.stores = [&] { return replicator->result_stores(); };
  } else {
    taken.stores = [&] { return std::vector{pull.name()}; };
    taken.others = {pull.service()};
  }
  Intake intake(store, std::move(taken), add, backlog);
  auto end_intake = [&] {
    if (replicator) replicator->hurry();
    intake.stop();
  };
  if (replicator) replicator->start();
  Cleaner cleaner(store);
  cleaner.start();
  Forwarder forwarder(store, common.servers);
  if (!o.local) forwarder.start();
  if (o.queue_only) {
    intake.start();
    wait_for_stop_signal(store, o.work.functions);
    end_intake();
    if (replicator) replicator->leave(o.replicate.config.peer_timeout, stop_signal_waits);
    return Exit::ok;
  }
  auto config = o.work.config(common.command);
  config.rules.keep = o.keep;
  config.until = o.drain ? Until::drained : Until::stopped;
  config.strict = o.strict;
  config.rules.then = o.then;
  const bool feeds_itself =
      std::find(config.functions.begin(), config.functions.end(), o.then.function) != config.functions.end();
  if (!feeds_itself) config.target_backlog = o.backlog != not_given ? o.backlog : default_backlog;
  Runner runner(store, config, backlog);
  if (!o.local) intake.start();
  bool good = runner.run(end_intake);
  if (replicator) replicator->leave(o.replicate.config.peer_timeout, stop_signal_waits);  // sends the last results
  return !good ? Exit::config : o.drain && runner.lost_output() ? Exit::storage : Exit::ok;
}

}  // namespace
}  // namespace gq

int main(int argc, char** argv) {
  gq::Options o;
  gq::Program program;
  program.name = "gq-worker";
  program.purpose = "Queues the jobs that Gearman clients send, durably, and runs a command for each.";
  program.usage = {"[OPTIONS] -f FUNCTION -- CMD [ARG...]", "[OPTIONS] -f FUNCTION --queue-only"};
  program.example = "gq-worker -f resize -- ./resize.sh";
  program.takes_command = true;
  program.options = [&](CLI::App& app) {
    o.work.add(app);
    o.replicate.add(app, true, true);
    app.add_flag("--relay", o.relay,
                 "Keep nothing here: jobs are for the other nodes of the group, which all run them");
    gq::add_count(app, "--copies", o.copies, "With --relay: answer when this many of them have a job (default: all)", 1,
                  64);
    app.option_defaults()->group("Jobs of clients");
    app.add_flag("--raw", o.raw, "With --auth: take raw jobs all the same, which any client can send");
    app.add_option("--answer", o.answer,
                   "When to answer a raw job whose client waits: queued, or result: with its output, when it has ended "
                   "(default queued)")
        ->type_name("WHEN")
        ->check(CLI::IsMember({"queued", "result"}));
    gq::add_count(app, "--waiting", o.waiting,
                  "With --answer result: how many raw jobs of each server are taken in whose clients wait (default 64)",
                  1, 1024);
    app.option_defaults()->group("Output of commands");
    auto* then = &gq::not_empty(*app.add_option("--then", o.then.function,
                                                "What a command prints becomes the workload of a job of this function")
                                     ->type_name("FUNCTION"));
    auto* lines = app.add_flag("--then-lines", o.then_lines, "With --then: each line becomes a job")->needs(then);
    app.add_flag("--then-null", o.then_null, "With --then: each NUL-ended item becomes a job")
        ->needs(then)
        ->excludes(lines);
    app.option_defaults()->group("Commands");
    app.add_flag("--keep", o.keep, "Keep the workloads of jobs that are done, until gq-flush --release");
    app.option_defaults()->group("Jobs of clients");
    app.add_flag("--local", o.local, "Serve the store only, without a server");
    app.add_flag("--queue-only", o.queue_only, "Take jobs in, run nothing");
    app.option_defaults()->group("Commands");
    app.add_flag("--drain", o.drain, "Exit when no job of the functions is left");
    app.add_flag("--strict", o.strict, "Exit with 78 when the command is missing or cannot be executed");
    app.option_defaults()->group("Jobs of clients");
    gq::add_count(app, "--backlog", o.backlog,
                  "Unfinished jobs to take in at most, and those of --then beyond which no job is started (default "
                  "10000; 0: no limit)",
                  0, 1'000'000'000'000);
    gq::add_size(app, "--max-workload", o.max_workload, "Refuse larger records (default 256M)");
  };
  program.body = [&](const gq::Common& common) { return gq::work(o, common); };
  return gq::run_program(argc, argv, program);
}
