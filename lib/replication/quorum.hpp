// Quorum: the answer to a client whose jobs must be on several nodes. Pure: the time and the answers of the store and
// the other nodes go in; the next thing to do comes out.
//
// A Quorum stands for the jobs of one submission. Its promise: a job is answered with Outcome::queued or ::same only if
// the store of this node has it (a relay has no store) and as many nodes have it as the rule asks for, unless the group
// accepts fewer. This node counts as one if it keeps the job. Another node counts if the store that said "have" is
// still the store with that node's name.
//
// The caller calls next(), carries out what that returns, reports the result, and calls next() again:
//
//   Append  if `then_send` is true, to_send() when the records are in the journal; carry out its Send before they are
//           synced. In any case stored() when the store has decided.
//   Send    sent(). Then heard() for each verdict of a node, and ended() for each call that ended, answered or not.
//           cannot_send() if a job cannot be read.
//   Wait    wait until its time, or until something comes: heard(), ended(), and progressed() if an answer came.
//   Record  recorded().
//   Reply   nothing: that is the end.
//
// Answers of nodes after the end do no harm.
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

// How many nodes, this one included, must be seen to have a job before a client is told that the job is here already;
// 0: only this one. `owed`: some node may not have it yet, as far as is known here (Fold::is_owed). `copies`: how many
// are asked for now.
uint32_t copies_to_count(const Job& job, const Self& self, bool owed, uint32_t copies);

// What to do with a raw job after an answer for its record. `open`: an earlier answer has left it unknown whether the
// record is stored; a refusal now says nothing of that.
enum class RawStep { answer, again, give_back };
RawStep next_raw_step(Outcome outcome, bool open);

class Quorum {
 public:
  using Time = std::chrono::steady_clock::time_point;

  struct Rule {
    uint32_t copies = 1;     // how many nodes must have a job; 0: all nodes of the group
    bool owe = false;        // fewer are enough; the answer says how many
    bool keeps = true;       // this node is one of them; else it is a relay, which appends and records nothing
    Millis peer_timeout{0};  // how long a node may be silent
  };

  // A job that came.
  struct Asked {
    std::string id;
    // Its ID or key may be another job's, so it must not be sent before the store has decided.
    bool decided_later = false;
    bool is_part = false;  // its workload is a part of another job's, which a node may lack
  };

  // The other members of the group: the known identity of each by name (empty if it is not known), and how many of them
  // are believed to answer and to have room.
  struct Others {
    std::map<std::string, std::string> identities;
    size_t up = 0;
  };

  struct Append {
    bool then_send;  // the jobs may leave before they are synced
  };
  struct Send {
    std::vector<size_t> numbers;  // of jobs
    bool whole = false;           // send full workloads for jobs whose workloads are parts of other jobs'
  };
  struct Wait {
    Time until;
  };
  struct Record {
    std::vector<event::Copied> copied;  // without a time
    bool commit;                        // must be on stable storage before the reply
  };
  struct Reply {
    std::vector<Answer> answers;
    bool counted;  // false: the debts have to ask again which nodes have the jobs
  };
  using Effect = std::variant<Append, Send, Wait, Record, Reply>;

  Quorum(Rule rule, Self self, std::vector<Asked> jobs);

  Effect next(Time now, const Others& others);

  // Which of these jobs to send; their records are in the journal. Returns each job once.
  Send to_send(const std::vector<size_t>& numbers);
  // The store's answer for each job, and the job in the store that it is or that stands for it, if that is known.
  // `known` may be empty if no job is decided later.
  struct Known {
    Job job;
    bool owed = false;  // see copies_to_count()
  };
  void stored(std::vector<Answer> answers, const std::vector<std::optional<Known>>& known);
  // The job that stands for the job with this number, and is sent in its place; nullptr if there is none.
  struct Standing {
    std::string id;
    Job job;
  };
  const Standing* stands_for(size_t number) const;
  void cannot_send(size_t number, const std::string& why);
  void sent(size_t calls, Time now);
  void progressed(Time now);
  // heard(): a node's verdict on a job. ended(): the end of a call, with or without verdicts before.
  void heard(size_t number, const std::string& node, const std::string& identity, const PeerVerdict& verdict);
  void ended();
  // From now on nothing waits longer than this.
  void hurry(Time limit);
  void recorded(bool well);

 private:
  struct Of {
    Asked asked;
    uint32_t wanted = 0;  // how many nodes must have it, this one included if it keeps jobs; 0: not counted
    bool handed = false;
    std::optional<Standing> standing{};
    std::map<std::string, std::string> holders{};  // by name, the identity that has said so
    std::string why{};                             // what other nodes have said
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
  size_t m_open = 0;  // calls
  Time m_deadline{}, m_limit = Time::max();
};

}  // namespace gq
