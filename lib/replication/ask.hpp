// The question that a node asks each other node every second, and the answer. These are the bodies of an `ask` transfer
// (transfer.hpp). Pure.
//
// A reader skips lines that it does not know, so that a newer node can send more. It refuses the whole answer if a line
// that every node sends is missing, or if a known line is malformed. Otherwise, for example, a missing `end` would be
// read as 0, and a returning node would run its jobs before the other nodes have sent it what happened to these jobs.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "gq/journal/journal.hpp"
#include "gq/state/transition.hpp"

namespace gq {

struct AskReply {
  Lsn end = 0;                                          // the end of the answering node's journal
  bool runner = false;                                  // whether a process that runs commands lives on the node
  std::optional<std::vector<std::string>> functions{};  // the functions that this process runs; nullopt: all
  bool taking = false;  // it is taking over jobs of the asking node right now, so the asking node must ask again
  bool room = true;     // whether the node can store jobs
  std::optional<bool> relay{};  // whether the node is a relay, which never stores jobs; nullopt: it does not say
  struct Sent {
    std::string node, store;
    Lsn upto = 0;
  };
  std::vector<Sent> sent{};   // for each other node: the position in its own journal up to which the answering node has
                              // sent everything
  std::vector<bool> known{};  // for each job of the question, in order: whether the node knows it
  std::set<std::string> yours{};  // of the known jobs: those that the asking node owns, according to the answering node
  std::set<std::string> others{};  // of the known jobs: fresh jobs (is_fresh()) that a third node owns
  std::set<std::string> ended{};   // of the known jobs: those that have ended
  // Function, size and sum of the job that the answering node has under an ID, which distinguish it from another job
  // with the same ID. An older node does not send this, nor does a node that knows only the end of the job.
  struct Known {
    std::string function{};
    uint64_t size = 0, sum = 0;  // the size and the sum of its workload
  };
  std::map<std::string, Known> about{};
  std::set<std::string> reads{};  // the features of records that the node reads (features.hpp)

  // Adds to the answer what this node (`self`) knows of the next job of the question. `asks` is the asking node.
  void say_of(const std::string& id, const std::optional<Job>& job, const Self& asks, const Self& self);

  // `id` is one of the `asked` jobs. If the answer is about another job with the same ID, removes everything that the
  // answer says about `id`: the answering node does not know this job, so the job cannot be left to that node.
  void leave_out_another(const std::string& id, const Job& job, const std::vector<std::string>& asked);
};

// Returns the body of a question about these jobs.
std::string encode_ask(const std::vector<std::string>& ids);
// Returns the jobs in a question; nullopt if a line is not a job ID.
std::optional<std::vector<std::string>> parse_ask(std::string_view body);

// Returns the body of an answer to a question about these jobs. `reply.known` has an entry for each of them.
std::string encode_ask_reply(const AskReply& reply, const std::vector<std::string>& ids);
// Returns nullopt if the body is not an answer to a question about these jobs.
std::optional<AskReply> parse_ask_reply(std::string_view body, const std::vector<std::string>& ids);

}  // namespace gq
