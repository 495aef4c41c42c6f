#include "gq/replication/ask.hpp"

#include <algorithm>

#include "gq/base/text.hpp"
#include "gq/base/ulid.hpp"

namespace gq {
namespace {

// What a node says that it reads is written to disk.
constexpr size_t most_features = 100, longest_feature = 32;

std::optional<bool> parse_flag(const std::vector<std::string>& words) {
  auto number = words.size() == 2 ? parse_count(words[1]) : std::nullopt;
  return number ? std::optional(*number != 0) : std::nullopt;
}

// Reads one line of an answer. Returns false if the line is malformed.
bool take_line(AskReply& reply, bool& has_end, const std::string& line, const std::vector<std::string>& ids,
               const std::set<std::string>& asked) {
  auto words = split(line, ' ');
  const std::string& what = words[0];
  if (what == "end") {
    auto end = words.size() == 2 ? parse_count(words[1]) : std::nullopt;
    has_end = end.has_value();
    reply.end = end.value_or(0);
    return has_end;
  }
  if (what == "functions") {
    reply.functions.emplace(words.begin() + 1, words.end());
    return true;
  }
  if (what == "reads") {
    for (auto word = words.begin() + 1; word != words.end() && reply.reads.size() < most_features; ++word)
      if (word->size() <= longest_feature) reply.reads.insert(*word);
    return true;
  }
  if (what == "sent") {
    auto upto = words.size() == 4 ? parse_count(words[3]) : std::nullopt;
    if (upto) reply.sent.push_back({words[1], words[2], *upto});
    return upto.has_value();
  }
  if (what == "known" || what == "unknown") {
    const size_t n = reply.known.size();
    reply.known.push_back(what == "known");
    return words.size() == 2 && n < ids.size() && words[1] == ids[n];
  }
  if (what == "yours" || what == "other" || what == "ended") {
    if (words.size() != 2 || !asked.count(words[1])) return false;
    (what == "yours" ? reply.yours : what == "other" ? reply.others : reply.ended).insert(words[1]);
    return true;
  }
  if (what == "about") {
    auto size = words.size() == 5 ? parse_count(words[3]) : std::nullopt;
    auto sum = size ? parse_count(words[4]) : std::nullopt;
    if (!sum || !asked.count(words[1])) return false;
    reply.about[words[1]] = {words[2], *size, *sum};
    return true;
  }
  if (what != "runner" && what != "taking" && what != "room" && what != "relay") return true;
  auto flag = parse_flag(words);
  if (!flag) return false;
  if (what == "runner") reply.runner = *flag;
  if (what == "taking") reply.taking = *flag;
  if (what == "room") reply.room = *flag;
  if (what == "relay") reply.relay = *flag;
  return true;
}

}  // namespace

void AskReply::say_of(const std::string& id, const std::optional<Job>& job, const Self& asks, const Self& self) {
  known.push_back(job.has_value());
  if (!job) return;
  if (knows_workload(*job)) about[id] = {job->function, job->size, job->sum};
  if (has_ended(*job)) ended.insert(id);
  if (!job->node.empty() && is_own(*job, asks)) yours.insert(id);
  else if (is_fresh(*job) && !is_own(*job, self)) others.insert(id);
}

void AskReply::leave_out_another(const std::string& id, const Job& job, const std::vector<std::string>& asked) {
  auto it = about.find(id);
  if (it == about.end()) return;
  const Known& there = it->second;
  if (is_of(job, there.function, there.size, there.sum)) return;
  const auto number = static_cast<size_t>(std::find(asked.begin(), asked.end(), id) - asked.begin());
  if (number < known.size()) known[number] = false;
  yours.erase(id), others.erase(id), ended.erase(id);
}

std::string encode_ask(const std::vector<std::string>& ids) {
  std::string body;
  for (const auto& id : ids) body += id + "\n";
  return body;
}

std::optional<std::vector<std::string>> parse_ask(std::string_view body) {
  std::vector<std::string> ids = lines_of(body);
  for (const auto& id : ids)
    if (!is_ulid(id)) return std::nullopt;
  return ids;
}

std::string encode_ask_reply(const AskReply& reply, const std::vector<std::string>& ids) {
  auto flag = [](const char* what, bool is) { return std::string(what) + (is ? " 1\n" : " 0\n"); };
  std::string body =
      "end " + std::to_string(reply.end) + "\n" + flag("runner", reply.runner) + flag("room", reply.room);
  if (reply.relay) body += flag("relay", *reply.relay);
  if (reply.functions) {
    body += "functions";
    for (const auto& f : *reply.functions) body += " " + f;
    body += "\n";
  }
  if (!reply.reads.empty()) {
    body += "reads";
    for (const auto& feature : reply.reads) body += " " + feature;
    body += "\n";
  }
  if (reply.taking) body += flag("taking", true);
  for (const auto& sent : reply.sent)
    body += "sent " + sent.node + " " + sent.store + " " + std::to_string(sent.upto) + "\n";
  for (size_t i = 0; i < ids.size(); ++i) body += (reply.known[i] ? "known " : "unknown ") + ids[i] + "\n";
  for (const auto& id : reply.yours) body += "yours " + id + "\n";
  for (const auto& id : reply.others) body += "other " + id + "\n";
  for (const auto& id : reply.ended) body += "ended " + id + "\n";
  for (const auto& [id, job] : reply.about)
    body += "about " + id + " " + job.function + " " + std::to_string(job.size) + " " + std::to_string(job.sum) + "\n";
  return body;
}

std::optional<AskReply> parse_ask_reply(std::string_view body, const std::vector<std::string>& ids) {
  AskReply reply;
  bool has_end = false;
  const std::set<std::string> asked(ids.begin(), ids.end());
  for (const auto& line : lines_of(body))
    if (!take_line(reply, has_end, line, ids, asked)) return std::nullopt;
  if (!has_end || reply.known.size() != ids.size()) return std::nullopt;
  return reply;
}

}  // namespace gq
