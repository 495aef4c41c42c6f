// The failure detector: which nodes of a group answer, which are gone, and whether this node itself was away, so that
// it must hear what the others did before it runs its jobs. Pure: it is told what came and when.
//
// Times are Millis since boot. A node is gone when it has not answered for --takeover although a Gearman server could
// be reached all that time. This node returns when it begins to serve, after a gap (lease.hpp), and when it hears
// again of others after a time of --takeover in which none answered: the others may have believed it gone, and have
// taken its jobs over. So may have one that has not answered, or not told all, until that return has ended; when it
// answers then, this node returns once more, until that one has told what it knows. A return is a round, and what was
// asked before this node came back says nothing of what became of its jobs.
//
// The surprising fact: an answer alone does not end a return. The node that gave it must also have told all that stood
// in its journal then, and must not be taking over this node's jobs in that moment.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "gq/base/clock.hpp"
#include "gq/replication/ask.hpp"

namespace gq {

// What a node that returns knows of another one.
struct Heard {
  std::string node;
  bool tried = false;     // it was asked since, whether it answered or not
  bool answered = false;  // it has answered since
  bool told = false;      // and has told since what it knew then
  bool gone = false;
  Millis silence{0};  // how long ago it last answered
};

struct Standby {
  enum class For { nothing, answer, news };
  For what = For::nothing;
  std::vector<std::string> nodes;
  std::optional<Millis> left;  // it ends then, whatever they do
  bool alone = false;          // no other node answers
};
// What a node waits for that returns. `silence` is how long nobody has answered since it began to.
Standby wait_of(const std::vector<Heard>& others, Millis silence, Millis takeover, Millis alone_after);

// "until rep_1 or rep_2 can be asked, at the latest TIME"; empty where it waits for nothing. `now` is wall time.
std::string wait_text(const Standby& wait, Millis now);

// When functions last ran on a node, as far as it said.
class LastRuns {
 public:
  // As if all had run: where nothing could be heard, silence says nothing.
  void restart(Millis now) { m_all = now; }
  // nullopt: all of them.
  void heard(const std::optional<std::vector<std::string>>& functions, Millis now);
  // Whether the function has not run there for so long that it is not expected to.
  bool lacks(const std::string& function, Millis now, Millis takeover) const;

 private:
  Millis m_all{0};
  std::map<std::string, Millis> m_each;
};

class FailureDetector {
 public:
  using Round = uint64_t;

  FailureDetector(Millis takeover, Millis alone_after) : m_takeover(takeover), m_alone_after(alone_after) {}

  // Another node is in the group from now on, and nothing is known of it; its silence counts from now. One that is
  // known begins anew.
  void add(const std::string& node, Millis now);
  void remove(const std::string& node) { m_nodes.erase(node); }
  // It is another store than before: what it told before was another's.
  void is_another(const std::string& node);

  // This process begins to serve the node, which returns.
  void begin(Times now);
  // Time goes on: to be called often, and before what follows is asked. After a gap it returns why the node returns
  // now.
  std::optional<std::string> beat(Times now);

  // The node has answered something. Returns why this node returns now, if it does; the log need not say an empty
  // reason.
  std::optional<std::string> heard(const std::string& node, Millis now);
  // The return in which a question is asked; it goes with its end.
  Round round() const { return m_round; }
  // A question has no answer. Where no server could be reached, the silence says nothing.
  void failed(const std::string& node, Round asked, bool server_reached, Millis now);
  // It has one, besides what heard() was told. `told`: up to where that node has told this one, where it says so.
  struct News {
    bool back = false;     // it was gone
    bool returns = false;  // this node returns now, since that one had not answered before
  };
  News answered(const std::string& node, Round asked, const AskReply& reply, std::optional<Lsn> told, Millis now);
  // The node asks this one: so it lives.
  void asked_by(const std::string& node, Millis now);

  // Nodes that are gone from this moment on; each is named once, until it is back.
  std::vector<std::string> notice_gone(Millis now);

  // What this node waits for in its return. Without jobs to run (`has_jobs`) it does not wait for --alone-after.
  Standby standby(Millis now, bool has_jobs) const;
  // It waits for nothing. False when another return has begun after `round`.
  bool end_return(Round round);
  // Whether it may run its jobs: no return is under way.
  bool has_returned() const { return m_returned; }
  // How long the return under way has lasted.
  Millis returning_for(Millis now) const { return now - m_return_at; }

  // Of a node that is not known: neither gone, nor tried, nor answered; it runs nothing.
  bool is_gone(const std::string& node) const;
  bool was_tried(const std::string& node) const;            // asked since this process began to serve, answered or not
  bool has_answered(const std::string& node) const;         // since then
  bool answers(const std::string& node, Millis now) const;  // within --takeover
  // It is gone, and within --takeover it has neither said anything nor asked this one, as one does that is back.
  bool stays_gone(const std::string& node, Millis now) const;
  // Whether the node is not expected to run the function: it is gone, or has not run it for --takeover.
  bool lacks(const std::string& node, const std::string& function, Millis now) const;

 private:
  struct Node {
    bool tried = false, answered = false;
    // Since this node was away:
    bool asked = false;    // where a server could be reached
    bool awaited = false;  // it was in the group then, and has not answered
    bool gone = false;
    Millis last_answer{0};
    std::optional<Millis> asked_us{};  // when it last asked
    LastRuns runs{};
    // The end of its journal when it first answered since this node was away, or what it had not told before that.
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
  Times m_beat;  // when this process last went on
  bool m_returned = false;
  Round m_round = 0;
  Round m_back = 0;  // the first one since this node was away
  Millis m_return_at{0};
  Millis m_heard{0};  // when another node last answered, or the return began
};

}  // namespace gq
