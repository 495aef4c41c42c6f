#include "gq/view/metrics.hpp"

#include <charconv>
#include <nlohmann/json.hpp>

#include "gq/base/text.hpp"

namespace gq {
namespace {

using Labels = std::vector<std::pair<std::string, std::string>>;

// The numbers of one label: of a function, or of all functions that have no label of their own.
struct Labelled {
  std::array<uint64_t, state_count> jobs{};
  uint64_t bytes = 0, paused = 0;
  std::optional<Millis> waits_since{};
  FunctionTally tally{};

  uint64_t at(State state) const { return jobs[static_cast<size_t>(state)]; }
};

std::map<std::string, Labelled> labelled_of(const Overview& overview,
                                            const std::map<std::string, FunctionTally>& tallies) {
  std::map<std::string, Labelled> labelled;
  for (const auto& [name, tally] : tallies) labelled[name == other_functions ? all_others : name].tally = tally;
  for (const auto& [name, f] : overview.functions) {
    Labelled& one = labelled[labelled.count(name) || labelled.size() < most_tallied ? name : all_others];
    for (size_t i = 0; i < state_count; ++i) one.jobs[i] += f.counters.jobs[i];
    one.bytes += f.counters.bytes;
    one.paused += f.paused.has_value();
    if (f.waits_since) one.waits_since = std::min(one.waits_since.value_or(*f.waits_since), *f.waits_since);
  }
  return labelled;
}

double seconds(double ms) { return ms / 1000; }

std::string number(double value) {
  char text[40];
  const auto end = std::to_chars(text, text + sizeof text, value);
  return std::string(text, end.ptr);
}

void add_histogram(Metric& metric, const Labels& labels, const FunctionTally& tally, size_t buckets, size_t sum) {
  double n = 0;
  const auto add = [&](const char* suffix, double value, const std::string& bound = {}) {
    Labels all = labels;
    if (!bound.empty()) all.emplace_back("le", bound);
    metric.samples.push_back({suffix, std::move(all), value});
  };
  for (size_t i = 0; i < bucket_count; ++i) {
    n += static_cast<double>(tally.values[buckets + i]);
    add("_bucket", n, i < bucket_bounds.size() ? number(seconds(static_cast<double>(bucket_bounds[i]))) : "+Inf");
  }
  add("_sum", seconds(static_cast<double>(tally.values[sum])));
  add("_count", n);
}

// In a help text, and in the value of a label, some characters are escaped.
std::string escaped(std::string_view text, bool is_label) {
  std::string out;
  for (const char c : text) {
    if (c == '\\') out += "\\\\";
    else if (c == '\n') out += "\\n";
    else if (c == '"' && is_label) out += "\\\"";
    else out += c;
  }
  return out;
}

}  // namespace

std::vector<Metric> metrics_of(const Overview& overview, const std::map<std::string, FunctionTally>& tallies) {
  const auto labelled = labelled_of(overview, tallies);
  std::vector<Metric> all;
  const auto metric = [&](const char* name, const char* type, const char* help) -> Metric& {
    return all.emplace_back(Metric{name, type, help});
  };
  const auto per_group = [&](const char* name, const char* type, const char* help, auto value) {
    Metric& m = metric(name, type, help);
    for (const auto& [function, one] : labelled)
      m.samples.push_back({{}, {{"function", function}}, static_cast<double>(value(one))});
  };
  const auto single = [&](const char* name, const char* help, double value) {
    metric(name, "gauge", help).samples.push_back({{}, {}, value});
  };

  Metric& jobs =
      metric("gq_jobs", "gauge", "Jobs in the store, by state; finished ones while their IDs are remembered.");
  for (const auto& [function, one] : labelled)
    for (const State state : {State::queued, State::running, State::delayed, State::waiting, State::pending,
                              State::held, State::dead, State::kept, State::finished}) {
      const uint64_t claimed = state == State::queued ? one.at(State::claimed) : 0;
      jobs.samples.push_back(
          {{}, {{"function", function}, {"state", state_name(state)}}, static_cast<double>(one.at(state) + claimed)});
    }
  per_group("gq_workload_bytes", "gauge", "Bytes of the workloads of jobs that are not finished.",
            [](const Labelled& g) { return g.bytes; });
  per_group("gq_oldest_job_age_seconds", "gauge",
            "For how long the job that has waited longest could have been started; 0 if there is none.",
            [&](const Labelled& g) {
              return g.waits_since ? seconds(std::max(0.0, static_cast<double>((overview.at - *g.waits_since).count())))
                                   : 0.0;
            });
  per_group("gq_functions_paused", "gauge", "How many of these functions are paused.",
            [](const Labelled& g) { return g.paused; });
  per_group("gq_jobs_queued_total", "counter", "Jobs that were added.",
            [](const Labelled& g) { return g.tally.values[FunctionTally::queued]; });
  Metric& ends = metric("gq_jobs_ended_total", "counter",
                        "Ends of jobs, by outcome; a dead job that is kicked or dropped ends again.");
  for (const auto& [function, one] : labelled)
    for (size_t i = 0; i < endings; ++i)
      ends.samples.push_back({{},
                              {{"function", function}, {"outcome", ending_name(static_cast<Ending>(i))}},
                              static_cast<double>(one.tally.values[FunctionTally::ends + i])});
  per_group("gq_attempts_failed_total", "counter", "Attempts that failed.",
            [](const Labelled& g) { return g.tally.values[FunctionTally::failed]; });
  Metric& waits = metric("gq_job_wait_seconds", "histogram",
                         "For how long jobs waited from when they were queued, or due, to their first start.");
  for (const auto& [function, one] : labelled)
    add_histogram(waits, {{"function", function}}, one.tally, FunctionTally::waits, FunctionTally::waited);
  Metric& runs = metric("gq_attempt_run_seconds", "histogram", "For how long attempts ran.");
  for (const auto& [function, one] : labelled)
    add_histogram(runs, {{"function", function}}, one.tally, FunctionTally::runs, FunctionTally::ran);

  single("gq_workers", "Processes of this machine that run jobs of the store.",
         static_cast<double>(overview.processes.size()));
  if (!overview.nodes.empty()) {
    Metric& owed = metric("gq_owed_jobs", "gauge", "Jobs that are still to be sent to another node of the group.");
    Metric answered{"gq_node_answered_timestamp_seconds", "gauge", "When another node last answered; 0: never."};
    for (const auto& [node, debt] : overview.nodes) {
      owed.samples.push_back({{}, {{"node", node}}, static_cast<double>(debt.jobs)});
      answered.samples.push_back({{}, {{"node", node}}, seconds(static_cast<double>(debt.answered_at.count()))});
    }
    all.push_back(std::move(answered));
  }
  const DiskUse& disk = overview.disk;
  single("gq_journal_bytes", "Bytes of the journal.", static_cast<double>(disk.journal));
  single("gq_journal_live_bytes", "Bytes of the journal that jobs still need; cleaning can free the others.",
         static_cast<double>(disk.needed));
  single("gq_journal_unreadable_parts", "Parts of the journal that are damaged or missing.",
         static_cast<double>(overview.troubles));
  single("gq_output_bytes", "Bytes of outputs that are kept.", static_cast<double>(disk.outputs));
  single("gq_disk_free_bytes", "Free bytes of the store's disk.", static_cast<double>(disk.free));
  return all;
}

std::string metrics_text(const std::vector<Metric>& metrics) {
  std::string out;
  for (const auto& metric : metrics) {
    if (metric.samples.empty()) continue;
    out += "# HELP " + metric.name + " " + escaped(metric.help, false) + "\n# TYPE " + metric.name + " " + metric.type +
           "\n";
    for (const auto& sample : metric.samples) {
      out += metric.name + sample.suffix;
      for (size_t i = 0; i < sample.labels.size(); ++i)
        out += (i == 0 ? "{" : ",") + sample.labels[i].first + "=\"" +
               escaped(json_printable(sample.labels[i].second), true) + "\"";
      out += (sample.labels.empty() ? " " : "} ") + number(sample.value) + "\n";
    }
  }
  return out;
}

std::vector<nlohmann::ordered_json> metrics_json(const std::vector<Metric>& metrics) {
  std::vector<nlohmann::ordered_json> all;
  for (const auto& metric : metrics)
    for (const auto& sample : metric.samples) {
      nlohmann::ordered_json labels = nlohmann::ordered_json::object();
      for (const auto& [name, value] : sample.labels) labels[name] = value;
      all.push_back({{"name", metric.name + sample.suffix}, {"labels", labels}, {"value", sample.value}});
    }
  return all;
}

}  // namespace gq
