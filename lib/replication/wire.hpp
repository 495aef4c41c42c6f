// How records travel through gearmand. A Gearman job on FUNCTION.gq holds one or more add records, one behind the
// other. Its result has one line for each, in order:
//
//   queued ID [NOTE] | same ID FIRST | owed ID FIRST NOTE | conflict ID | refused ID REASON | bad ID REASON | unknown
//   ID REASON
//
// NOTE is "copies=1/2" of a job on fewer nodes than its group asks for. `owed` is `same` with such a note: a client
// that does not know the word asks again, and hears `same` then.
//
// and nothing else; a payload that is not such records is answered with the single line "bad REASON".
//
// Whoever reaches the server may send such a job. So of each record only that is kept which one who queues a job may
// say, see submit().
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gq/store/store.hpp"

namespace gq {

// Groups of small jobs are closed at either of these.
inline constexpr size_t max_group_jobs = 1024;
inline constexpr size_t max_group_bytes = 512 * 1024;

// The longest meta data of a record that comes here.
inline constexpr size_t max_submitted_meta = 8 * 1024;

// Reads a payload. nullopt with a reason where it is not well-formed add records for `function` with their checksums
// right.
std::optional<std::vector<NewJob>> parse_group(std::string_view payload, const std::string& function,
                                               std::string& reason);

// Leaves of a record what one who queues a job may say: its ID, what is asked for, what its workload is a part of, and
// the time, which is not later than `now`. Returns why it cannot be queued, if it cannot.
std::optional<std::string> submit(NewJob& job, Millis now);

// Answers a payload by `take`. Where that throws for a reason that may lie with one record, each is taken on its own,
// and the one that it lies with is bad, and `told`. What the store is to blame for is thrown.
std::string answer_group(std::string_view payload, const std::function<std::string(std::string_view)>& take,
                         const std::function<void(const std::string& why)>& told);

std::string encode_answer(const std::string& id, const Answer& answer);

// Reads a result for jobs with these IDs; nullopt where it is not one.
std::optional<std::vector<Answer>> parse_answers(std::string_view result, const std::vector<std::string>& ids);

}  // namespace gq
