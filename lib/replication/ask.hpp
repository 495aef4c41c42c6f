// What a node asks another one each second, and what it is answered: the bodies of `ask` (transfer.hpp). Pure.
//
// A line that is not known is skipped, so that a newer node can say more. An answer that lacks what every node says, or
// has a known line that is malformed, is refused as a whole: were the end taken as 0 there, a node would run its jobs
// before it was told what became of them.
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
  Lsn end = 0;                                          // of its journal
  bool runner = false;                                  // whether a process that runs commands lives there
  std::optional<std::vector<std::string>> functions{};  // for which ones; nullopt: all
  bool taking = false;  // it takes over jobs of the one that asks in this moment, so that this one has to ask again
  bool room = true;     // whether jobs can be stored there
  std::optional<bool> relay{};  // whether none ever are
  struct Sent {
    std::string node, store;
    Lsn upto = 0;
  };
  std::vector<Sent> sent{};        // up to where it has told others what happened there
  std::vector<bool> known{};       // by job that was asked for
  std::set<std::string> yours{};   // of those, jobs that are the asking node's, as far as that node knows
  std::set<std::string> others{};  // and jobs of a third node of which there is nothing else to say
  std::set<std::string> ended{};   // and those that have ended
  // The job that the node has under an ID, as far as that tells it from another one. A node of before does not say it,
  // nor one that knows the end of the job alone.
  struct Known {
    std::string function{};
    uint64_t size = 0, sum = 0;  // of its workload
  };
  std::map<std::string, Known> about{};

  // What this node, `self`, says of the next job to the one that asks.
  void say_of(const std::string& id, const std::optional<Job>& job, const Self& asks, const Self& self);

  // Takes back what is said of the job under this ID, one of the `asked`, where it is another job than that one: then
  // the node knows nothing of it, and can be left nothing.
  void leave_out_another(const std::string& id, const Job& job, const std::vector<std::string>& asked);
};

// The body that asks for these jobs.
std::string encode_ask(const std::vector<std::string>& ids);
// The jobs that are asked for; nullopt where something is not a job ID.
std::optional<std::vector<std::string>> parse_ask(std::string_view body);

// The answer to a question for these jobs; `known` has an entry for each.
std::string encode_ask_reply(const AskReply& reply, const std::vector<std::string>& ids);
// nullopt for what is no answer to a question for these jobs.
std::optional<AskReply> parse_ask_reply(std::string_view body, const std::vector<std::string>& ids);

}  // namespace gq
