#include "gq/store/new_job.hpp"

#include <algorithm>

#include "gq/base/clock.hpp"
#include "gq/base/text.hpp"
#include "gq/base/ulid.hpp"

namespace gq {

uint64_t sum_of_parents(const std::vector<std::string>& ids) {
  std::string all;
  for (const auto& id : ids) all += id;
  return sum64(all);
}

void NewJob::encode() {
  if (!parents.empty()) add.asked.parents_sum = sum_of_parents(parents);
  head = encode_record_head(add, data.size(), data_sum);
}

void NewJob::take_data(std::shared_ptr<const std::string> bytes, size_t from) {
  own = std::move(bytes);
  data = std::string_view(*own).substr(from);
  data_sum = sum64(data);
  add.part = {};
}

bool NewJob::take_parents(const event::After& after) {
  if (after.id != add.id || after.first != parents.size() || after.ids.size() > add.asked.after - parents.size())
    return false;
  parents.insert(parents.end(), after.ids.begin(), after.ids.end());
  return true;
}

std::vector<std::string> NewJob::parent_records() const {
  std::vector<std::string> records;
  // If the add record names the parents, this record has no effect. Because of its type, older programs refuse the
  // segment: they would not wait for the parents.
  if (!add.parents.empty())
    records.push_back(encode_record(event::After{.id = add.id, .at = add.at, .ids = {add.parents.front()}}));
  for (size_t at = 0; at < parents.size(); at += parents_in_record) {
    const auto begin = parents.begin() + static_cast<long>(at);
    const auto end = begin + static_cast<long>(std::min<size_t>(parents.size() - at, parents_in_record));
    records.push_back(encode_record(
        event::After{.id = add.id, .at = add.at, .first = static_cast<uint32_t>(at), .ids = {begin, end}}));
  }
  return records;
}

NewJob make_job(Submission asked, std::string_view data, const std::string& id, Part part) {
  NewJob job;
  job.add.id = id.empty() ? new_ulid() : id;
  job.add.given = !id.empty();
  job.add.at = now_ms();
  job.add.asked = std::move(asked);
  job.add.part = std::move(part);
  job.data = data;
  job.data_sum = sum64(data);
  job.encode();
  return job;
}

}  // namespace gq
