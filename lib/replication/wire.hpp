// How records travel through gearmand. A Gearman job on FUNCTION.gq holds one or more add records, back to back. Its
// result has one line for each, in order, and nothing else:
//
//   queued ID [NOTE] | same ID FIRST | owed ID FIRST NOTE | conflict ID | refused ID REASON | bad ID REASON |
//   unknown ID REASON
//
// NOTE is "copies=1/2" for a job on fewer nodes than its group asks for. `owed` is `same` with such a note: a client
// that does not know the word asks again, and then gets `same`.
//
// A payload that is not such records is answered with the single line "bad REASON".
//
// Any client that reaches the server may send such a job. So the intake keeps of each record only what a client that
// queues a job may say, see submit().
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gq/state/answer.hpp"
#include "gq/store/new_job.hpp"

namespace gq {

// A group of small jobs is closed at either limit.
inline constexpr size_t max_group_jobs = 1024;
inline constexpr size_t max_group_bytes = 512 * 1024;

// The most bytes of meta data in a submitted record.
inline constexpr size_t max_submitted_meta = 8 * 1024;

// Reads a payload. nullopt with a reason if it is not well-formed add records for `function` with right checksums.
std::optional<std::vector<NewJob>> parse_group(std::string_view payload, const std::string& function,
                                               std::string& reason);

// Keeps of a record what a client that queues a job may say: its ID, what is asked for, what its workload is a part of,
// and the time, which is not later than `now`. Returns why the job cannot be queued, if it cannot.
std::optional<std::string> submit(NewJob& job, Millis now);

// Answers a payload by `take`. If that throws for a reason that may lie with one record, each record is taken on its
// own; the record that is at fault is bad, and `told` is called. Errors for which the store is to blame are thrown.
std::string answer_group(std::string_view payload, const std::function<std::string(std::string_view)>& take,
                         const std::function<void(const std::string& why)>& told);

std::string encode_answer(const std::string& id, const Answer& answer);

// Reads a result for jobs with these IDs; nullopt if it is not such a result.
std::optional<std::vector<Answer>> parse_answers(std::string_view result, const std::vector<std::string>& ids);

}  // namespace gq
