// A look at jobs of another node, question by question: whom to ask what before this node takes them over, in which
// order, and what follows from each answer. Pure; ownership.hpp says by which rules.
//
// Its user carries out next() and tells it the answer, until there is no question left; then jobs() are this node's to
// take. Where a node does not answer, the look ends, and nothing is taken.
#pragma once

#include <deque>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "gq/replication/ownership.hpp"

namespace gq {

class Look {
 public:
  // `jobs` are of that node, as they stand here; `here` is what runs here.
  Look(Takeover what, RunHere here, std::vector<HeldJob> jobs)
      : m_what(std::move(what)), m_here(std::move(here)), m_jobs(std::move(jobs)) {}

  struct Question {
    std::string node;
    std::vector<std::string> ids;  // of jobs; none: only whether it answers
  };
  // What is to be asked now. `remember` is how long finished jobs are remembered.
  std::optional<Question> next(const Ownership& ownership, const Membership& members, const FailureDetector& detector,
                               Millis remember, Times now);
  // What was answered. Returns what is to be appended here before it goes on: see Ownership::leave_ended()
  // and ::leave_to_owner().
  std::vector<event::State> answered(AskReply reply, const Ownership& ownership, const Membership& members,
                                     const FailureDetector& detector, Times now);

  const Takeover& what() const { return m_what; }
  const std::vector<HeldJob>& jobs() const { return m_jobs; }
  std::vector<HeldJob> take_jobs() { return std::move(m_jobs); }
  // Of those, the ones that no other node knows any more.
  const std::set<std::string>& stale() const { return m_stale; }

 private:
  enum class Stage { begun, owner, before, once_more, everybody, done };
  Question ask(const std::string& node, std::vector<std::string> ids);
  Question ask_next(std::vector<std::string> ids);

  const Takeover m_what;
  const RunHere m_here;
  std::vector<HeldJob> m_jobs;
  Stage m_stage = Stage::begun;
  std::vector<std::string> m_asked;  // by the question under way
  std::deque<std::string> m_nodes;   // to be asked in this stage
  std::set<std::string> m_stale;
};

}  // namespace gq
