#include "gq/replication/debts.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>

#include "gq/base/text.hpp"
#include "gq/replication/replica.hpp"

namespace gq {
namespace {}  // namespace

std::map<std::string, PeerState> known_peers(Ledger& ledger) {
  std::map<std::string, PeerState> known;
  ledger.look([&](Fold& fold) { known = fold.peers(); });
  return known;
}

std::string forgotten_record(const std::string& node) {
  return encode_record(event::Peer{.node = node, .at = now_ms(), .position = nothing_owed});
}

std::string joined_record(const std::string& node, Lsn since) {
  return encode_record(event::Peer{.node = node, .at = now_ms(), .since = since});
}

Millis answered_at(const Ledger& ledger, const std::string& node) {
  struct stat st;
  auto peers = ledger.directory().find_below(peers_name);
  return peers && peers->look_at(node, st) ? Millis(st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000)
                                           : Millis(0);
}

void publish_debts(Ledger& ledger, const std::string& node, const std::string& text) {
  const Directory peers = ledger.directory().make_below(peers_name);
  const std::string name = node + debts_suffix;
  if (text.empty()) {
    peers.remove(name);
    return;
  }
  const std::string temporary = name + ".new";
  Fd fd = peers.open(temporary, O_WRONLY | O_CREAT | O_TRUNC);
  write_all(fd.get(), text, temporary);
  if (!peers.rename(temporary, name)) throw_errno(Exit::storage, "rename " + peers.path_of(temporary));
}

namespace {

// The content of the file that the serving process publishes for a node: the position up to which it has sent
// everything, and the jobs that it sends separately.
struct Published {
  Lsn sent = 0;
  std::map<std::string, std::string> singles{};  // by job: why the node does not have it
};

Published published(const std::optional<Directory>& peers, const std::string& node, const std::string& identity) {
  Published said;
  Fd fd = peers ? peers->try_open(node + debts_suffix, O_RDONLY) : Fd();
  if (!fd) return said;
  const std::string text = read_all(fd.get(), 64 << 20, node).value_or("");
  for (const auto& line : lines_of(text)) {
    std::string word = line.substr(0, line.find(' ')), rest = line.substr(std::min(word.size() + 1, line.size()));
    if (word == identity && parse_count(rest)) said.sent = *parse_count(rest);
    else said.singles[word] = rest;
  }
  return said;
}

// Returns the jobs that are owed to a node, and since when. Reads the journal from the node's position on.
std::map<std::string, Millis> owed_to(Ledger& ledger, const Membership& members, const std::string& node,
                                      const PeerState& known, const Published& said) {
  const FailureDetector no_node_is_gone(Millis(0), Millis(0));
  std::map<std::string, Millis> owed;
  auto is_mine = [&](const std::string& origin, const std::string& store_there) {
    if (origin == node && store_there == known.store) return false;
    return is_mine_to_send(members, no_node_is_gone, origin, store_there);
  };
  EventReader reader = ledger.read(known.position);
  for (auto item = reader.next(); item != JournalReader::Item::end; item = reader.next()) {
    if (item != JournalReader::Item::record) continue;
    const Event& event = reader.event();
    if (auto* copied = std::get_if<event::Copied>(&event); copied && copied->says(node, known.store))
      for (const auto& id : copied->ids) owed.erase(id);
    if (reader.lsn() < said.sent && !said.singles.count(id_of(event))) continue;
    auto* add = std::get_if<event::Add>(&event);
    auto* state = std::get_if<event::State>(&event);
    bool own = add     ? !add->node.empty() && is_mine(add->node, add->store)
               : state ? state->from.empty() || is_mine(state->from, state->from_store)
                       : is_change(event) && members.group().once;
    if (own) owed.try_emplace(id_of(event), at_of(event));
  }
  return owed;
}

}  // namespace

std::map<std::string, PeerDebt> debts_of(Ledger& ledger) {
  std::map<std::string, PeerDebt> debts;
  auto known = known_peers(ledger);
  const Group& group = ledger.group();
  if (!group) return debts;
  Membership members(group);
  for (const auto& [node, state] : known) members.take_up(node, state);
  const auto peers = ledger.directory().find_below(peers_name);
  for (const auto& member : group.members) {
    if (member == group.self.node) continue;
    PeerDebt& debt = debts[member];
    debt.answered_at = answered_at(ledger, member);
    if (known[member].position == nothing_owed) continue;
    const Published said = published(peers, member, known[member].store);
    const auto owed = owed_to(ledger, members, member, known[member], said);
    debt.jobs = owed.size();
    for (const auto& [id, why] : said.singles) {
      if (why.empty() || !owed.count(id)) continue;
      if (why[0] == unreadable_mark) debt.unreadable[id] = why.substr(1);
      else debt.refused[id] = why;
    }
    for (const auto& [id, at] : owed)
      if (debt.since.count() == 0 || at < debt.since) debt.since = at;
  }
  return debts;
}

}  // namespace gq
