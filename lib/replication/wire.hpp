// The format in which clients send records through gearmand. A Gearman job on FUNCTION.gq contains one or more add
// records, one directly after the other. The after records of a job follow its add record. Its result has one line for
// each add record, in order, and nothing else:
//
//   queued ID [NOTE] | same ID FIRST | owed ID FIRST NOTE | conflict ID | refused ID REASON | bad ID REASON |
//   unknown ID REASON
//
// If one of the records asks for its result, a last line names the stores to ask for it (pull_wire.hpp), the likeliest
// first: "results STORE...".
//
// NOTE is "copies=1/2" if fewer nodes have the job than its group asks for. `owed` is `same` with such a note. An older
// client that does not know the word `owed` sends the job again, and then gets `same`.
//
// If a payload does not consist of such records, the answer is the single line "bad REASON".
//
// Any client that reaches the server may send such a job. So the intake keeps only those fields of a record that a
// client may set, see submit().
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gq/state/answer.hpp"
#include "gq/store/new_job.hpp"

namespace gq {

// A group of small jobs ends when it reaches one of these limits.
inline constexpr size_t max_group_jobs = 1024;
inline constexpr size_t max_group_bytes = 512 * 1024;

// The keys that gq gives to raw jobs of clients that wait for the end begin with this. No client may ask for such a
// key.
inline constexpr std::string_view raw_key_prefix = "gq raw ";

// The most bytes of meta data in a submitted record.
inline constexpr size_t max_submitted_meta = 8 * 1024;

// More than the size of the after records of one job.
inline constexpr size_t max_parents_size = most_parents * 30;

// Parses a payload. Returns nullopt and sets the reason if it does not consist of well-formed add records for
// `function` with right checksums, each with its after records.
std::optional<std::vector<NewJob>> parse_group(std::string_view payload, const std::string& function,
                                               std::string& reason);

// Removes from a record all fields that a client may not set. What remains is the ID, the Submission, the Part, and the
// time, which is set to `now` if it is later. Returns a reason if the job cannot be queued; otherwise nullopt.
std::optional<std::string> submit(NewJob& job, Millis now);

// Answers a payload through `take`. If `take` throws an error that one record may have caused, each record is taken
// separately; the record that causes the error gets the answer bad, and `failed` is called. An error that the store has
// caused is thrown.
std::string answer_group(std::string_view payload, const std::function<std::string(std::string_view)>& take,
                         const std::function<void(const std::string& why)>& failed);

std::string encode_answer(const std::string& id, const Answer& answer);

// The line that names the stores; empty without stores.
std::string encode_stores(const std::vector<std::string>& stores);

// Parses the result for jobs with these IDs; nullopt if it is not such a result.
std::optional<std::vector<Answer>> parse_answers(std::string_view result, const std::vector<std::string>& ids);

}  // namespace gq
