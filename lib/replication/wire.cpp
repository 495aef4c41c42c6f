#include "gq/replication/wire.hpp"

#include <algorithm>
#include <new>

#include "gq/base/error.hpp"
#include "gq/base/text.hpp"
#include "gq/base/ulid.hpp"
#include "gq/replication/pull_wire.hpp"

namespace gq {
namespace {

constexpr const char* words[] = {"queued", "same", "conflict", "refused", "bad", "unknown"};  // by Outcome
constexpr const char* owed_word = "owed";
constexpr const char* stores_word = "results";

// Parses the line that encode_stores() makes.
std::optional<std::vector<std::string>> parse_stores(std::string_view line) {
  auto named = split(line, ' ');
  if (named.size() < 2 || named.size() > most_stores + 1 || named[0] != stores_word) return std::nullopt;
  named.erase(named.begin());
  remove_repeated(named);
  if (!std::all_of(named.begin(), named.end(), [](const auto& word) { return is_ulid(word); })) return std::nullopt;
  return named;
}

bool has_all_parents(const NewJob& job) { return job.parents.size() == job.add.asked.after; }

// Returns the size of the first job of a payload: its add record, its workload and its after records.
size_t size_of_first(std::string_view payload, const RecordHead& head) {
  size_t size = head.head_size + head.data_size;
  while (size < payload.size()) {
    const auto next = parse_record(payload.substr(size));
    if (!next || !is_any_of<event::After>(next->event)) break;
    size += next->head_size;
  }
  return size;
}

}  // namespace

std::optional<std::vector<NewJob>> parse_group(std::string_view payload, const std::string& function,
                                               std::string& reason) {
  std::vector<NewJob> jobs;
  jobs.reserve(std::min<size_t>(payload.size() / (2 * record_header_size) + 1, max_group_jobs));
  while (!payload.empty()) {
    auto record = parse_record(payload);
    if (!record || record->data_size > payload.size() - record->head_size) {
      reason = "not a whole record";
      return std::nullopt;
    }
    if (auto* after = std::get_if<event::After>(&record->event)) {
      if (jobs.empty() || record->data_size > 0 || !jobs.back().take_parents(*after))
        reason = "a record that names jobs which another is after, in a wrong place";
      if (!reason.empty()) return std::nullopt;
      payload.remove_prefix(record->head_size);
      continue;
    }
    if (!jobs.empty() && !has_all_parents(jobs.back())) break;
    NewJob& job = jobs.emplace_back();
    job.head = payload.substr(0, record->head_size);
    job.data = payload.substr(record->head_size, record->data_size);
    job.data_sum = record->data_sum;
    auto* add = std::get_if<event::Add>(&record->event);
    if (!add) reason = "a record that is not an add";
    else if (add->asked.function != function) reason = "a record for another function";
    else if (sum64(job.data) != job.data_sum) reason = "a workload with a wrong checksum";
    else if (jobs.size() > 16 * max_group_jobs) reason = "too many records";
    if (!reason.empty()) return std::nullopt;
    job.add = std::move(*add);
    payload.remove_prefix(job.head.size() + job.data.size());
  }
  if (jobs.empty()) reason = "no record";
  else if (!has_all_parents(jobs.back())) reason = "a job without the records that name the jobs which it is after";
  if (!reason.empty()) return std::nullopt;
  return jobs;
}

std::optional<std::string> submit(NewJob& job, Millis now) {
  event::Add& add = job.add;
  add = {.id = std::move(add.id),
         .at = std::min(add.at, now),
         .given = add.given,
         .asked = std::move(add.asked),
         .part = std::move(add.part)};
  if (add.part.source.empty()) add.part = {};
  add.part.sum = 0;
  if (job.head.size() > record_header_size + max_submitted_meta) return "its meta data is longer than 8 KiB";
  if (add.asked.key.starts_with(raw_key_prefix)) return "its key is one of gq's own";
  if (add.asked.window > longest_window) return "its key window is longer than 366 days";
  if (add.asked.due > last_time) return "it is due after the year 9999";
  if (add.asked.expire > now + longest_wait) return "it expires in more than 366 days";
  if (add.asked.max_attempts > most_attempts) return "it asks for more than 1000000 attempts";
  job.encode();
  return std::nullopt;
}

std::string answer_group(std::string_view payload, const std::function<std::string(std::string_view)>& take,
                         const std::function<void(const std::string& why)>& failed) {
  std::string why;
  try {
    return take(payload);
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const Error& e) {
    if (e.code() != Exit::bug && e.code() != Exit::bad_data) throw;
    why = e.what();
  } catch (const std::exception& e) {
    why = e.what();
  }
  std::string result;
  for (std::string_view rest = payload; !rest.empty();) {
    auto head = parse_record(rest);
    const size_t size = head ? size_of_first(rest, *head) : 0;
    if (size == 0 || size > rest.size() || size == payload.size()) {
      failed(why);
      return head && size == payload.size() ? encode_answer(id_of(head->event), {Outcome::bad, why, 0})
                                            : "bad " + printable(why) + "\n";
    }
    result += answer_group(rest.substr(0, size), take, failed);
    rest.remove_prefix(size);
  }
  return result;
}

std::string encode_answer(const std::string& id, const Answer& answer) {
  const bool owed = answer.outcome == Outcome::same && !answer.note.empty();
  std::string line = std::string(owed ? owed_word : words[static_cast<size_t>(answer.outcome)]) + " " + id;
  for (const auto& text : {answer.reason, answer.note})
    if (!text.empty()) line += " " + printable(text);
  return line + "\n";
}

std::string encode_stores(const std::vector<std::string>& stores) {
  std::string line;
  for (size_t i = 0; i < std::min(stores.size(), most_stores); ++i) line += " " + stores[i];
  return line.empty() ? line : stores_word + line + "\n";
}

std::optional<std::vector<Answer>> parse_answers(std::string_view result, const std::vector<std::string>& ids) {
  std::vector<Answer> answers;
  auto lines = split(result, '\n');
  std::vector<std::string> stores;
  if (lines.size() == ids.size() + 2) {
    auto last = parse_stores(lines[ids.size()]);
    if (!last) return std::nullopt;
    stores = std::move(*last);
    lines.erase(lines.end() - 2);
  }
  if (lines.size() != ids.size() + 1 || !lines.back().empty()) return std::nullopt;
  for (size_t i = 0; i < ids.size(); ++i) {
    std::string_view line = lines[i];
    std::optional<Answer> answer;
    size_t word = line.find(' '), rest = word + 1 + ids[i].size();
    if (word == std::string_view::npos || line.substr(word + 1, ids[i].size()) != ids[i] ||
        (line.size() > rest && line[rest] != ' '))
      return std::nullopt;
    std::string text = line.size() > rest ? printable(line.substr(rest + 1)) : std::string();
    for (size_t w = 0; w < std::size(words); ++w)
      if (line.substr(0, word) == words[w]) answer = Answer{static_cast<Outcome>(w), text, 0};
    if (line.substr(0, word) == owed_word) {
      size_t space = text.find(' ');
      answer =
          Answer{Outcome::same, text.substr(0, space), 0, space == std::string::npos ? "" : text.substr(space + 1)};
    }
    if (answer && answer->outcome == Outcome::queued) std::swap(answer->reason, answer->note);
    if (!answer || (answer->outcome == Outcome::same && !is_ulid(answer->reason))) return std::nullopt;
    answer->stores = stores;
    answers.push_back(std::move(*answer));
  }
  return answers;
}

}  // namespace gq
