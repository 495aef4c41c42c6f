// Quorum: the answer to a client whose jobs have to be on several nodes. Pure: what the store and the other nodes have
// said, and the time, go in; what is to be done next comes out.
//
// A Quorum stands for the jobs of one submission. Its promise: a job is answered with Outcome::queued or ::same only
// when the store has said so and, unless the group's rule lets fewer do, as many identities have said "have" as have
// to. It counts identities, never names: what a node said before it was set up anew under its old name says nothing of
// the one that has the name now.
//
// Its user calls next() and carries out what that returns, then tells it what came of that and calls next() again:
//
//   Append  where `then_send` is true, to_send() when the records stand in the journal; its Send is carried out before
//           they are synced. In any case stored() when the store has decided.
//   Send    sent(), and for each answer of a node heard() and ended(). cannot_send() where a job cannot be read.
//   Wait    progressed() when an answer came, heard() and ended().
//   Record  recorded().
//   Reply   nothing: that is the end.
//
// What nodes say after the end is heard without harm.
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

// A client is to be told of a job that is here already: how many nodes, this one included, have to be seen to have it
// before that. 0: none but this one. `owed`: some node may not have it yet, as far as is known here (Fold::is_owed).
// `copies`: so many are asked for now.
uint32_t copies_to_count(const Job& job, const Self& self, bool owed, uint32_t copies);

// What is to be done with a raw job after an answer for its record. `open` is whether an answer before has left it
// unknown if the record is stored; then a refusal says nothing of that.
enum class RawStep { answer, again, give_back };
RawStep next_raw_step(Outcome outcome, bool open);

class Quorum {
 public:
  using Time = std::chrono::steady_clock::time_point;

  struct Rule {
    uint32_t copies = 1;     // so many nodes have to have a job, or all that are there, where that is 0
    bool owe = false;        // fewer are enough; the answer says how many
    bool keeps = true;       // this node is one of them; else it is a relay, which appends and records nothing
    Millis peer_timeout{0};  // how long a node may be silent
  };

  // Of a job that came.
  struct Asked {
    std::string id;
    bool decided_later = false;  // its ID or key may be another job's, so it must not get about before that is decided
    bool is_part = false;        // its workload is a part of another's, which a node may lack
  };

  // The members of the group besides this one: the identity of each as it is known now, by name, empty where that is
  // not known; and how many of them are believed to answer and to have room.
  struct Others {
    std::map<std::string, std::string> identities;
    size_t up = 0;
  };

  struct Append {
    bool then_send;  // the jobs may leave before they are synced
  };
  struct Send {
    std::vector<size_t> numbers;  // of jobs
    bool whole = false;           // with their workloads, where those are parts of others'
  };
  struct Wait {
    Time until;
  };
  struct Record {
    std::vector<event::Copied> copied;  // without a time
    bool commit;                        // on stable storage before the reply
  };
  struct Reply {
    std::vector<Answer> answers;
    bool counted;  // else which nodes have the jobs is to be asked again, with the debts
  };
  using Effect = std::variant<Append, Send, Wait, Record, Reply>;

  Quorum(Rule rule, Self self, std::vector<Asked> jobs);

  Effect next(Time now, const Others& others);

  // What is to be sent of these jobs, which stand in the journal; each once.
  Send to_send(const std::vector<size_t>& numbers);
  // What the store says of each job, and the job that it is or that stands for it, where that is known. `known` may be
  // empty where nothing has to be decided later.
  struct Known {
    Job job;
    bool owed = false;  // see copies_to_count()
  };
  void stored(std::vector<Answer> answers, const std::vector<std::optional<Known>>& known);
  // The job that stands for the one with this number, and that is sent in its place; nullptr where none does.
  struct Standing {
    std::string id;
    Job job;
  };
  const Standing* stands_for(size_t number) const;
  void cannot_send(size_t number, const std::string& why);
  void sent(size_t calls, Time now);
  void progressed(Time now);
  // The end of a call, with verdicts on its jobs before or without.
  void heard(size_t number, const std::string& node, const std::string& identity, const PeerVerdict& verdict);
  void ended();
  // Nothing is waited for longer than this from now on.
  void hurry(Time limit);
  void recorded(bool well);

 private:
  struct Of {
    Asked asked;
    uint32_t wanted = 0;  // nodes that have to have it, this one included where it keeps jobs; 0: not counted
    bool handed = false;
    std::optional<Standing> standing{};
    std::map<std::string, std::string> holders{};  // by name, the identity that has said so
    std::string why{};                             // what others have said
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
