// gq-snapshot: makes consistent copies of a store while other processes continue, and streams of its jobs. Processes
// that write to the store never wait for it. A snapshot becomes visible only when all of it is on stable storage.
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "frame.hpp"
#include "gq/base/text.hpp"
#include "gq/database/open_store.hpp"
#include "gq/store/exchange.hpp"
#include "gq/store/snapshot.hpp"
#include "replicate_options.hpp"

namespace gq {
namespace {

constexpr size_t batch_jobs = 1000;
constexpr size_t batch_bytes = 8 << 20;
constexpr uint64_t most_named = 100;  // the most records whose failure is reported by a line each

struct Options {
  ReplicateOptions replicate;
  std::string directory, function;
  std::vector<std::string> states;
  Retention retention;
  bool json = false;
  uint64_t max_workload = 256 << 20;
};

// Returns a callback that shows the progress.
ShowProgress files(Display& display) {
  if (!display.is_on()) return {};
  return [&display](uint64_t files, uint64_t bytes) {
    display.show(counted(files, "file") + ", " + std::to_string(bytes >> 20) + " MiB");
  };
}

Exit create(Options& o, const Common& common) {
  Queue store = open_store(common.store, false);
  EndsInOrder in_order([&] { store.leave_for_good(); });
  Display display;
  auto snapshot = create_snapshot(store, o.directory, files(display));
  display.clear();
  log(Level::info,
      snapshot.path + ": " + counted(snapshot.jobs, "job") + ", " + std::to_string(snapshot.bytes) + " bytes");
  if (!snapshot.damaged) return Exit::ok;
  log(Level::warning,
      snapshot.path +
          ": something of the store is damaged or missing (gq-inspect check tells what); the snapshot has the rest");
  return Exit::no;
}

// Returns the snapshots in the given directory. Prints each error in their manifests.
std::vector<Snapshot> find(const Options& o, bool& good) {
  auto all = list_snapshots(o.directory, [&](const std::string& path, const std::string& why) {
    good = false;
    print(text_line({path + ": " + why}));
  });
  if (all.empty() && good) throw Error(Exit::no_input, "cannot find a snapshot in " + printable(o.directory));
  return all;
}

Exit verify(Options& o, const Common&) {
  bool good = true;
  Display display;
  for (const auto& s : find(o, good))
    good &= verify_snapshot(
        s,
        [&](const std::string& path, const std::string& why) {
          display.clear();
          print(text_line({path + ": " + why}));
        },
        files(display));
  return good ? Exit::ok : Exit::no;
}

Exit restore(Options& o, const Common& common) {
  if (has_database(common.store))
    throw Error(
        Exit::config,
        "cannot restore into a database: restore into a directory, and export from there to gq-snapshot import");
  if (file_exists(o.directory + "/gq.json") && !file_exists(o.directory + "/manifest"))
    throw Error(Exit::no_input, "cannot restore " + printable(o.directory) + ": it is a store, and no snapshot");
  bool good = true;
  auto all = find(o, good);
  if (!good)
    throw Error(Exit::bad_data,
                "cannot restore: a snapshot in " + printable(o.directory) + " is damaged; name the one to restore");
  if (const auto& last = all.back(); last.damaged && !std::filesystem::equivalent(last.path, o.directory))
    throw Error(Exit::bad_data,
                "cannot restore: the last snapshot, " + last.name + ", is of a damaged store; name the one to restore");
  Display display;
  const Group group = restore_snapshot(all.back(), common.store, files(display));
  display.clear();
  log(Level::info, common.store + ": restored from " + all.back().path);
  if (group)
    log(Level::warning,
        common.store + " is " + group.self.node +
            " of a replication group: its workers take jobs from the programs that serve the group's other nodes");
  return Exit::ok;
}

Exit list(Options& o, const Common&) {
  bool good = true;
  for (const auto& s : find(o, good)) {
    nlohmann::ordered_json json = {{"name", s.name},        {"created_at", format_time(s.created_at)},
                                   {"jobs", s.jobs},        {"bytes", s.bytes},
                                   {"files", s.file_count}, {"position", s.position},
                                   {"store", s.store}};
    if (s.damaged) json["damaged"] = true;
    if (o.json) print(json_line(json));
    else
      print(text_line(s.damaged
                          ? std::vector<std::string>{s.name, std::to_string(s.jobs), std::to_string(s.bytes), "damaged"}
                          : std::vector<std::string>{s.name, std::to_string(s.jobs), std::to_string(s.bytes)}));
  }
  return good ? Exit::ok : Exit::no;
}

Exit prune(Options& o, const Common&) {
  const Retention& r = o.retention;
  if (r.last + r.hourly + r.daily + r.weekly + r.monthly + r.yearly == 0)
    throw Error(Exit::usage, "cannot prune: nothing says what to keep (--keep-last N, --keep-daily N, ...)");
  bool good = true;
  auto removed = prune_snapshots(o.directory, r, [&](const std::string& path, const std::string& why) {
    good = false;
    log(Level::error, "cannot remove " + path + ": " + why);
  });
  for (const auto& name : removed) log(Level::info, "removed " + name);
  return good ? Exit::ok : Exit::storage;
}

Exit export_jobs(Options& o, const Common& common) {
  if (::isatty(STDOUT_FILENO)) throw Error(Exit::usage, "cannot write a stream of jobs to a terminal");
  Queue store = open_store(common.store, false);
  EndsInOrder in_order([&] { store.leave_for_good(); });
  if (!o.function.empty()) check_function(o.function);
  Display display;
  uint64_t bytes = 0;
  uint64_t left_out = 0;
  auto write = [&](std::string_view piece) {
    print(piece);
    display.show(std::to_string((bytes += piece.size()) >> 20) + " MiB");
  };
  write_stream(store, {o.function, {o.states.begin(), o.states.end()}}, write, [&](const std::string& what) {
    display.clear();
    log(Level::error, what + "; the job is left out");
    ++left_out;
  });
  if (left_out == 0) return Exit::ok;
  throw Error(Exit::storage, "cannot export all: " + counted(left_out, "part") + " of the store could not be read");
}

// Queues the jobs of a stream. Jobs that the store already has stay unchanged.
class Importer {
 public:
  Importer(Options& o, const Common& common) : m_store(open_store(common.store, true)) {
    m_replicator = o.replicate.open(m_store, common);
  }

