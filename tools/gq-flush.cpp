// gq-flush: one pass over a store, for cron: runs what no living process holds. It exits when nothing is left to do now, says
// nothing when there was nothing to do, and never runs a job that is already running.
#include "frame.hpp"
#include "runner.hpp"
#include "store.hpp"
#include "text.hpp"
#include "work_options.hpp"

namespace gq {
namespace {

struct Options {
  WorkOptions work;
  bool all = false;
  bool dry_run = false;
};

Exit flush(const Options& o, const Common& common) {
  if (o.all != o.work.functions.empty())
    throw Error(Exit::usage, o.all ? "cannot use --all with -f" : "cannot flush: no function is given (-f FUNCTION, or --all)");
  for (const auto& f : o.work.functions) check_function(f);
  if (common.command.empty() && !o.dry_run) throw Error(Exit::usage, "cannot flush: no command is given (-- CMD)");
  auto config = o.work.config(common.command);
  config.until = Runner::Until::nothing_now;
  Store store(common.store, false);
  if (o.dry_run) {
    Store::ClaimRequest request;
    request.functions = o.work.functions;
    request.most = SIZE_MAX / 2;
    request.dry_run = true;
    for (const auto& claim : store.claim(request).jobs) print(claim.id + "\t" + claim.job.function + "\n");
    return Exit::ok;
  }
  block_signals();
  Backlog backlog;
  Runner(store, config, backlog).run([] {});
  return Exit::ok;
}

}  // namespace
}  // namespace gq

int main(int argc, char** argv) {
  gq::Options o;
  gq::Program program;
  program.name = "gq-flush";
  program.purpose = "Run once what no living worker holds: gq-flush -f FUNCTION -- CMD [ARG...]";
  program.takes_command = true;
  program.options = [&](CLI::App& app) {
    o.work.add(app);
    app.add_flag("--all", o.all, "Jobs of every function; the command sees which in GQ_FUNCTION");
    app.add_flag("-n,--dry-run", o.dry_run, "Print what would be run, run nothing");
  };
  program.body = [&](const gq::Common& common) { return gq::flush(o, common); };
  return gq::run_program(argc, argv, program);
}
