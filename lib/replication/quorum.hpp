// A Quorum finds the answer to a client whose jobs must be on several nodes. Pure: the caller passes the time and the
// answers of the store and of the other nodes; the Quorum returns the next step.
//
// A Quorum is for the jobs of one submission. It guarantees two things of a job that is answered with Outcome::queued
// or
// ::same. First, the store of this node has the job (a relay has no store). Second, enough nodes have it: as many as
// the Rule asks for or, if the store had the job before, as many as copies_to_count() returns. With --owe, fewer nodes
// are enough, and the answer says how many have it. This node counts as one if it stores the job. Another node counts
// if it has said "have" and still has the same identity.
//
// The caller calls next(), carries out what that returns, reports the result, and calls next() again:
//
//   Append  Append the records and sync them. If `then_send` is true, do not wait for the sync before sending: when the
//           records are in the journal, call to_send(), and carry out the Send that it returns. In any case call
//           stored() with the store's answers.
//   Send    Call sent(). Then call answered() for each verdict of a node, and ended() for each call that has ended
//           (with or without an answer). Call cannot_send() if a job cannot be read.
//   Wait    Wait until the given time, or until an answer comes: then call answered(), ended(), and progressed().
//   Record  Call recorded().
//   Reply   Call nothing: this is the end.
//
// Answers that come after the end are ignored.
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "gq/replication/verdict.hpp"
#include "gq/state/fold.hpp"

namespace gq {

// A client has sent a job that this node already has. Returns how many nodes, including this node, must be known to
// have the job before the client is answered. 0: no other node has to confirm. `owed`: this node knows of a node that
// may lack the job (Fold::is_owed). `copies`: how many copies the present rule asks for.
uint32_t copies_to_count(const Job& job, const Self& self, bool owed, uint32_t copies);

// What to do with a raw job after the answer for its record, which is `same` or `conflict` only if the intake gave it a
// key. `open`: after an earlier answer it is unknown whether the
// record is stored, and a refusal now does not settle that.
enum class RawStep { answer, again, give_back };
RawStep next_raw_step(Outcome outcome, bool open);

class Quorum {
 public:
  using Time = std::chrono::steady_clock::time_point;

  struct Rule {
    uint32_t copies = 1;  // how many nodes must have a job; 0: all nodes of the group
    bool owe = false;     // fewer nodes are enough; then the answer says how many
    bool keeps = true;  // this node stores the jobs and counts; false: it is a relay, which appends and records nothing
    Millis peer_timeout{0};  // how long a node may be silent
  };

  // A submitted job.
  struct Asked {
    std::string id;
    // Another job may have its ID or key, so the job must not be sent before the store has decided.
    bool decided_later = false;
    bool is_part = false;  // its workload is a part of the workload of another job, which a node may lack
  };

  // The other members of the group: by name, the known identity of each (empty if unknown); and how many of them are
  // expected to answer and to have room.
  struct Others {
    std::map<std::string, std::string> identities;
    size_t up = 0;
  };

  struct Append {
    bool then_send;  // the jobs may be sent before they are synced
  };
  struct Send {
    std::vector<size_t> numbers;  // the numbers of the jobs
    bool whole = false;           // if the workload of a job is a part of another job's, send the part itself
  };
  struct Wait {
    Time until;
  };
  struct Record {
    std::vector<event::Copied> copied;  // the records, without a time
    bool commit;                        // the records must be on stable storage before the reply
  };
  struct Reply {
    std::vector<Answer> answers;
    bool counted;  // false: the debts have to ask again which nodes have the jobs
  };
  using Effect = std::variant<Append, Send, Wait, Record, Reply>;

  Quorum(Rule rule, Self self, std::vector<Asked> jobs);

  Effect next(Time now, const Others& others);

  // `numbers` are jobs whose records are now in the journal. Returns which of them to send. Returns each job once.
  Send to_send(const std::vector<size_t>& numbers);
  // Takes the store's answer for each job; and in `known` the job in the store that has the ID or the key of the
  // submitted job, if that is known. `known` may be empty if no job has `decided_later`.
  struct Known {
    Job job;
    bool owed = false;  // see copies_to_count()
  };
  void stored(std::vector<Answer> answers, const std::vector<std::optional<Known>>& known);
  // Returns the job of the store that is sent in place of the job with this number; nullptr if the job itself is sent.
  struct Standing {
    std::string id;
    Job job;
  };
  const Standing* stands_for(size_t number) const;
  void cannot_send(size_t number, const std::string& why);
  void sent(size_t calls, Time now);
  void progressed(Time now);
  // answered(): takes a node's verdict on a job. ended(): a call has ended, with or without verdicts.
  void answered(size_t number, const std::string& node, const std::string& identity, const PeerVerdict& verdict);
  void ended();
  // From now on, no wait lasts longer than until `limit`.
  void hurry(Time limit);
  void recorded(bool well);

 private:
  struct Of {
    Asked asked;
    uint32_t wanted = 0;  // how many nodes must have it, as copies_to_count()
    bool handed = false;
    std::optional<Standing> standing{};
    std::map<std::string, std::string> holders{};  // the identities of the nodes that have it, by name
    std::string why{};                             // the texts of other nodes' refusals
  };
  enum class Stage { begun, appending, stored, waiting, whole, concluded, recorded };

  uint32_t own() const { return m_rule.keeps ? 1 : 0; }
  static bool counts(const std::pair<const std::string, std::string>& holder, const Others& others);
  static std::pair<std::string, std::string> holders(const Of& job, const Others& others);
  size_t nodes(const Of& job, const Others& others) const;
  bool is_reached(const Others& others) const;
  std::optional<Send> parts(const Others& others);
  Record conclude(const Others& others);

  const Rule m_rule;
  const Self m_self;
  std::vector<Of> m_jobs;
  std::vector<Answer> m_answers;
  Stage m_stage = Stage::begun;
  bool m_decided_later = false, m_counted = true;
  size_t m_open = 0;  // the number of calls that have not ended
  Time m_deadline{}, m_limit = Time::max();
};

}  // namespace gq
