// The parents of a job that a client sends to a group of nodes: what the node that accepts the job records about them.
#pragma once

#include <string>
#include <vector>

#include "gq/state/fold.hpp"

namespace gq {

// Names these parents of a new job in its add record, and those of them that have ended. A job that is known already,
// and has not ended, keeps the parents that the store has for it. Returns the parents that the store does not know: the
// job cannot be queued before they are known, because one that has not come yet has not ended either.
std::vector<std::string> name_parents(event::Add& add, std::vector<std::string> parents, Fold& fold);

}  // namespace gq
