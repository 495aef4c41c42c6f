// What follows from the end of an attempt: what is recorded of its job, and what else there is to do. Pure: it asks no
// clock, and rolls no dice.
//
// The first of these rules that fits decides:
//
// 1. The worker stops and has told the command to end, and the command did not succeed: the job is given back.
// 2. The job would be tried again, and its command printed to a standard output that broke: it is given back.
// 3. The job could not be sent to a streamed command, for no fault of either: it is given back.
// 4. The table of outcomes, where a signal means "again", and so does a streamed command that ends without an answer,
//    unless it says that it is broken. What has reached the time limit has succeeded or is to be tried again: it is
//    neither dead nor broken.
//
// A job that is given back is as if it had not been started: no attempt is spent.
#pragma once

#include <algorithm>
#include <string>

#include "gq/store/store.hpp"
#include "gq/work/outcome.hpp"
#include "gq/work/output.hpp"

namespace gq {

// How an attempt ended.
struct AttemptEnd {
  enum class Of {
    command,  // a command for this job ended
    stream,   // a streamed command ended without an answer for this job, which was its first
    answer,   // a streamed command answered for this job, and goes on
  };
  Of of = Of::command;
  int exit = 0;                        // the command's exit status, or its answer
  int signal = 0;                      // the one that ended it, or 0
  std::string said{};                  // the end of its standard error, or the reason in its answer
  bool at_limit = false;               // the time limit has told it to end
  bool cut_off = false;                // the worker stops, and has told it to end
  int unsent = 0;                      // stream: the errno with which sending it jobs failed, or 0
  bool prints = false;                 // to this process's standard output
  Printed printed = Printed::arrives;  // where depends_on_output()
};

struct ConclusionRules {
  Outcomes outcomes{};
  uint32_t max_attempts = 5;  // of a job that does not say itself
  Millis backoff{1000};       // before the first retry; doubled for each further one
  Millis longest_backoff{3600000};
  bool keep = false;  // the workloads of all jobs that are done

  uint32_t attempts(const Job& job) const { return job.max_attempts ? job.max_attempts : max_attempts; }
  // How long what cannot be read or written now is left alone.
  Millis pause() const { return std::min(Millis(60'000), longest_backoff); }
};

struct Conclusion {
  enum class What {
    done,
    again,       // an attempt has failed; the job may be started again from `due` on
    dead,        // it is not to be started again by itself
    given_back,  // see above; from `due` on others may have it, too
    broken,      // it is given back, and its function is to pause, for the command is at fault
  };
  What what = What::given_back;
  bool spent = false;                   // an attempt is used up
  bool keep = false;                    // done: the workload stays
  bool discard = false;                 // what it printed is thrown away
  Millis due{0};                        // 0: now
  std::string why{};                    // for people
  uint32_t exit = no_exit, signal = 0;  // as the record has them

  // Whether the command ran to an end that counts: as a line of the job log, and in how long commands take.
  bool is_attempt() const { return spent || what == What::broken; }
};

// A job that nothing is known against is given back, or will not be started at all.
inline Conclusion given_back(std::string why = {}, Millis due = Millis(0)) {
  return {.due = due, .why = std::move(why)};
}
inline Conclusion buried(std::string why) { return {.what = Conclusion::What::dead, .why = std::move(why)}; }

// Whether the conclusion rests on AttemptEnd::printed, which costs a look at standard output.
bool depends_on_output(const AttemptEnd& end, const ConclusionRules& rules);

// `random`, from 0 to 1, spreads the delays of retries.
Conclusion conclude(const AttemptEnd& end, const Job& job, const ConclusionRules& rules, Millis now, double random);

// The record of it.
std::string conclusion_record(const Claim& claim, const Conclusion& conclusion, Millis now);

}  // namespace gq
