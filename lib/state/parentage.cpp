#include "gq/state/parentage.hpp"

#include <utility>

namespace gq {

std::vector<std::string> name_parents(event::Add& add, std::vector<std::string> parents, Fold& fold) {
  const auto known = fold.get(add.id);
  add.met.clear();
  if (known && !has_ended(*known)) {
    auto [all, met] = fold.parents(add.id);
    add.asked.after = static_cast<uint32_t>(all.size());
    add.asked.after_any = known->after_any;
    add.parents = std::move(all), add.met = std::move(met);
    return {};
  }
  add.parents = std::move(parents);
  const bool has_key = !add.asked.key.empty() && fold.keyed(add.asked.function, add.asked.key, add.at);
  std::vector<std::string> unknown;
  for (const auto& id : add.parents) {
    const auto parent = fold.get(id);
    const bool is_over = parent && has_ended(*parent) && lets_go_on(*parent, add.asked.after_any);
    if (known || is_over) add.met.push_back(id);
    else if (!has_key && (!parent || parent->unborn)) unknown.push_back(id);
  }
  return unknown;
}

}  // namespace gq