  void add(event::State state) {
    if (std::max(state.at, state.due) > last_time) return skip(state.id + ": its times are after the year 9999");
    const Self& self = m_store.group().self;
    state.node = self.node;
    state.store = self.store;
    state.from.clear();
    state.from_store.clear();
    // In the stream, the state record follows the add record of its job.
    if (!m_jobs.empty() && m_jobs.back().add.id == state.id) m_jobs.back().state = encode_record(state);
  }

  void add(NewJob job) {
    // Reduce the job's values to the present limits, because the stream may come from another version; do not skip the
    // job for that.
    Submission& asked = job.add.asked;
    job.add.at = std::min(job.add.at, now_ms());
    asked.due = std::min(asked.due, last_time);
    asked.window = std::min(asked.window, longest_window);
    asked.expire = std::min(asked.expire, now_ms() + longest_wait);
    asked.max_attempts = std::min(asked.max_attempts, most_attempts);
    // The store must know the jobs that a job is after.
    const bool is_after = std::any_of(m_jobs.begin(), m_jobs.end(), [&](const NewJob& other) {
      return std::find(job.parents.begin(), job.parents.end(), other.add.id) != job.parents.end();
    });
    if (m_jobs.size() >= batch_jobs || m_bytes >= batch_bytes || is_after) flush();
    job.add.given = true;  // then the store checks whether the ID belongs to another job
    job.add.node.clear();
    job.add.store.clear();
    job.add.copies = 0;
    job.add.once = false;
    job.add.parents.clear(), job.add.met.clear();  // after records name them
    job.encode();
    m_bytes += job.data.size();
    m_jobs.push_back(std::move(job));
  }

  void flush() {
    if (m_jobs.empty()) return;
    std::vector<std::string> ids;
    for (const auto& job : m_jobs) ids.push_back(job.add.id);
    // The state must not be applied to another job that has this ID in the store.
    m_store.look([&](Fold& fold) {
      for (auto& job : m_jobs) {
        auto known = fold.get(job.add.id);
        if (known && !is_same(job.add, job.data.size(), job.data_sum, *known)) job.state.clear();
      }
    });
    auto answers = m_replicator ? m_replicator->add(std::move(m_jobs)) : m_store.add(m_jobs);
    m_jobs.clear();
    m_bytes = 0;
    std::string failure;
    for (size_t i = 0; i < answers.size(); ++i) {
      const Answer& a = answers[i];
      if (a.outcome == Outcome::queued || a.outcome == Outcome::same) ++m_count;
      else if (a.outcome == Outcome::conflict) skip(ids[i] + ": another job has this ID or key");
      else if (a.outcome == Outcome::bad) skip(ids[i] + ": " + a.reason);
      else if (a.outcome == Outcome::unknown &&
               m_replicator) {  // too few nodes take this job, which may be due to this job alone
        skip(ids[i] + ": unknown whether queued: " + a.reason);
        m_unsure = true;
      } else {
        failure = ids[i] + (a.outcome == Outcome::unknown ? ": unknown whether queued: " : ": not queued: ") + a.reason;
      }
    }
    if (!failure.empty()) throw Error(m_replicator ? Exit::retry : Exit::storage, failure);
    m_display.show(counted(m_count, "job"));
  }

