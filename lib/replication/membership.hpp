// Membership: which nodes are in the group, and who may speak for each of their names. Pure: it is told what came, and
// returns what follows from it; the caller records that and says it.
//
// A name is an address and can be given to another store: a node is set up anew, restored, or copied. So a node is
// known by its store's identity, and what it has said of itself ends with it. Times are Millis since boot.
//
// The surprising fact: anybody at the Gearman server may send a transfer under a node's name. Another identity than the
// known one is believed only when it answers what this node asks, which goes to who serves that name; what it merely
// sends is taken, and changes nothing of who it is.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "gq/replication/transfer.hpp"
#include "gq/store/settings.hpp"

namespace gq {

// Limits what a stranger causes by answering in a node's place: a few times at once, then once a minute.
class Sparing {
 public:
  bool allows(Millis now);

 private:
  std::deque<Millis> m_allowed;  // the last of those
};

// What follows when one speaks for a node.
struct Meeting {
  enum class What {
    as_before,  // it is the one that is known
    first,      // nobody was known under that name: this is to be recorded
    another,    // it is another store than before: likewise, and it is to be told everything that is not finished
    unproved,   // it has another identity than the known one: hear it, but believe nothing of that
    refused,    // it cannot be that node: `reason`
  };
  What what = What::refused;
  std::string reason{};
  bool restarted = false;  // another process than before, which may have lost what it had not synced
};

// Why a transfer is not for this node, or from nobody in its group. `kind` names the reason without words of the
// other's.
struct Refusal {
  const char* kind;
  std::string reason;
};

// What a change of gq.json does.
struct GroupChange {
  bool of_another = false;  // it is for another node or store, so for the next process that serves; nothing else
  std::vector<std::string> removed;
  std::vector<std::string> forgotten;  // not in the group, and the journal still says what they are owed
  std::vector<std::string> returned;   // in it, and the journal says that they are forgotten
};

class Membership {
 public:
  explicit Membership(const Group& group);

  const Group& group() const { return m_group; }
  bool has(const std::string& node) const { return m_others.count(node) > 0; }  // as another one
  // Of a node that is not in the group, or that was not met: empty.
  const std::string& store_of(const std::string& node) const;
  // Whether that is the known identity of that node, be it this one.
  bool is(const std::string& node, const std::string& store) const;
  // Whether the node keeps nothing.
  bool is_relay(const std::string& node) const;

  // Takes up what gq.json says now. `known` is what the journal says of other nodes.
  GroupChange change(const Group& group, const std::map<std::string, PeerState>& known);
  // What the journal says of who a node is.
  void take_up(const std::string& node, const PeerState& state);

  // Before anything of a transfer is believed.
  std::optional<Refusal> refuse(const Transfer& transfer) const;
  // One has answered what a node was asked at `asked`, of the same clock as `now`. `alive`: whether the known one has
  // answered within --takeover. Never unproved. Refuses an answer to a question from before another store was met.
  Meeting meet(const std::string& node, const std::string& store, const std::string& session, bool alive, Millis asked,
               Millis now);
  // One has sent a transfer as a node. Never another.
  Meeting hear(const std::string& node, const std::string& store, bool alive, Millis now);

  // It says of itself whether it keeps nothing; nullopt where that has changed more often than is believed, else
  // whether it has changed.
  std::optional<bool> says_relay(const std::string& node, bool relay, Millis now);
  // Why meet() or says_relay() does not believe a node.
  static std::string turned_over(const std::string& node) {
    return node + " is another store than before, time and again";
  }

 private:
  struct Other {
    std::string store{}, session{};
    std::vector<std::string> former{};  // identities; the last of them
    bool relay = false;
    Millis met = Millis::min();  // when it became this store, while this process ran
    // When it is believed to be another one than before: set up anew, or a relay now. Each time that costs a record and
    // telling it all again, and without keys anybody can answer for it.
    Sparing turnover{};
  };
  std::string problem_with(const std::string& node, const Other& other, const std::string& store, bool alive) const;

  Group m_group;
  const std::string m_group_id;
  std::map<std::string, Other> m_others;
};

}  // namespace gq
