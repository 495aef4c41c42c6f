#include "wire.hpp"

#include "text.hpp"

namespace gq {
namespace {

constexpr const char* words[] = {"queued", "same", "conflict", "refused", "bad", "unknown"};  // by Outcome

}  // namespace

std::optional<std::vector<NewJob>> parse_group(std::string_view payload, const std::string& function,
                                               std::string& reason) {
  std::vector<NewJob> jobs;
  jobs.reserve(std::min<size_t>(payload.size() / (2 * record_header_size) + 1, max_group_jobs));
  while (!payload.empty()) {
    auto head = parse_record_head(payload);
    if (!head || head->data_size > payload.size() - head->head_size) {
      reason = "not a whole record";
      return std::nullopt;
    }
    NewJob& job = jobs.emplace_back();
    job.head = payload.substr(0, head->head_size);
    job.data = payload.substr(head->head_size, head->data_size);
    if (head->meta.type != RecordType::add) reason = "a record that is not an add";
    else if (head->meta.function != function) reason = "a record for another function";
    else if (!is_utf8(head->meta.why) || !is_utf8(head->meta.owner)) reason = "text that is not UTF-8";
    else if (sum64(job.data) != head->data_sum) reason = "a workload with a wrong checksum";
    else if (jobs.size() > 16 * max_group_jobs) reason = "too many records";
    if (!reason.empty()) return std::nullopt;
    payload.remove_prefix(head->head_size + head->data_size);
    job.record = std::move(*head);
  }
  if (jobs.empty()) {
    reason = "no record";
    return std::nullopt;
  }
  return jobs;
}

std::string encode_answer(const std::string& id, const Answer& answer) {
  std::string line = std::string(words[static_cast<size_t>(answer.outcome)]) + " " + id;
  if (!answer.reason.empty()) line += " " + printable(answer.reason);
  return line + "\n";
}

std::optional<std::vector<Answer>> parse_answers(std::string_view result, const std::vector<std::string>& ids) {
  std::vector<Answer> answers;
  auto lines = split(result, '\n');
  if (lines.size() != ids.size() + 1 || !lines.back().empty()) return std::nullopt;
  for (size_t i = 0; i < ids.size(); ++i) {
    std::string_view line = lines[i];
    std::optional<Answer> answer;
    for (size_t w = 0; w < std::size(words); ++w) {
      std::string start = std::string(words[w]) + " " + ids[i];
      if (line == start || line.substr(0, start.size() + 1) == start + " ") {
        answer = Answer{static_cast<Outcome>(w), {}, 0};
        if (line.size() > start.size()) answer->reason = printable(line.substr(start.size() + 1));
      }
    }
    if (!answer) return std::nullopt;
    answers.push_back(std::move(*answer));
  }
  return answers;
}

}  // namespace gq
