#include "gq/store/new_job.hpp"

#include "gq/base/clock.hpp"
#include "gq/base/text.hpp"
#include "gq/base/ulid.hpp"

namespace gq {

void NewJob::take_data(std::shared_ptr<const std::string> bytes, size_t from) {
  own = std::move(bytes);
  data = std::string_view(*own).substr(from);
  data_sum = sum64(data);
  add.part = {};
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
