// The metrics of a store, for Prometheus. Their labels are functions, states, outcomes and nodes of the group. At most
// most_tallied functions have labels of their own; the others are summed under one label. Pure.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "gq/state/tally.hpp"
#include "gq/view/overview.hpp"

namespace gq {

// The label for the functions that have none of their own. No function has this name: it has a space.
inline constexpr const char* all_others = "all others";

struct Sample {
  std::string suffix;                                         // after the metric's name: "_bucket", "_sum", "_count"
  std::vector<std::pair<std::string, std::string>> labels{};  // names and values
  double value = 0;
};

struct Metric {
  std::string name, type, help;
  std::vector<Sample> samples{};
};

std::vector<Metric> metrics_of(const Overview& overview, const std::map<std::string, FunctionTally>& tallies);

// Prometheus' text format, version 0.0.4.
std::string metrics_text(const std::vector<Metric>& metrics);
// The same samples: an object for each, with "name", "labels" and "value".
std::vector<nlohmann::ordered_json> metrics_json(const std::vector<Metric>& metrics);

}  // namespace gq
