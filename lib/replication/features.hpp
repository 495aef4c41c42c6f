// Features of records that older programs do not know. A group refuses a record with such a feature until every node
// has answered that it reads the feature: an older node would ignore the feature when it takes the job over.
//
// Each answer to a question (ask.hpp) names the features that the node reads; an older program names none. The process
// that serves this node publishes what each node has answered, so that every process of the store can read it.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "gq/state/answer.hpp"
#include "gq/store/ledger.hpp"
#include "gq/store/new_job.hpp"

namespace gq {

enum class Feature {
  expire,  // a job that is not started in time is dead
  cancel,  // a state says that the job is cancelled
  after,   // a job is not started before its parents have ended
};
inline constexpr size_t feature_count = 3;

// The name of a feature in an answer.
const char* feature_name(Feature feature);
// The names of all features that this program reads.
std::set<std::string> features_read();
// The features that older programs must know to treat this job as its client asks.
std::vector<Feature> features_of(const event::Add& add);

// What a node has answered: the names of the features, and the identity of its store.
struct NodeReads {
  std::string store{};
  std::set<std::string> features{};
  bool operator==(const NodeReads&) const = default;
};
// Publishes the answer of a node. Throws Error(storage).
void publish_reads(const Ledger& ledger, const std::string& node, const NodeReads& reads);

// Returns the reason why the group of this store cannot have records with this feature yet: a node does not read it, or
// has not answered. A program then exits with 75. Returns nullopt if the group can have such records, or if the store
// belongs to no group.
std::optional<std::string> why_unread(Ledger& ledger, Feature feature);
// Sets the answer `refused` for each job that has no answer yet and has a feature that a node of the group does not
// read.
void refuse_unread(Ledger& ledger, const std::vector<NewJob>& jobs, std::vector<std::optional<Answer>>& answers);

}  // namespace gq
