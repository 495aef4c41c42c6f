// An inquiry before a takeover: which nodes this node asks about the jobs of another node before it takes them over, in
// which order, and what follows from each answer. Pure; ownership.hpp has the rules.
//
// The caller asks the question that next() returns and passes the answer to answered(), until next() returns no
// question. Then jobs() are the jobs that this node takes over. If a node does not answer, the caller abandons the
// inquiry, and takes over nothing.
#pragma once

#include <deque>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "gq/replication/ownership.hpp"

namespace gq {

class Inquiry {
 public:
  // `jobs` are jobs of the node `what.node`, as they are in this store. `here` is what runs on this node.
  Inquiry(Takeover what, RunHere here, std::vector<HeldJob> jobs)
      : m_what(std::move(what)), m_here(std::move(here)), m_jobs(std::move(jobs)) {}

  struct Question {
    std::string node;
    std::vector<std::string> ids;  // the IDs of jobs; empty: the question is only whether the node answers
  };
  // Returns the next question; nullopt if there is none. `remember` is how long finished jobs are remembered.
  std::optional<Question> next(const Ownership& ownership, const Membership& members, const FailureDetector& detector,
                               Millis remember, Times now);
  // Takes an answer. Returns states that the caller must append to this node's journal before the next question: see
  // Ownership::leave_ended() and ::leave_to_owner().
  std::vector<event::State> answered(AskReply reply, const Ownership& ownership, const Membership& members,
                                     const FailureDetector& detector, Times now);

  const Takeover& what() const { return m_what; }
  const std::vector<HeldJob>& jobs() const { return m_jobs; }
  std::vector<HeldJob> take_jobs() { return std::move(m_jobs); }
  // Those of the jobs that no other node knows any more.
  const std::set<std::string>& stale() const { return m_stale; }

 private:
  enum class Stage { begun, owner, before, once_more, everybody, done };
  Question ask(const std::string& node, std::vector<std::string> ids);
  Question ask_next(std::vector<std::string> ids);

  const Takeover m_what;
  const RunHere m_here;
  std::vector<HeldJob> m_jobs;
  Stage m_stage = Stage::begun;
  std::vector<std::string> m_asked;  // the jobs in the current question
  std::deque<std::string> m_nodes;   // the nodes that are still to be asked in this stage
  std::set<std::string> m_stale;
};

}  // namespace gq
