// gq-inspect: shows the content of a store, and checks the store. It never writes the journal.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "frame.hpp"
#include "gq/base/text.hpp"
#include "gq/base/ulid.hpp"
#include "gq/database/open_store.hpp"
#include "gq/replication/debts.hpp"
#include "gq/store/check.hpp"
#include "gq/store/exchange.hpp"
#include "gq/store/listing.hpp"
#include "gq/view/metrics.hpp"
#include "gq/view/report.hpp"
#include "gq/view/status.hpp"
#include "inspect_jobs.hpp"
#include "inspect_log.hpp"
#include "inspect_stats.hpp"
#include "inspect_top.hpp"
#include "results.hpp"

namespace gq {
namespace {

using Json = nlohmann::ordered_json;

struct Options {
  bool json = false;
  std::string id;
  std::vector<std::string> ids;  // or - for those on standard input
  std::string colour = "auto";
  View view;
  std::string store;
  ListOptions list;
  LogOptions log;
  std::string function;
  bool records = false;
  std::string range;
  bool history = false;
  Millis longest{0};
  bool waits = false;
  StatusLimits limits;
  bool nagios = false;
  std::string file;
  bool reasons = false;
};

std::optional<Claim> find(const Options& o, Ledger& ledger) {
  std::optional<Claim> found;
  if (const auto id = find_id(ledger, o.id))
    ledger.look([&](Fold& fold) {
      if (auto job = fold.get(*id)) found = Claim{*id, std::move(*job)};
    });
  if (!found) log(Level::error, "there is no job " + printable(o.id) + " in this store");
  return found;
}

// Returns each run of a job of which the journal still has records: when it began, and when, how and why it ended.
std::vector<Json> history_of(Ledger& ledger, const Claim& c) {
  std::vector<Json> runs;
  bool is_open = false;
  uint32_t attempts = 0;
  auto end = [&](const auto& event, const char* result) {
    if (!std::exchange(is_open, false)) runs.push_back(Json::object());
    Json& run = runs.back();
    run["ended_at"] = format_time(event.at);
    run["result"] = result;
    if constexpr (requires { event.why; })
      if (!event.why.empty()) run["reason"] = event.why;
    if (event.exit != no_exit) run["exit_status"] = event.exit;
    if (event.signal) run["signal"] = event.signal;
  };
  EventReader reader = ledger.read(0);
  reader.skip_to(c.job.first_lsn);
  for (auto item = reader.next(); item != JournalReader::Item::end; item = reader.next()) {
    if (item != JournalReader::Item::record) continue;
    const Event& event = reader.event();
    // A claim record shows that the previous owner was dead: a process claims a job only if no living process holds it.
    if (auto* claim = std::get_if<event::Claim>(&event);
        claim && is_open && std::find(claim->ids.begin(), claim->ids.end(), c.id) != claim->ids.end()) {
      runs.back()["result"] = "cut off";
      is_open = false;
    }
    if (id_of(event) != c.id) continue;
    if (auto* start = std::get_if<event::Start>(&event)) {
      runs.push_back({{"attempt", attempts + 1}, {"started_at", format_time(start->at)}});
      is_open = true;
    } else if (auto* fail = std::get_if<event::Fail>(&event); fail && is_open) {
      end(*fail, fail->spent ? "failed" : "cut off");
      attempts += fail->spent;
    } else if (auto* dead = std::get_if<event::Dead>(&event)) {
      end(*dead, dead->spent ? "failed" : is_open ? "cut off" : "not run");
      attempts += dead->spent;
    } else if (auto* done = std::get_if<event::Done>(&event)) {
      end(*done, "done");
    } else if (is_any_of<event::Kick>(event)) {
      attempts = 0;
    }
  }
  return runs;
}

Exit show(const Options& o, Queue& store) {
  auto job = find(o, store);
  if (!job) return Exit::no;
  auto holder = find_holder(store, *job);
  Json json = job_json(*job, holder, Waits(store));
  if (!o.json && job->job.dropped) json["state"] = "dropped";
  if (o.history) json["history"] = history_of(store, *job);
  if (o.json) {
    print(json_line(json));
  } else {
    auto text = [](const Json& value) {
      return value.is_string() ? printable(value.get<std::string>(), 1000) : value.dump();
    };
    for (const auto& [key, value] : json.items())
      if (key != "history") print(text_line({key + ": " + text(value)}));
    for (const auto& run : o.history ? json["history"] : Json::array()) {
      std::string line;
      for (const auto& [key, value] : run.items()) line += (line.empty() ? "" : " ") + key + " " + text(value);
      print(text_line({"run: " + line}));
    }
  }
  return Exit::ok;
}

Exit cat(const Options& o, Ledger& ledger) {
  auto job = find(o, ledger);
  if (!job) return Exit::no;
  std::string reason;
  auto workload = ledger.workload(job->id, job->job, reason);
  if (!workload && job->job.state == State::finished) reason = "the job is finished";
  if (!workload) {
    log(Level::error, "cannot show the workload of " + job->id + ": " + reason);
    return job->job.state == State::finished ? Exit::no : Exit::storage;
  }
  const uint64_t size = job->job.size;
  ByteRange range{0, size};
  if (!o.range.empty()) {
    auto parsed = parse_range(o.range);
    if (!parsed) throw Error(Exit::usage, "cannot use --range " + printable(o.range) + ": it is not OFFSET:LENGTH");
    range = *parsed;
    if (range.length == UINT64_MAX && range.offset <= size) range.length = size - range.offset;
    if (range.offset > size || range.length > size - range.offset)
      throw Error(Exit::usage, "cannot show the range " + printable(o.range) + ": the workload has only " +
                                   std::to_string(size) + " bytes");
  }
  if (workload->blob) print_part(workload->blob.get(), workload->offset + range.offset, range.length);
  else print_workload(std::string_view(workload->data).substr(range.offset, range.length));
  return Exit::ok;
}

Exit output(const Options& o, Queue& store) {
  Exit result = Exit::ok;
  for (const auto& id : find_ids(store, o.ids)) {
    std::optional<Job> job;
    store.look([&](Fold& fold) { job = fold.get(id); });
    std::string reason;
    if (!job) reason = "there is no such job in this store";
    else if (job->output != Kept::whole)
      reason = has_ended(*job) || job->state == State::dead ? no_output_reason(*job, store.group().self.node)
                                                            : std::string("it has not ended");
    if (reason.empty()) {
      print_output(store, id, *job);
      continue;
    }
    log(Level::error, "cannot show the output of " + id + ": " + reason);
    result = Exit::no;
  }
  return result;
}

Exit wait_for_ends(const Options& o, Queue& store) {
  WaitOptions options{.json = o.json};
  if (o.longest.count()) options.longest = o.longest;
  return static_cast<Exit>(wait_for_results(store, find_ids(store, o.ids), options));
}

Exit status(const Options& o, Queue& store) {
  const Status found = status_of(overview_of(store), o.limits);
  if (o.nagios) {
    print(nagios_line(found) + "\n");
    return static_cast<Exit>(found.level());
  }
  print(o.json ? json_line(status_json(found)) : status_line(found) + "\n");
  return found.problems.empty() ? Exit::ok : Exit::no;
}

// Prints a text, or makes it the content of a file at once: a program that reads the file sees the old content or the
// new one.
void print_or_replace(const std::string& path, const std::string& text) {
  if (path.empty()) return print(text);
  struct stat st;
  if (::stat(path.c_str(), &st) == 0 && !S_ISREG(st.st_mode))
    throw Error(Exit::usage, "cannot write " + printable(path) + ": it is not a regular file");
  const std::string temporary = path + "." + new_ulid() + ".new";
  Fd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (!fd) throw_errno(Exit::storage, "create " + printable(temporary));
  try {
    write_all(fd.get(), text, temporary);
    if (::fdatasync(fd.get()) != 0) throw_errno(Exit::storage, "sync " + printable(temporary));
    if (::rename(temporary.c_str(), path.c_str()) != 0) throw_errno(Exit::storage, "replace " + printable(path));
  } catch (const Error&) {
    ::unlink(temporary.c_str());
    throw;
  }
}

Exit metrics(const Options& o, Queue& store) {
  std::map<std::string, FunctionTally> tallies;
  store.look([&](Fold& fold) { tallies = fold.tally().functions(); });
  const auto found = metrics_of(overview_of(store), tallies);
  std::string text;
  if (!o.json) text = metrics_text(found);
  else
    for (const auto& sample : metrics_json(found)) text += json_line(sample);
  print_or_replace(o.file, text);
  return Exit::ok;
}

Exit report(const Options& o, Queue& store) {
  print_or_replace(o.file, report_html(report_of(store, o.reasons)));
  return Exit::ok;
}

// Adds an option with a limit, or with two of them and a comma between: of a warning, and of a critical state.
template <typename Parse>
void add_limit(CLI::App& app, const char* name, std::optional<Threshold>& limit, const char* help, const char* type,
               const char* kind, Parse parse) {
  app.add_option_function<std::string>(
         name,
         [&limit, name, kind, parse](const std::string& text) {
           const auto parts = split(text, ',');
           std::vector<uint64_t> values;
           for (const auto& part : parts)
             if (auto value = parse(part)) values.push_back(static_cast<uint64_t>(*value));
           if (values.size() != parts.size() || values.empty() || values.size() > 2)
             throw CLI::ValidationError(name, printable(text) + " is not " + kind + ", or two of them with a comma");
           limit = Threshold{values[0], values.size() > 1 ? std::optional(values[1]) : std::nullopt};
         },
         help)
      ->type_name(type);
}

void add_status(CLI::App& app, Options& o) {
  const auto count = [](const std::string& text) { return parse_count(text); };
  const auto size = [](const std::string& text) { return parse_size(text); };
  const auto duration = [](const std::string& text) -> std::optional<int64_t> {
    const auto value = parse_duration(text);
    return value ? std::optional(value->count()) : std::nullopt;
  };
  app.add_option("-f,--function", o.limits.functions, "Only these functions")->type_name("FUNCTION");
  add_limit(app, "--dead-over", o.limits.dead, "Wrong if more jobs are dead", "N", "a number", count);
  add_limit(app, "--oldest-over", o.limits.oldest, "Wrong if a job that could run waits for longer", "DUR",
            "a duration such as 90, 10m or 2h", duration);
  add_limit(app, "--queued-over", o.limits.queued, "Wrong if more jobs are queued", "N", "a number", count);
  add_limit(app, "--owed-over", o.limits.owed, "Wrong if more jobs are still to be sent to another node", "N",
            "a number", count);
  app.add_flag("--no-worker", o.limits.worker, "Wrong if no worker runs jobs that could run");
  add_limit(app, "--disk-under", o.limits.disk, "Wrong if fewer bytes of the disk are free", "SIZE",
            "a size such as 512M or 2G", size);
  app.add_flag("--nagios", o.nagios, "The line, and the exit status 0 to 3, that Nagios and Icinga read");
}

Exit check(const Options& o, Ledger& ledger) {
  bool ok = true;
  Display display;
  auto found = [&](const Finding& f) {
    ok = ok && !f.is_bad;
    display.clear();
    if (o.json) print(json_line({{"kind", f.kind}, {"lsn", f.lsn}, {"id", f.id}, {"text", f.text}, {"bad", f.is_bad}}));
    else if (f.is_bad || std::string_view(f.kind) == "unknown")
      print(text_line({std::string(f.kind) + " at " + std::to_string(f.lsn) + (f.id.empty() ? "" : ", job " + f.id) +
                       ": " + f.text}));
  };
  auto progress = [&](const CheckProgress& p) {
    display.show(std::to_string(p.read >> 20) + " of " + std::to_string(p.journal >> 20) + " MiB of the journal, " +
                 counted(p.jobs, "job"));
  };
  check_store(ledger, found, display.is_on() ? progress : std::function<void(const CheckProgress&)>());
  return ok ? Exit::ok : Exit::no;
}

// Adds the fields of an event, under the names that users know. Leaves out fields with their usual values.
void tell(Json& json, const Event& event, uint64_t size) {
  auto text = [&](const char* name, const std::string& value) {
    if (!value.empty()) json[name] = value;
  };
  auto number = [&](const char* name, uint32_t value, uint32_t usual = 0) {
    if (value != usual) json[name] = value;
  };
  auto flag = [&](const char* name, bool value, bool usual = false) {
    if (value != usual) json[name] = value;
  };
  auto time = [&](const char* name, Millis value) {
    if (value.count()) json[name] = format_time(value);
  };
  std::visit(
      [&]<typename E>(const E& e) {
        json["type"] = written_type(e);
        if constexpr (requires { e.id; }) json["id"] = e.id;
        if constexpr (requires { e.asked; }) json["function"] = e.asked.function;
        if constexpr (requires { e.function; }) json["function"] = e.function;
        json["at"] = format_time(e.at);
        if constexpr (requires { e.ids; }) json["ids"] = e.ids;
        if constexpr (requires { e.first; }) json["first"] = e.first;
        if constexpr (std::is_same_v<E, event::Add>) {
          json["size"] = size;
          number("after", e.asked.after), flag("after_any", e.asked.after_any);
          if (!e.parents.empty()) json["parents"] = e.parents;
          if (!e.met.empty()) json["met"] = e.met;
          if (!e.part.source.empty())
            json.update({{"from", e.part.source}, {"offset", e.part.offset}, {"length", e.part.length}});
          time("due_at", e.asked.due);
          time("expires_at", e.asked.expire);
          if (e.asked.priority != normal_priority) json["priority"] = priority_name(e.asked.priority);
          text("key", e.asked.key), text("serial", e.asked.serial), text("name", e.asked.name);
          text("parent", e.descent.parent), number("parent_start", e.descent.start);
        }
        if constexpr (requires { e.children; }) number("children", e.children);
        if constexpr (requires { e.keep; }) flag("keep", e.keep);
        if constexpr (requires { e.owner; }) text("owner", e.owner);
        if constexpr (requires { e.start; }) number("start", e.start);
        if constexpr (requires { e.starts; }) number("start", e.starts);
        if constexpr (requires { e.due; }) time("due_at", e.due);
        if constexpr (requires { e.spent; }) flag("spent", e.spent, true);
        if constexpr (requires { e.limit; }) number("limit", e.limit);
        if constexpr (std::is_same_v<E, event::Rate>) text("rate", e.starts ? rate_text({e.starts, e.period}) : "none");
        if constexpr (requires { e.unlimited; }) flag("unlimited", e.unlimited);
        if constexpr (requires { e.to; }) text("to", e.to);
        if constexpr (requires { e.letter; }) text("letter", e.letter);
        if constexpr (requires { e.exit; }) number("exit_status", e.exit, no_exit), number("signal", e.signal);
        if constexpr (requires { e.attempts; }) number("attempts", e.attempts);
        if constexpr (requires { e.dropped; }) flag("dropped", e.dropped);
        if constexpr (requires { e.lifted; }) flag("lifted", e.lifted);
        if constexpr (requires { e.cancelled; }) flag("cancelled", e.cancelled);
        if constexpr (requires { e.why; }) text("reason", e.why);
        if constexpr (requires { e.node; }) text("node", e.node);
        if constexpr (requires { e.copies; }) number("copies", e.copies);
        if constexpr (std::is_same_v<E, event::Counts>)
          json.update({{"mark", e.mark}, {"functions", e.functions}, {"minutes", e.minutes}, {"last", e.last}});
        if constexpr (std::is_same_v<E, event::Copied>) json["peers"] = e.peers;
        if constexpr (std::is_same_v<E, event::Peer>) json["position"] = e.position;
        if constexpr (std::is_same_v<E, event::State>)
          json.update({{"state", e.state}, {"term", e.term}, {"version", e.version}, {"from", e.from}});
      },
      event);
}

Exit journal(const Options& o, Ledger& ledger) {
  if (o.records) {
    if (::isatty(STDOUT_FILENO)) throw Error(Exit::usage, "cannot write a stream of jobs to a terminal");
    Exit result = Exit::ok;
    write_stream(
        ledger, {}, [](std::string_view bytes) { print(bytes); },
        [&](const std::string& what) {
          log(Level::error, what);
          result = Exit::storage;
        });
    return result;
  }
  EventReader reader = ledger.read(0);
  for (auto item = reader.next(); item != JournalReader::Item::end; item = reader.next()) {
    Json json = {{"lsn", reader.lsn()}};
    if (item == JournalReader::Item::record) {
      tell(json, reader.event(), reader.head().data_size);
    } else {
      json["type"] = item == JournalReader::Item::damage ? "damage"
                     : item == JournalReader::Item::torn ? "torn"
                                                         : "missing";
      json["end"] = reader.position();
    }
    print(json_line(json));
  }
  return Exit::ok;
}

}  // namespace
}  // namespace gq

