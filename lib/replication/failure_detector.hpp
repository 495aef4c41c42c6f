// The failure detector knows which nodes of a group answer and which are gone. It also knows whether this node itself
// was away, so that it must hear what the other nodes did before it runs its jobs. Pure: the caller says what came and
// when.
//
// Times are Millis since boot. A node is gone when it has not answered for --takeover although a Gearman server could
// be reached all that time. This node goes through a "return" when it begins to serve, after a gap (lease.hpp), and
// when it hears from another node after no node had answered for --takeover: the other nodes may have declared it gone
// and taken over its jobs. A return ends when each node that answers has told this node all that was in its journal
// when it answered, and each other node was asked. If no node answers, it ends after --alone-after. A node that has not
// answered, or not told all, by then may still have taken jobs over: when it answers later, this node returns again.
// Returns are numbered (Round); an answer to a question from an earlier round does not count, since this node was away
// after it.
//
// The surprising fact: an answer alone does not end a return. The node that gave it must also have told this node all
// that was in its journal then, and must not be taking over this node's jobs at that moment.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "gq/base/clock.hpp"
#include "gq/replication/ask.hpp"

namespace gq {

// What a returning node knows of another node.
struct Heard {
  std::string node;
  bool tried = false;     // it was asked since this node was away, whether it answered or not
  bool answered = false;  // it has answered since
  bool told = false;      // and since that answer, it has told what it knew then
  bool gone = false;
  Millis silence{0};  // the time since its last answer
};

struct Standby {
  enum class For { nothing, answer, news };
  For what = For::nothing;
  std::vector<std::string> nodes;
  std::optional<Millis> left;  // the wait ends after this time in any case
  bool alone = false;          // no other node answers
};
// What a returning node waits for. `silence` is how long no other node has answered, counted from the beginning
// of the return at the earliest.
Standby wait_of(const std::vector<Heard>& others, Millis silence, Millis takeover, Millis alone_after);

// A text such as "until rep_1 or rep_2 can be asked, at the latest TIME"; empty if the node waits for nothing. `now` is
// wall time.
std::string wait_text(const Standby& wait, Millis now);

// When each function last ran on a node, as far as the node has said.
class LastRuns {
 public:
  // As if all functions had run now: while nothing could be heard, silence says nothing.
  void restart(Millis now) { m_all = now; }
  // The node runs these functions; nullopt: all functions.
  void heard(const std::optional<std::vector<std::string>>& functions, Millis now);
  // Whether the function has not run there for --takeover, so that it is not expected to run there.
  bool lacks(const std::string& function, Millis now, Millis takeover) const;

 private:
  Millis m_all{0};
  std::map<std::string, Millis> m_each;
};

class FailureDetector {
 public:
  using Round = uint64_t;

  FailureDetector(Millis takeover, Millis alone_after) : m_takeover(takeover), m_alone_after(alone_after) {}

  // Another node is in the group from now on. Nothing is known of it, and its silence counts from now. Adding a known
  // node forgets what was known.
  void add(const std::string& node, Millis now);
  void remove(const std::string& node) { m_nodes.erase(node); }
  // The node is another store now: what the old store told does not count.
  void is_another(const std::string& node);

  // This process begins to serve this node, which begins a return.
  void begin(Times now);
  // Tells the detector the time. Must be called often, and before the questions below. After a gap it returns the
  // reason why this node returns now.
  std::optional<std::string> beat(Times now);

  // The node has answered something. If that makes this node return, gives the reason; an empty reason need not be
  // logged.
  std::optional<std::string> heard(const std::string& node, Millis now);
  // The current return. A caller notes it when it asks a question, and passes it on with the result.
  Round round() const { return m_round; }
  // A question got no answer. If no server could be reached, the silence says nothing.
  void failed(const std::string& node, Round asked, bool server_reached, Millis now);
  // A question got an answer; heard() was called before. `told`: up to where that node has told this one, if it says
  // so.
  struct News {
    bool back = false;     // it was gone
    bool returns = false;  // this node returns now, because that node had not answered before
  };
  News answered(const std::string& node, Round asked, const AskReply& reply, std::optional<Lsn> told, Millis now);
  // The node asks this one: so it lives.
  void asked_by(const std::string& node, Millis now);

  // Returns the nodes that are gone from now on. Each node is returned once, until it is back.
  std::vector<std::string> notice_gone(Millis now);

  // What this node waits for in its return. Without jobs to run (`has_jobs`) it does not wait for --alone-after.
  Standby standby(Millis now, bool has_jobs) const;
  // Ends the return, because this node waits for nothing. False if another return has begun after `round`.
  bool end_return(Round round);
  // Whether this node may run its jobs: no return is under way.
  bool has_returned() const { return m_returned; }
  // How long the current return has lasted.
  Millis returning_for(Millis now) const { return now - m_return_at; }

  // An unknown node is neither gone, nor tried, nor answered, and it lacks every function.
  bool is_gone(const std::string& node) const;
  bool was_tried(const std::string& node) const;            // asked since this process began to serve, answered or not
  bool has_answered(const std::string& node) const;         // answered since this process began to serve
  bool answers(const std::string& node, Millis now) const;  // answered within --takeover
  // The node is gone, and within --takeover it has neither answered nor asked this node, as a returning node does.
  bool stays_gone(const std::string& node, Millis now) const;
  // Whether the node is not expected to run the function: it is gone, or has not run the function for --takeover.
  bool lacks(const std::string& node, const std::string& function, Millis now) const;

 private:
  struct Node {
    bool tried = false, answered = false;
    // Since this node was away:
    bool asked = false;    // it was asked while a server could be reached
    bool awaited = false;  // it was in the group then, and has not answered
    bool gone = false;
    Millis last_answer{0};
    std::optional<Millis> asked_us{};  // when it last asked this node
    LastRuns runs{};
    // The end of its journal at its first answer since this node was away. Until that answer: an older end that it had
    // not told up to.
    std::optional<Lsn> first_end{};
    Lsn told = 0;  // up to where it has told this node
    bool has_told() const { return first_end && told >= *first_end; }
  };
  const Node* find(const std::string& node) const;
  Node* find(const std::string& node);
  void was_away(Millis now);
  void begin_return(Millis now);

  const Millis m_takeover, m_alone_after;
  std::map<std::string, Node> m_nodes;
  Times m_beat;  // the last beat()
  bool m_returned = false;
  Round m_round = 0;
  Round m_back = 0;  // the first round since this node was away
  Millis m_return_at{0};
  Millis m_heard{0};  // when another node last answered, or when the return began
};

}  // namespace gq
