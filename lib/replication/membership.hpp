// Membership knows which nodes are in the group, and which store may speak for each node's name. Pure: the caller says
// what came, and records and logs what follows from it.
//
// A name is an address and can be given to another store: when a node is set up again, restored, or copied. So a node
// is identified by the identity of its store, and what it has said of itself ends with that identity. Times are Millis
// since boot.
//
// The surprising fact: any client of the Gearman server may send a transfer under a node's name. Another identity than
// the known one is believed only when it answers a question of this node, because questions go to the process that
// serves the name. A transfer that it merely sends is accepted, but does not change the node's identity.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "gq/replication/transfer.hpp"
#include "gq/store/settings.hpp"

namespace gq {

// Limits the effects of a stranger that answers in a node's place: three at once, then one a minute on average.
class RateLimit {
 public:
  bool allows(Millis now);

 private:
  std::deque<Millis> m_allowed;  // when the latest were allowed
};

// What follows when a store speaks for a node.
struct Meeting {
  enum class What {
    as_before,  // it is the known store
    first,      // no store was known under that name: record this one
    another,    // it is another store than before: record it, and tell it everything that is not finished
    unproved,   // it has another identity than the known one: accept its transfer, but do not believe its identity
    refused,    // it cannot be that node: `reason`
  };
  What what = What::refused;
  std::string reason{};
  bool restarted = false;  // another process than before, which may have lost records that were not synced
};

// Why a transfer is not for this node, or not from a node of its group. `kind` names the reason without words of the
// sender.
struct Refusal {
  const char* kind;
  std::string reason;
};

// What a change of gq.json does.
struct GroupChange {
  // It names another node or store: that is for the next serving process, and nothing else is set.
  bool of_another = false;
  std::vector<std::string> removed;
  std::vector<std::string> forgotten;  // not in the group, but the journal still says what they are owed
  std::vector<std::string> returned;   // in the group, but the journal says that they are forgotten
};

class Membership {
 public:
  explicit Membership(const Group& group);

  const Group& group() const { return m_group; }
  bool has(const std::string& node) const { return m_others.count(node) > 0; }  // as another node than this one
  // Empty for a node that is not in the group, or that was not met.
  const std::string& store_of(const std::string& node) const;
  // Whether `store` is the known identity of that node, which may be this one.
  bool is(const std::string& node, const std::string& store) const;
  // Whether the node is a relay, which keeps nothing.
  bool is_relay(const std::string& node) const;

  // Adopts the group in gq.json. `known` is what the journal says of other nodes.
  GroupChange change(const Group& group, const std::map<std::string, PeerState>& known);
  // Adopts what the journal says of a node's identity.
  void take_up(const std::string& node, const PeerState& state);

  // Checks the group and the names in a transfer, before anything of it is believed.
  std::optional<Refusal> refuse(const Transfer& transfer) const;
  // A store has answered a question that `node` was asked at `asked`, of the same clock as `now`. `alive`: whether the
  // known store has answered within --takeover. Never `unproved`. Refuses an answer to a question from before another
  // store was met.
  Meeting meet(const std::string& node, const std::string& store, const std::string& session, bool alive, Millis asked,
               Millis now);
  // A store has sent a transfer as `node`. Never `another`.
  Meeting hear(const std::string& node, const std::string& store, bool alive, Millis now);

  // The node says whether it is a relay. Returns whether that has changed; nullopt if it changes too often to be
  // believed.
  std::optional<bool> says_relay(const std::string& node, bool relay, Millis now);
  // Why meet() or says_relay() does not believe a node.
  static std::string turned_over(const std::string& node) { return node + " changes its store too often"; }

 private:
  struct Other {
    std::string store{}, session{};
    std::vector<std::string> former{};  // earlier identities, the latest last
    bool relay = false;
    Millis met = Millis::min();  // when it became this store, while this process ran
    // Limits how often the node is believed to be another store or to have become a relay. Each such change costs a
    // record, and the node is told everything again; without keys any client can cause it.
    RateLimit turnover{};
  };
  std::string problem_with(const std::string& node, const Other& other, const std::string& store, bool alive) const;

  Group m_group;
  const std::string m_group_id;
  std::map<std::string, Other> m_others;
};

}  // namespace gq
