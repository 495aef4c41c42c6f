// The status: whether something is wrong with a store, by the limits that its user gives; as a line for people, as
// JSON, and in the form that Nagios and Icinga read. Pure.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "gq/view/overview.hpp"

namespace gq {

// The numbers are those that the monitoring plugin guidelines give the exit statuses of a plugin.
enum class Severity : uint8_t { ok = 0, warning = 1, critical = 2, unknown = 3 };

// A limit: beyond the first value it is a warning; beyond the second, if there is one, it is critical.
struct Threshold {
  uint64_t warning = 0;
  std::optional<uint64_t> critical{};
};

struct StatusLimits {
  std::vector<std::string> functions{};       // only these; empty: all
  std::optional<Threshold> dead{}, queued{};  // more jobs than that
  std::optional<Threshold> oldest{};          // the oldest job waits for more than that, in milliseconds
  std::optional<Threshold> owed{};            // a node is owed more jobs than that
  std::optional<Threshold> disk{};            // fewer bytes are free than that
  bool worker = false;                        // jobs could run, and no worker of this machine runs them
};

struct Problem {
  std::string what;  // dead, queued, oldest, owed, disk, worker, node or journal
  Severity level = Severity::warning;
  std::string text;  // a clause for users
};

struct Status {
  std::vector<Problem> problems{};
  uint64_t queued = 0, running = 0, delayed = 0, dead = 0, owed = 0;
  std::optional<Millis> oldest{};  // for how long the job that has waited longest has waited
  bool any_worker = false;
  uint64_t free = 0;
  StatusLimits limits{};
  Severity level() const;
};

Status status_of(const Overview& overview, const StatusLimits& limits);

// "ok: ..." or "wrong: ...", without a newline.
std::string status_line(const Status& status);
// "GQ OK - ... | performance data", without a newline; in what comes from outside, the characters that end a part of
// the line are replaced.
std::string nagios_line(const Status& status);
// The line for a store that cannot be read, whose status is Severity::unknown.
std::string nagios_unknown(const std::string& reason);
nlohmann::ordered_json status_json(const Status& status);

// A duration as people read it, in its two greatest units: "3m", "2h 5m", "4d". The unit below a second is ms.
std::string human_duration(Millis duration);
// Bytes as people read them: "512 B", "1.5 MiB".
std::string human_size(uint64_t bytes);

}  // namespace gq
