// Membership knows which nodes are in the group, and which store may speak in the name of each node. Pure: the caller
// passes what other nodes have sent, and records and logs the results.
//
// A name is an address and can be given to another store: when a node is set up again, restored, or copied. So each
// store has an identity. What a node has said about itself is no longer valid when its name belongs to another
// identity. Times are Millis since boot.
//
// The surprising fact: any client of the Gearman server may send a transfer in the name of a node. So this node accepts
// a new identity for a name only from the answer to a question that it has asked, because gearmand sends questions to
// the process that serves the name. A transfer that a node merely sends is accepted, but does not change the node's
// identity.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "gq/replication/transfer.hpp"
#include "gq/store/settings.hpp"

namespace gq {

// Limits what a stranger can do that answers in place of a node: three changes at once, then one a minute on average.
class RateLimit {
 public:
  bool allows(Millis now);

 private:
  std::deque<Millis> m_allowed;  // the times of the latest allowed changes
};

// The result when a store speaks in the name of a node.
struct Meeting {
  enum class What {
    as_before,  // it is the known store of that node
    first,      // no store was known under that name: record this one
    another,    // it is another store than before: record it, and send it everything that is not finished
    unproved,   // it has another identity than the known store: accept its transfer, but do not change the known
                // identity
    refused,    // it cannot be that node, because of `reason`
  };
  What what = What::refused;
  std::string reason{};
  bool restarted = false;  // the process has changed, and the old one may have lost records that were not synced
};

// The reason to refuse a transfer: it is not for this node, or not from a node of the group. `kind` names the reason
// without any text from the sender.
struct Refusal {
  const char* kind;
  std::string reason;
};

// The result of a change of gq.json.
struct GroupChange {
  // gq.json names another node or store. This process ignores the change, and the next serving process adopts it. Then
  // no other member is set.
  bool of_another = false;
  std::vector<std::string> removed;
  std::vector<std::string> forgotten;  // not in the group, but according to the journal they are still owed records
  std::vector<std::string> returned;   // in the group, but according to the journal they are forgotten
};

class Membership {
 public:
  explicit Membership(const Group& group);

  const Group& group() const { return m_group; }
  bool has(const std::string& node) const { return m_others.count(node) > 0; }  // false for this node itself
  // The known identity of a node; empty if the node is not in the group, or has never been met.
  const std::string& store_of(const std::string& node) const;
  // Whether `store` is the known identity of a node. The node may be this node.
  bool is(const std::string& node, const std::string& store) const;
  // Whether the node is a relay, which stores nothing.
  bool is_relay(const std::string& node) const;

  // Adopts the group in gq.json. `known` is what the journal says about other nodes.
  GroupChange change(const Group& group, const std::map<std::string, PeerState>& known);
  // Adopts the identity that the journal has for a node.
  void take_up(const std::string& node, const PeerState& state);

  // Checks the group and the names in a transfer, before its content is used.
  std::optional<Refusal> refuse(const Transfer& transfer) const;
  // A store has answered a question that was sent to `node` at the time `asked`. `alive`: whether the known store has
  // answered within --takeover. The result is never `unproved`. Refuses another identity if the node's present identity
  // was met after `asked`.
  Meeting meet(const std::string& node, const std::string& store, const std::string& session, bool alive, Millis asked,
               Millis now);
  // A store has sent a transfer in the name of `node`. The result is never `another`.
  Meeting meet_sender(const std::string& node, const std::string& store, bool alive, Millis now);

  // A node has said whether it is a relay. Returns whether that has changed; nullopt if it has changed too often, and
  // this change is ignored.
  std::optional<bool> set_relay(const std::string& node, bool relay, Millis now);
  // The reason why meet() or set_relay() ignores a change.
  static std::string turned_over(const std::string& node) { return node + " changes its store too often"; }

 private:
  struct Other {
    std::string store{}, session{};
    std::vector<std::string> former{};  // earlier identities, the latest one last
    bool relay = false;
    Millis met = Millis::min();  // when this process first met the present identity
    // Limits how often the node may change its identity, or whether it is a relay. Each such change costs a record, and
    // the node is sent everything again. Without keys, any client can cause it.
    RateLimit turnover{};
  };
  std::string problem_with(const std::string& node, const Other& other, const std::string& store, bool alive) const;

  Group m_group;
  const std::string m_group_id;
  std::map<std::string, Other> m_others;
};

}  // namespace gq
