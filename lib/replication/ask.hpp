// The question that a node asks each other node every second, and the answer: the bodies of `ask` (transfer.hpp). Pure.
//
// A reader skips lines that it does not know, so that newer nodes can say more. It refuses an answer as a whole if a
// line that every node sends is missing, or if a known line is malformed: if it took a missing `end` for 0, a node
// would run its jobs before it was told what became of them.
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
  Lsn end = 0;                                          // the end of its journal
  bool runner = false;                                  // whether a process that runs commands lives there
  std::optional<std::vector<std::string>> functions{};  // the functions that it runs; nullopt: all
  bool taking = false;          // it is taking over jobs of the asking node right now, so that node must ask again
  bool room = true;             // whether it can store jobs
  std::optional<bool> relay{};  // whether it is a relay, which never stores jobs; nullopt: it does not say
  struct Sent {
    std::string node, store;
    Lsn upto = 0;
  };
  std::vector<Sent> sent{};        // up to which position of its journal it has told each node
  std::vector<bool> known{};       // whether it knows each job that it was asked for, in their order
  std::set<std::string> yours{};   // of these, the jobs of the asking node, as far as the answering node knows
  std::set<std::string> others{};  // and fresh jobs of a third node (is_fresh())
  std::set<std::string> ended{};   // and jobs that have ended
  // The job that the node has under an ID, to tell it from another job. An older node does not say this, nor does a
  // node that knows only the end of the job.
  struct Known {
    std::string function{};
    uint64_t size = 0, sum = 0;  // of its workload
  };
  std::map<std::string, Known> about{};

  // Adds what this node, `self`, says of the next job to the node that asks.
  void say_of(const std::string& id, const std::optional<Job>& job, const Self& asks, const Self& self);

  // Removes what the answer says of the job with this ID, one of the `asked`, if the answer is about another job: then
  // the node does not know this job, and the job cannot be left to it.
  void leave_out_another(const std::string& id, const Job& job, const std::vector<std::string>& asked);
};

// The body of a question for these jobs.
std::string encode_ask(const std::vector<std::string>& ids);
// The jobs that are asked for; nullopt if a line is not a job ID.
std::optional<std::vector<std::string>> parse_ask(std::string_view body);

// The answer to a question for these jobs; `known` has an entry for each.
std::string encode_ask_reply(const AskReply& reply, const std::vector<std::string>& ids);
// nullopt if the body is not an answer to a question for these jobs.
std::optional<AskReply> parse_ask_reply(std::string_view body, const std::vector<std::string>& ids);

}  // namespace gq
