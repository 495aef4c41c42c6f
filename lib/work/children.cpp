#include "gq/work/children.hpp"

#include <sodium.h>

#include <algorithm>
#include <array>

#include "gq/base/bytes.hpp"
#include "gq/base/error.hpp"
#include "gq/base/text.hpp"
#include "gq/base/ulid.hpp"

namespace gq {
namespace {

NewJob child_of(const Claim& parent, uint32_t number, std::string_view workload, const ThenRules& rules) {
  NewJob child = make_job({.function = rules.function, .priority = parent.job.priority, .serial = parent.job.serial},
                          workload, child_id(parent.id, number));
  child.add.descent = {parent.id, parent.job.starts};
  child.encode();
  return child;
}

// Takes the answer about one child.
void take(const Answer& answer, const std::string& child, Offspring& offspring) {
  if (answer.outcome == Outcome::queued) return;
  const bool passes = answer.outcome == Outcome::refused || answer.outcome == Outcome::unknown;
  if (!offspring.problem.empty() && passes) return;  // a reason that stays goes before one that may pass
  offspring.passes = passes;
  offspring.problem = passes ? "its output cannot become jobs now: " + answer.reason
                             : "its output cannot become jobs: another job has the ID " + child;
}

}  // namespace

std::vector<std::string_view> items_of(std::string_view output, Items items) {
  std::vector<std::string_view> all;
  if (items == Items::whole) {
    if (!output.empty()) all.push_back(output);
    return all;
  }
  const char separator = items == Items::lines ? '\n' : '\0';
  while (!output.empty()) {
    const size_t end = std::min(output.find(separator), output.size());
    all.push_back(output.substr(0, end));
    output.remove_prefix(std::min(end + 1, output.size()));
  }
  return all;
}

std::string child_id(const std::string& parent, uint32_t number) {
  static const bool is_ready = sodium_init() >= 0;
  if (!is_ready) throw Error(Exit::bug, "cannot start libsodium");
  std::string of = parent;
  put_le<uint32_t>(of, number);
  unsigned char hash[crypto_generichash_BYTES_MIN];
  crypto_generichash(hash, sizeof hash, reinterpret_cast<const unsigned char*>(of.data()), of.size(), nullptr, 0);
  std::array<uint8_t, 10> bits;
  static_assert(sizeof hash >= sizeof bits);
  std::copy_n(hash, bits.size(), bits.begin());
  return ulid_like(parent, bits);
}

Brood brood_of(const Claim& parent, Capture& printed, Kept output, const ThenRules& rules) {
  Brood brood{.parent = parent.id};
  Offspring& offspring = brood.offspring;
  const Kept kept = printed.kept_within(rules.max_workload);
  if (kept == Kept::too_large) {
    offspring.problem =
        "its output is larger than --max-workload: more than " + std::to_string(rules.max_workload) + " bytes";
    return brood;
  }
  try {
    if (kept != Kept::whole) throw Error(Exit::storage, printed.reason());
    const auto whole = std::make_shared<const std::string>(printed.read());
    const auto items = items_of(*whole, rules.items);
    if (items.size() > most_children) {
      offspring.problem = "its output has " + std::to_string(items.size()) + " items, and at most " +
                          std::to_string(most_children) + " become jobs";
      return brood;
    }
    for (const auto& item : items) {
      NewJob& child = brood.jobs.emplace_back(child_of(parent, static_cast<uint32_t>(brood.jobs.size()), item, rules));
      child.own = whole;
    }
    if (rules.items == Items::whole && output != Kept::whole && !brood.jobs.empty() && printed.file().file)
      brood.jobs[0].arrived = std::make_shared<Arrived>(std::move(printed.file()));
  } catch (const Error& e) {
    brood.jobs.clear();
    offspring = {.problem = std::string("its output cannot become jobs now: ") + printable(e.what()), .passes = true};
  }
  return brood;
}

void add_children(Queue& queue, std::vector<Brood>& broods) {
  std::vector<NewJob> jobs;
  for (auto& brood : broods) std::move(brood.jobs.begin(), brood.jobs.end(), std::back_inserter(jobs));
  std::vector<Answer> answers(jobs.size());
  std::vector<std::string> cancelled;
  try {
    if (!jobs.empty()) answers = queue.add(jobs);
    // A user who cancels a parent later forgets its children.
    if (!jobs.empty()) cancelled = queue.cancelled();
  } catch (const Error& e) {
    for (auto& answer : answers) answer = {Outcome::unknown, printable(e.what())};
  }
  size_t at = 0;
  std::vector<std::string> childless;
  for (auto& brood : broods) {
    const size_t number = brood.jobs.size();
    for (size_t i = 0; i < number; ++i, ++at) take(answers[at], jobs[at].add.id, brood.offspring);
    const bool is_cancelled = std::find(cancelled.begin(), cancelled.end(), brood.parent) != cancelled.end();
    if (brood.offspring.problem.empty() && !is_cancelled) brood.offspring.jobs = static_cast<uint32_t>(number);
    else if (number > 0) childless.push_back(brood.parent);
  }
  for (const auto& job : jobs)
    if (job.arrived && !job.arrived->name.empty()) queue.remove(*job.arrived);  // unless it has become the blob
  if (childless.empty()) return;
  try {
    queue.forget_unborn(childless);
  } catch (const Error& e) {  // then none of these parents may end
    for (auto& brood : broods)
      if (!brood.offspring.problem.empty() && !brood.jobs.empty()) brood.offspring.passes = true;
  }
}

}  // namespace gq
