// The format in which a client asks a store, through gearmand, how its jobs have ended and what their commands printed.
// The questions are foreground jobs on a Gearman function that belongs to one store (pull_function()); the result is
// the answer, which comes at once. Both begin with a line of words:
//
//   question: gqp1 KIND STORE NONCE MAC
//   answer:   gqp1 STORE MAC
//
// and continue with a body. STORE is the store's name for clients (pull_name()). NONCE is a new ULID. With keys, MAC is
// as in transfer.hpp; the MAC of an answer also covers the question's line, so that a recorded answer fits no later
// question. Without keys MAC is "-", and any client that knows a job's ID can ask.
//
// ends: the body has the IDs of up to most_asked jobs, one a line. The answer has one line for each, in order:
//
//   waits ID [STORE]     it has not ended; STORE, if it is another store, owns it
//   there ID STORE       it has ended, and only that store says how, because it has the output
//   end ID STATUS STATE EXIT SIGNAL SIZE SUM [REASON]
//                        Result::status, the word for its state, the exit status or signal of the command or "-", size
//                        and sum of the output or "-", and why STATUS is not 0
//   unknown ID           the store does not know it, or has forgotten it
//
// output: the body has lines "ID OFFSET". The answer has a line for one or more of them, from the first one on:
//
//   part ID OFFSET LENGTH     LENGTH bytes of the job's output follow
//   none ID REASON            the output cannot be read
//
// then an empty line, and then the bytes of all parts. These are at most most_pulled bytes together, so an answer may
// have less than the question asked for.
//
// Any question may be answered "bad REASON". To change the format: choose a new first word.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gq/replication/transfer.hpp"
#include "gq/state/result.hpp"

namespace gq {

inline constexpr size_t most_asked = 1000;         // jobs in a question
inline constexpr size_t most_pulled = 512 * 1024;  // bytes of outputs in an answer
inline constexpr size_t max_question = 64 * 1024;  // bytes
inline constexpr size_t most_stores = 64;          // that may know the end of one job

// Returns a text in the form of a ULID that is a hash of `text`.
std::string hash_name(std::string_view text);
// Returns the name of a store for clients that wait for results: the form of a ULID, made from the store's ID, or in a
// group from the identity of its node. It does not tell the ID, which seeds the checksums of the journal.
std::string pull_name(const std::string& store);
// The Gearman function that the store with this name serves.
std::string pull_function(const std::string& name);

// What a store says about a job.
struct StoreSays {
  enum class What { waits, there, end, unknown };
  What what = What::unknown;
  std::string store{};  // waits: the store that owns the job, or empty; there: the store that has the output
  Result result{};      // end; and the next members
  std::string state{};
  uint32_t exit = no_exit, signal = 0;
  uint64_t size = 0, sum = 0;  // of the output, if the result has one
};

// Returns what the store of the node `self` says about a job; nullopt: about one that it does not know.
StoreSays say_of(const std::optional<Job>& job, const Self& self);

std::string encode_ends(const std::vector<std::string>& ids, const std::vector<StoreSays>& says);
// Returns nullopt if the body is not an answer to a question about these jobs.
std::optional<std::vector<StoreSays>> parse_ends(std::string_view body, const std::vector<std::string>& ids);

// A question for outputs: a job, and the offset at which its output is wanted.
struct Wanted {
  std::string id;
  uint64_t offset = 0;
  bool operator==(const Wanted&) const = default;
};
std::string encode_wanted(const std::vector<Wanted>& wanted);
std::optional<std::vector<Wanted>> parse_wanted(std::string_view body);

struct Piece {
  std::string bytes{};
  std::string problem{};  // why there is no output; then there are no bytes
};
std::string encode_pieces(const std::vector<Wanted>& wanted, const std::vector<Piece>& pieces);
// Returns one or more pieces for the first of the wanted outputs; nullopt if the body is no answer to them.
std::optional<std::vector<Piece>> parse_pieces(std::string_view body, const std::vector<Wanted>& wanted);

struct PullQuestion {
  std::string kind;
  std::string_view line, body;
};
std::string encode_question(const std::string& kind, const std::string& store, std::string_view body, const Keys& keys);
// Returns nullopt and sets the reason if the payload is not a question to this store, signed as it must be. The views
// in the result point into `payload`.
std::optional<PullQuestion> parse_question(std::string_view payload, const std::string& store, const Keys& keys,
                                           std::string& reason);
// `line` is the question's line.
std::string encode_pull_answer(const std::string& store, std::string_view line, std::string_view body,
                               const Keys& keys);
// The reason for parse_pull_answer() to refuse an answer of a store that has keys, if the client has none.
inline constexpr const char* needs_keys = "its answers are signed, so that --auth is needed";
// Returns the body. Returns nullopt and sets the reason if the result is "bad", is no answer of this store to that
// question, or is not signed as it must be.
std::optional<std::string_view> parse_pull_answer(std::string_view result, const std::string& store,
                                                  std::string_view line, const Keys& keys, std::string& reason);

}  // namespace gq
