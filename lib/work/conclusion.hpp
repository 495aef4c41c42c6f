// Decides what follows from the end of an attempt: the record for the job, and other actions. Pure: it reads no clock
// and draws no random number.
//
// If the job is cancelled, it is dead, however the command ended. Otherwise the first of these rules that applies
// decides:
//
// 1. The worker is stopping and has told the command to end, and the command did not succeed: the job is given back.
// 2. The command printed to the worker's standard output, which is broken; the time limit did not end the command; and
//    its exit status means "again" in rule 4: the job is given back.
// 3. The job could not be sent to a streamed command, and neither the job nor the command was at fault: the job is
//    given back.
// 4. The table in outcome.hpp decides. A signal means "again". A streamed command that ends without an answer means
//    "again", too, unless its exit status says that the command is broken. After the time limit, an exit status for
//    "dead" or "broken" means "again". "Again" means dead if no attempt is left.
//
// With --then, the output of a command that succeeded has become jobs before this is decided. If it could not, because
// of the output, the job is dead; for another reason, it is given back.
//
// When a job is given back, its start is undone: no attempt is spent.
#pragma once

#include <algorithm>
#include <string>

#include "gq/store/claiming.hpp"
#include "gq/work/children.hpp"
#include "gq/work/outcome.hpp"
#include "gq/work/output.hpp"

namespace gq {

// How an attempt ended.
struct AttemptEnd {
  enum class Of {
    command,  // the command for this job ended
    stream,   // a streamed command ended; the job is the first one that it had not answered
    answer,   // a streamed command answered for this job, and continues to run
  };
  Of of = Of::command;
  int exit = 0;                        // the command's exit status, or the status in its answer
  int signal = 0;                      // the signal that ended the command, or 0
  std::string said{};                  // the last lines of the command's standard error, or the reason in its answer
  bool at_limit = false;               // the time limit has told the command to end
  bool cancelled = false;              // a user has cancelled the job, so the command was told to end
  bool cut_off = false;                // the worker is stopping, and has told the command to end
  int unsent = 0;                      // stream: the errno with which sending jobs to the command failed, or 0
  bool prints = false;                 // the command prints to this process's standard output
  Printed printed = Printed::arrives;  // needed only if depends_on_output()
  Kept output = Kept::not_asked;       // what became of the command's standard output
  Offspring offspring{};               // needed only if has_offspring()
};

struct ConclusionRules {
  Outcomes outcomes{};
  uint32_t max_attempts = 5;  // for a job without its own limit
  Millis backoff{1000};       // before the first retry; doubled for each further retry
  Millis longest_backoff{3600000};
  bool keep = false;         // keep the workloads of all done jobs
  uint64_t keep_output = 0;  // keep outputs up to this size; 0: only of jobs that ask for it
  ThenRules then{};

  uint32_t attempts(const Job& job) const { return job.max_attempts ? job.max_attempts : max_attempts; }
  // How long a job waits if its workload cannot be read now, or its output cannot be written now.
  Millis pause() const { return std::min(Millis(60'000), longest_backoff); }
};

// The largest output that is kept of a job that asks for it, in bytes, if its worker does not keep larger ones.
inline constexpr uint64_t usual_output = 16 << 20;

// The largest output of a job that is kept, in bytes; nullopt if none is.
std::optional<uint64_t> output_limit(const Job& job, const ConclusionRules& rules);

struct Conclusion {
  enum class What {
    done,
    again,       // the attempt has failed; the job may be started again from `due` on
    dead,        // nothing starts the job again, unless a user kicks it
    given_back,  // the job is given back (see above); any process may start it from `due` on
    broken,      // the job is given back, and its function pauses, because the command is broken
  };
  What what = What::given_back;
  bool spent = false;                   // this used up an attempt
  bool keep = false;                    // done: the workload is kept
  bool discard = false;                 // the output of the command is deleted
  Millis due{0};                        // 0: now
  std::string why{};                    // the reason, for users
  uint32_t exit = no_exit, signal = 0;  // as they are in the record
  Kept output = Kept::not_asked;        // done and dead: what became of the output
  uint32_t children = 0;                // done: how many jobs the output became

  // Whether this was a complete attempt, which belongs in the job log and in the average time of a command.
  bool is_attempt() const { return spent || what == What::broken; }
};

// Conclusions without an attempt: the job is given back, or will never be started.
inline Conclusion given_back(std::string why = {}, Millis due = Millis(0)) {
  return {.due = due, .why = std::move(why)};
}
inline Conclusion buried(std::string why) { return {.what = Conclusion::What::dead, .why = std::move(why)}; }

// Whether the conclusion depends on AttemptEnd::printed. The caller then finds it out, which costs system calls on
// standard output.
bool depends_on_output(const AttemptEnd& end, const ConclusionRules& rules);

// Whether the output is to become jobs. The caller then makes them, and sets AttemptEnd::offspring.
bool has_offspring(const AttemptEnd& end, const ConclusionRules& rules);

// `random`, from 0 to 1, spreads the delays of retries.
Conclusion conclude(const AttemptEnd& end, const Job& job, const ConclusionRules& rules, Millis now, double random);

// Returns the record for the journal. If the output is kept whole, `output` is all of it.
std::string conclusion_record(const Claim& claim, const Conclusion& conclusion, Millis now,
                              std::string_view output = {});

}  // namespace gq