  // Reports a job or record that is not imported. The following ones are still imported.
  void skip(const std::string& what) {
    m_display.clear();
    if (m_skipped++ < most_named) log(Level::error, what);
  }

  uint64_t count() const { return m_count; }

  Exit result() const {
    if (m_skipped > 0)
      log(Level::error,
          "cannot import all: " + counted(m_skipped, "record") + (m_skipped == 1 ? " was" : " were") + " left out");
    return m_unsure ? Exit::retry : m_skipped ? Exit::bad_data : Exit::ok;
  }

 private:
  Queue m_store;
  std::unique_ptr<Replicator> m_replicator;
  Display m_display;
  std::vector<NewJob> m_jobs;
  uint64_t m_bytes = 0, m_count = 0;
  uint64_t m_skipped = 0;
  bool m_unsure = false;
};

Exit import_jobs(Options& o, const Common& common) {
  Importer importer(o, common);
  StreamReader stream(STDIN_FILENO, o.max_workload, [&](const std::string& what) { importer.skip(what); });
  try {
    while (auto item = stream.next()) std::visit([&](auto& said) { importer.add(std::move(said)); }, *item);
    importer.flush();
  } catch (const Error& e) {
    if (e.code() == Exit::bad_data || e.code() == Exit::no_input) importer.flush();
    throw Error(e.code(), std::string("cannot import all: ") + e.what() + "; " + counted(importer.count(), "job") +
                              " before that " + (importer.count() == 1 ? "is" : "are") + " queued");
  }
  log(Level::info, counted(importer.count(), "job") + " queued");
  return importer.result();
}

}  // namespace
}  // namespace gq

int main(int argc, char** argv) {
  gq::Options o;
  gq::Program program;
  std::function<gq::Exit(gq::Options&, const gq::Common&)> action;
  program.name = "gq-snapshot";
  program.purpose = "Copies a store while it is in use, restores it, and moves jobs elsewhere.";
  program.usage = {"[OPTIONS] SUBCOMMAND"};
  program.example = "gq-snapshot create /backup/gq";
  program.takes_files = true;
  program.options = [&](CLI::App& app) {
    app.require_subcommand(1);
    app.add_flag("--json", o.json, "list: JSON, one object a line");
    auto add = [&](const char* name, const char* help, auto run, const char* directory) {
      auto* sub = app.add_subcommand(name, help);
      if (directory) gq::not_empty(*sub->add_option("DIRECTORY", o.directory, directory)->required());
      sub->final_callback([&action, run] { action = run; });
      return sub;
    };
    add("create", "Make a snapshot of the store", gq::create, "Where the snapshots are; made if it is missing");
    add("verify", "Read every file of snapshots, and print which are not what they were; exit 1 if any", gq::verify,
        "Where the snapshots are, or one of them");
    add("restore", "Copy a snapshot to --store, which must not be there yet", gq::restore,
        "One of them, or where they are: then the last one");
    add("list", "The snapshots: name, jobs, bytes", gq::list, "Where they are");
    auto* prune = add("prune", "Remove snapshots but for those that are to be kept", gq::prune, "Where they are");
    auto keep = [&](const char* name, uint64_t& value, const char* help) {
      gq::add_count(*prune, name, value, help, 1, 1'000'000);
    };
    keep("--keep-last", o.retention.last, "Keep this many of the last ones");
    keep("--keep-hourly", o.retention.hourly, "Keep the last one of each hour, for this many hours");
    keep("--keep-daily", o.retention.daily, "... days");
    keep("--keep-weekly", o.retention.weekly, "... weeks");
    keep("--keep-monthly", o.retention.monthly, "... months");
    keep("--keep-yearly", o.retention.yearly, "... years");
    auto* out =
        add("export", "Write the jobs that are not finished to standard output, as a stream", gq::export_jobs, nullptr);
    out->add_option("-f,--function", o.function, "Only those of one function")->type_name("FUNCTION");
    out->add_option("--state", o.states, "Only those in this state; may be repeated")
        ->type_name("STATE")
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
        ->expected(1)
        ->allow_extra_args(false)
        ->check(
            CLI::IsMember({"queued", "running", "delayed", "waiting", "pending", "spooled", "held", "dead", "kept"}));
    auto* in = add("import", "Queue the jobs of a stream on standard input", gq::import_jobs, nullptr);
    gq::add_size(*in, "--max-workload", o.max_workload, "Leave out larger jobs (default 256M)");
    o.replicate.add(*in, true, false);
  };
  program.body = [&](const gq::Common& common) { return action(o, common); };
  return gq::run_program(argc, argv, program);
}
