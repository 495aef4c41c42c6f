#include "gq/state/answer.hpp"

namespace gq {

bool is_same(const event::Add& add, uint64_t data_size, uint64_t data_sum, const Job& known) {
  return is_of(known, add.asked.function, add.workload_size(data_size), add.workload_sum(data_sum));
}

Answer answer_to(const event::Add& add, uint64_t data_size, uint64_t data_sum, const std::optional<Job>& known,
                 const std::optional<std::string>& first) {
  if (!known) return {Outcome::unknown, "its key has just been freed"};
  if (!is_same(add, data_size, data_sum, *known)) return {Outcome::conflict};
  if (first) return {Outcome::same, *first};
  return {Outcome::queued};
}

}  // namespace gq
