#include "gq/replication/features.hpp"

#include <fcntl.h>

#include <map>

#include "gq/base/text.hpp"
#include "gq/replication/debts.hpp"

namespace gq {
namespace {

struct Named {
  const char* name;
  const char* option;  // for users
};
constexpr Named features[] = {{"expire", "--expire"}, {"cancel", "--cancel"}, {"after", "--after"}};  // by Feature
static_assert(std::size(features) == feature_count);

// Returns what this node has last answered; nullopt if it has not answered, or if it is another store since.
std::optional<NodeReads> reads_of(const std::optional<Directory>& peers, const std::string& node,
                                  const std::string& store) {
  Fd fd = peers ? peers->try_open(node + reads_suffix, O_RDONLY) : Fd();
  if (!fd) return std::nullopt;
  const auto lines = lines_of(read_all(fd.get(), 1 << 20, node).value_or(""));
  const auto words = split(lines.empty() ? "" : lines.front(), ' ');
  if (words.front() != store) return std::nullopt;
  return NodeReads{words.front(), {words.begin() + 1, words.end()}};
}

}  // namespace

const char* feature_name(Feature feature) { return features[static_cast<size_t>(feature)].name; }

std::set<std::string> features_read() {
  std::set<std::string> names;
  for (const auto& feature : features) names.insert(feature.name);
  return names;
}

std::vector<Feature> features_of(const event::Add& add) {
  std::vector<Feature> needed;
  if (add.asked.expire.count() > 0) needed.push_back(Feature::expire);
  if (add.asked.after > 0) needed.push_back(Feature::after);
  return needed;
}

void publish_reads(const Ledger& ledger, const std::string& node, const NodeReads& reads) {
  std::string text = reads.store;
  for (const auto& feature : reads.features) text += " " + feature;
  ledger.directory().make_below(peers_name).publish(node + reads_suffix, text + "\n", true);
}

std::optional<std::string> why_unread(Ledger& ledger, Feature feature) {
  const Group& group = ledger.group();
  if (!group) return std::nullopt;
  const auto known = known_peers(ledger);
  const auto peers = ledger.directory().find_below(peers_name);
  const Named& what = features[static_cast<size_t>(feature)];
  for (const auto& node : group.members) {
    if (node == group.self.node) continue;
    const auto state = known.find(node);
    const auto reads = state == known.end() ? std::nullopt : reads_of(peers, node, state->second.store);
    if (!reads) return node + " has not answered yet whether it knows " + what.option;
    if (!reads->features.count(what.name)) return node + " does not know " + what.option + ": it runs an older gq";
  }
  return std::nullopt;
}

void refuse_unread(Ledger& ledger, const std::vector<NewJob>& jobs, std::vector<std::optional<Answer>>& answers) {
  std::map<Feature, std::optional<std::string>> found;
  for (size_t i = 0; i < jobs.size(); ++i) {
    for (const Feature feature : features_of(jobs[i].add)) {
      if (answers[i]) break;
      if (!found.count(feature)) found[feature] = why_unread(ledger, feature);
      if (const auto& why = found[feature]) answers[i] = {Outcome::refused, *why, 0};
    }
  }
}

}  // namespace gq
