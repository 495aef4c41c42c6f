// The failure detector knows which nodes of a group answer and which are gone. It also knows whether this node itself
// was away: then the node must first receive what the other nodes did meanwhile, before it runs its jobs. Pure: the
// caller passes each answer and its time.
//
// Times are Millis since boot. A node is gone if it has not answered for --takeover, although a Gearman server could be
// reached during all that time.
//
// This node goes through a "return" in three cases: when it begins to serve, after a gap (lease.hpp), and when another
// node answers after no node had answered for --takeover. In each case the other nodes may have declared this node gone
// and taken over its jobs. A return ends when each other node was asked, and each node that answers has sent this node
// everything that was in its journal when it answered. If no node answers, the return ends after --alone-after. A node
// that has not answered, or not sent everything, by then may still have taken over jobs: when it answers later, this
// node returns again. Returns are numbered (Round). An answer to a question from an earlier round does not help to end
// the return, because this node was away after that question.
//
// The surprising fact: an answer alone does not end a return. The answering node must also have sent this node
// everything that was in its journal at the answer, and must not be taking over this node's jobs at that moment.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "gq/base/clock.hpp"
#include "gq/replication/ask.hpp"

namespace gq {

// What a returning node (this node) knows of another node.
struct Heard {
  std::string node;
  bool tried = false;     // this node has asked it since this node was away, whether it answered or not
  bool answered = false;  // it has answered since
  bool sent_all = false;  // since that answer, it has sent this node everything that it knew at the answer
  bool gone = false;
  Millis silence{0};  // the time since its last answer
};

struct Standby {
  enum class For { nothing, answer, news };
  For what = For::nothing;
  std::vector<std::string> nodes;
  std::optional<Millis> left;  // the return ends after this time in any case
  bool alone = false;          // no other node answers
};
// Returns what a returning node waits for. `silence` is how long no other node has answered, but not longer than the
// return has lasted.
Standby wait_of(const std::vector<Heard>& others, Millis silence, Millis takeover, Millis alone_after);

// Returns a text such as "until rep_1 or rep_2 can be asked, at the latest TIME"; empty if the node waits for nothing.
// `now` is wall time.
std::string wait_text(const Standby& wait, Millis now);

// When each function last ran on another node, according to that node's answers.
class LastRuns {
 public:
  // Sets all functions as running now. Call it after a time in which this node could not receive answers: then the lack
  // of answers proves nothing.
  void restart(Millis now) { m_all = now; }
  // The node runs these functions; nullopt: all functions.
  void heard(const std::optional<std::vector<std::string>>& functions, Millis now);
  // Whether the function has not run on that node for --takeover, so that it is not expected to run there.
  bool lacks(const std::string& function, Millis now, Millis takeover) const;

 private:
  Millis m_all{0};
  std::map<std::string, Millis> m_each;
};

class FailureDetector {
 public:
  using Round = uint64_t;

  FailureDetector(Millis takeover, Millis alone_after) : m_takeover(takeover), m_alone_after(alone_after) {}

  // Adds a node of the group. Nothing is known of it, and its silence begins now. For a node that was added before,
  // forgets what was known.
  void add(const std::string& node, Millis now);
  void remove(const std::string& node) { m_nodes.erase(node); }
  // The node has a new identity. Forgets what the store with the old identity has answered.
  void is_another(const std::string& node);

  // This process begins to serve this node. This begins a return.
  void begin(Times now);
  // Tells the detector the time. Call it often, and before the queries below. If there was a gap, begins a return, and
  // returns the reason for it.
  std::optional<std::string> beat(Times now);

  // A node has answered a question or a transfer. If this begins a return of this node, returns the reason; an empty
  // reason need not be logged.
  std::optional<std::string> heard(const std::string& node, Millis now);
  // The number of the current return. A caller notes it when it asks a question, and passes it with the result.
  Round round() const { return m_round; }
  // A node has not answered a question. If no server could be reached (`server_reached`), this proves nothing about the
  // node.
  void failed(const std::string& node, Round asked, bool server_reached, Millis now);
  // A node has answered a question. Call heard() before. `sent`: the position in the answering node's journal up to
  // which it has sent everything to this node, if the answer has it.
  struct News {
    bool back = false;     // the node was gone, and is back
    bool returns = false;  // this node begins a return, because the other node had not answered before
  };
  News answered(const std::string& node, Round asked, const AskReply& reply, std::optional<Lsn> sent, Millis now);
  // Another node has asked this node, which shows that the other node lives.
  void asked_by(const std::string& node, Millis now);

  // Returns the nodes that are newly gone. A node is returned once, and again only after it was back.
  std::vector<std::string> notice_gone(Millis now);

  // What this node waits for in its return. If it has no jobs to run (`has_jobs`), it does not wait for --alone-after.
  Standby standby(Millis now, bool has_jobs) const;
  // Ends the return `round`, when this node waits for nothing more. Returns false if another return has begun since.
  bool end_return(Round round);
  // Whether no return is under way, so that this node may run its jobs.
  bool has_returned() const { return m_returned; }
  // How long the current return has lasted.
  Millis returning_for(Millis now) const { return now - m_return_at; }

  // The following functions are about another node. Of an unknown node, lacks() is true and all others are false.
  bool is_gone(const std::string& node) const;
  bool was_tried(const std::string& node) const;            // asked since this process began to serve
  bool has_answered(const std::string& node) const;         // has answered since this process began to serve
  bool answers(const std::string& node, Millis now) const;  // has answered within --takeover
  // The node is gone, and within --takeover it has neither answered nor asked this node. (A returning node asks before
  // it answers.)
  bool stays_gone(const std::string& node, Millis now) const;
  // Whether the node is not expected to run the function: it is gone, or has not run the function for --takeover.
  bool lacks(const std::string& node, const std::string& function, Millis now) const;

 private:
  struct Node {
    bool tried = false, answered = false;
    // The next two are since this node was away:
    bool asked = false;    // it was asked while a server could be reached
    bool awaited = false;  // it was in the group at that time, and has not answered since
    bool gone = false;
    Millis last_answer{0};
    std::optional<Millis> asked_us{};  // when it last asked this node
    LastRuns runs{};
    // The end of that node's journal at its first answer since this node was away. Before that answer: an older end up
    // to which it had not sent everything.
    std::optional<Lsn> first_end{};
    Lsn sent = 0;  // the position in its journal up to which it has sent everything to this node
    bool has_sent_all() const { return first_end && sent >= *first_end; }
  };
  const Node* find(const std::string& node) const;
  Node* find(const std::string& node);
  void was_away(Millis now);
  void begin_return(Millis now);

  const Millis m_takeover, m_alone_after;
  std::map<std::string, Node> m_nodes;
  Times m_beat;  // the time of the last beat()
  bool m_returned = false;
  Round m_round = 0;
  Round m_back = 0;  // the number of the first return since this node was away
  Millis m_return_at{0};
  Millis m_heard{0};  // when another node last answered, or when the return began
};

}  // namespace gq