int main(int argc, char** argv) {
  gq::Options o;
  gq::Program program;
  std::function<gq::Exit(const gq::Options&, gq::Queue&)> action;
  program.name = "gq-inspect";
  program.purpose = "Shows what a store holds, and checks it.";
  program.usage = {"[OPTIONS] SUBCOMMAND"};
  program.example = "gq-inspect list --state dead";
  program.dies_of_sigpipe = true;
  program.options = [&](CLI::App& app) {
    app.require_subcommand(1);
    app.add_flag("--json", o.json, "JSON, one object a line");
    app.add_option("--color", o.colour, "Colours, and tables: auto (on a terminal), always or never")
        ->type_name("WHEN")
        ->check(CLI::IsMember({"auto", "always", "never"}));
    auto add = [&](const char* name, const char* help, auto run) {
      auto* sub = app.add_subcommand(name, help);
      sub->final_callback([&action, run] { action = run; });
      return sub;
    };
    auto* list =
        add("list", "The jobs that are queued, running, delayed, waiting, pending, spooled, held, dead or kept",
            [](auto& options, auto& store) { return gq::list(options.list, options.view, store); });
    o.list.add_to(*list);
    auto* show = add("show", "One job", gq::show);
    show->add_option("ID", o.id, "The job")->required();
    show->add_flag("--history", o.history, "Each of its runs too, and how it ended, as far as the journal still says");
    auto* cat = add("cat", "A job's workload", gq::cat);
    cat->add_option("ID", o.id, "The job")->required();
    gq::not_empty(*cat->add_option("--range", o.range, "Only this part of it, OFFSET:LENGTH in bytes")
                       ->type_name("OFFSET:LENGTH"));
    auto* output = add("output", "What the commands of jobs printed, one after the other", gq::output);
    output->add_option("ID", o.ids, "The jobs; - reads their IDs from standard input, one a line")->required();
    auto* log = add("log", "What the attempts of a job wrote to the files of gq-worker --output",
                    [](auto& options, auto& store) { return gq::print_log(options.log, store); });
    log->add_option("ID", o.log.id, "The job")->required();
    log->add_flag("-f,--follow", o.log.follows, "Go on until the job has ended");
    gq::not_empty(*log->add_option("--output", o.log.directory,
                                   "The directory of the files (default: those of the workers that run now)")
                       ->type_name("DIR"));
    auto* wait = add("wait", "Wait for the ends of jobs, and print what their commands printed",
                     [&](auto& options, auto& store) {
                       o.waits = true;
                       return gq::wait_for_ends(options, store);
                     });
    wait->add_option("ID", o.ids, "The jobs; - reads their IDs from standard input, one a line")->required();
    gq::add_duration(*wait, "--for", o.longest, "How long to wait at most (default: for ever)");
    add("stats", "How many jobs there are, by function and state",
        [](auto& options, auto& store) {
          return gq::stats({options.json, options.function}, options.view, store);
        })
        ->add_option("-f,--function", o.function, "Only this function")
        ->type_name("FUNCTION");
    auto* metrics = add("metrics", "Numbers for Prometheus, in its text format", gq::metrics);
    gq::not_empty(*metrics->add_option("-o,--output", o.file, "Replace this file at once, instead of printing"))
        .type_name("FILE");
    auto* report =
        add("report", "A page of HTML: what there is, charts of the last day, the newest dead jobs", gq::report);
    gq::not_empty(*report->add_option("-o,--output", o.file, "Replace this file at once, instead of printing"))
        .type_name("FILE");
    report->add_flag("--reasons", o.reasons,
                     "Also why jobs are dead: what commands write to standard error may be secret");
    add("top", "A view of the whole store that is refreshed each second",
        [](auto& options, auto& store) { return gq::top(options.view, options.store, store); });
    auto* status = add("status", "One line: whether something is wrong; exit 1 if it is", gq::status);
    gq::add_status(*status, o);
    add("check", "Verify every checksum, and the index; exit 1 if something is wrong", gq::check);
    app.add_subcommand("confirm",
                       "Trust the file database of the store's directory: the program that it names may be run");
    add("journal", "The records of the journal, as JSON lines", gq::journal)
        ->add_flag("--records", o.records, "The jobs that are not finished instead, as gq-snapshot export writes them");
  };
  program.body = [&](const gq::Common& common) {
    if (!o.function.empty()) gq::check_function(o.function);
    for (const auto& function : o.limits.functions) gq::check_function(function);
    o.list.json = o.json;
    o.view = gq::view_of_output(o.colour);
    o.store = common.store;
    if (!action) {
      gq::confirm_database(common.store);
      return gq::Exit::ok;
    }
    try {
      gq::Queue store = gq::open_store(common.store, false);
      gq::EndsInOrder in_order([&] {
        gq::leave_screen();
        store.leave_for_good();
      });
      return action(o, store);
    } catch (const gq::Error& e) {
      if (o.nagios) {
        gq::print(gq::nagios_unknown(e.what()) + "\n");
        return static_cast<gq::Exit>(gq::Severity::unknown);
      }
      if (!o.waits || e.code() == gq::Exit::usage || e.code() == gq::Exit::bad_data) throw;
      throw gq::Error(gq::no_result, e.what(), e.error_number());
    }
  };
  const int code = gq::run_program(argc, argv, program);
  // A monitor knows only the statuses 0 to 3, and reads standard output.
  if (code <= static_cast<int>(gq::Severity::unknown) ||
      std::find(argv, argv + argc, std::string_view("--nagios")) == argv + argc)
    return code;
  const std::string line = gq::nagios_unknown("gq-inspect could not run; its standard error says why") + "\n";
  [[maybe_unused]] const ssize_t n = ::write(STDOUT_FILENO, line.data(), line.size());
  return static_cast<int>(gq::Severity::unknown);
}
