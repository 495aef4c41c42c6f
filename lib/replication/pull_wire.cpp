#include "gq/replication/pull_wire.hpp"

#include <sodium.h>

#include "gq/base/text.hpp"
#include "gq/base/ulid.hpp"
#include "gq/gearman/gearman.hpp"
#include "gq/replication/ask.hpp"

namespace gq {
namespace {

constexpr const char* magic = "gqp1";
constexpr size_t max_line = 256;

std::string number_or_none(bool is, uint64_t number) { return is ? std::to_string(number) : "-"; }

// Reads a number, or "-", for which it returns `none`. Sets `good` to false for anything else.
uint64_t take_number(const std::string& word, uint64_t none, uint64_t most, bool& good) {
  if (word == "-") return none;
  const auto number = parse_count(word);
  good = good && number && *number <= most;
  return number.value_or(0);
}

std::string end_line(const std::string& id, const StoreSays& says) {
  const bool has_output = says.result.has_output;
  std::string line = "end " + id + " " + std::to_string(says.result.status) + " " + says.state + " " +
                     number_or_none(says.exit != no_exit, says.exit) + " " +
                     number_or_none(says.signal != 0, says.signal) + " " + number_or_none(has_output, says.size) + " " +
                     number_or_none(has_output, says.sum);
  if (!says.result.problem.empty()) line += " " + printable(says.result.problem, max_reason_size);
  return line + "\n";
}

std::optional<StoreSays> parse_end(const std::vector<std::string>& words, std::string_view line) {
  constexpr size_t fixed = 8;
  if (words.size() < fixed) return std::nullopt;
  bool good = true;
  StoreSays says{.what = StoreSays::What::end};
  says.result.status = static_cast<int>(take_number(words[2], 256, 255, good));
  says.state = printable(words[3]);
  says.exit = static_cast<uint32_t>(take_number(words[4], no_exit, 255, good));
  says.signal = static_cast<uint32_t>(take_number(words[5], 0, 127, good));
  says.result.has_output = words[6] != "-";
  says.size = take_number(words[6], 0, UINT64_MAX, good);
  says.sum = take_number(words[7], 0, UINT64_MAX, good);
  if (!good || says.result.status > 255) return std::nullopt;
  size_t at = 0;
  for (size_t i = 0; i < fixed; ++i) at += words[i].size() + 1;
  if (at < line.size()) says.result.problem = printable(line.substr(at), max_reason_size);
  return says;
}

// Returns the first line of a text, without its end, and sets `rest` to what follows it.
std::optional<std::string_view> take_line(std::string_view text, std::string_view& rest) {
  const size_t end = text.find('\n');
  if (end == std::string_view::npos) return std::nullopt;
  rest = text.substr(end + 1);
  return text.substr(0, end);
}

}  // namespace

std::string hash_name(std::string_view text) {
  constexpr std::string_view letters = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";  // of a ULID
  unsigned char hash[ulid_size];
  crypto_generichash(hash, sizeof hash, reinterpret_cast<const unsigned char*>(text.data()), text.size(), nullptr, 0);
  std::string name;
  for (unsigned char byte : hash) name += letters[byte % letters.size()];
  name[0] = letters[hash[0] % 8];  // a ULID has 128 bits
  return name;
}

std::string pull_name(const std::string& store) { return hash_name("gq results of " + store); }

std::string pull_function(const std::string& name) { return record_function(name + ".result"); }

StoreSays say_of(const std::optional<Job>& job, const Self& self) {
  using What = StoreSays::What;
  if (!job) return {};
  const bool is_elsewhere = job->once && !job->store.empty() && job->store != self.store;
  const bool is_over = has_ended(*job) || job->state == State::dead;
  if (is_elsewhere && is_over && !job->dropped) return {.what = What::there, .store = pull_name(job->store)};
  const auto result = result_of(job, true, self.node);
  if (!result) return {.what = What::waits, .store = is_elsewhere ? pull_name(job->store) : ""};
  return {.what = What::end,
          .result = *result,
          .state = job->dropped ? "dropped" : state_name(*job),
          .exit = job->exit <= last_status ? job->exit : no_exit,  // see result_of()
          .signal = job->signal <= last_status - status_signal ? job->signal : 0,
          .size = job->output_size,
          .sum = job->output_sum};
}

std::string encode_ends(const std::vector<std::string>& ids, const std::vector<StoreSays>& says) {
  using What = StoreSays::What;
  std::string body;
  for (size_t i = 0; i < ids.size(); ++i) {
    const StoreSays& s = says[i];
    if (s.what == What::end) body += end_line(ids[i], s);
    if (s.what == What::waits) body += "waits " + ids[i] + (s.store.empty() ? "" : " " + s.store) + "\n";
    if (s.what == What::there) body += "there " + ids[i] + " " + s.store + "\n";
    if (s.what == What::unknown) body += "unknown " + ids[i] + "\n";
  }
  return body;
}

std::optional<std::vector<StoreSays>> parse_ends(std::string_view body, const std::vector<std::string>& ids) {
  using What = StoreSays::What;
  std::vector<StoreSays> all;
  const auto lines = lines_of(body);
  if (lines.size() != ids.size()) return std::nullopt;
  for (size_t i = 0; i < ids.size(); ++i) {
    const auto words = split(lines[i], ' ');
    if (words.size() < 2 || words[1] != ids[i]) return std::nullopt;
    const bool names = words.size() == 3 && is_ulid(words[2]);
    if (words[0] == "waits" && (names || words.size() == 2)) {
      all.push_back({.what = What::waits, .store = names ? words[2] : ""});
    } else if (words[0] == "there" && names) {
      all.push_back({.what = What::there, .store = words[2]});
    } else if (words[0] == "unknown" && words.size() == 2) {
      all.emplace_back();
    } else if (auto end = words[0] == "end" ? parse_end(words, lines[i]) : std::nullopt) {
      all.push_back(std::move(*end));
    } else {
      return std::nullopt;
    }
  }
  return all;
}

std::string encode_wanted(const std::vector<Wanted>& wanted) {
  std::string body;
  for (const auto& w : wanted) body += w.id + " " + std::to_string(w.offset) + "\n";
  return body;
}

std::optional<std::vector<Wanted>> parse_wanted(std::string_view body) {
  std::vector<Wanted> wanted;
  for (const auto& line : lines_of(body)) {
    const auto words = split(line, ' ');
    const auto offset = words.size() == 2 ? parse_count(words[1]) : std::nullopt;
    if (!offset || !is_ulid(words[0])) return std::nullopt;
    wanted.push_back({words[0], *offset});
  }
  return wanted;
}

std::string encode_pieces(const std::vector<Wanted>& wanted, const std::vector<Piece>& pieces) {
  std::string body, bytes;
  for (size_t i = 0; i < pieces.size(); ++i) {
    const Piece& piece = pieces[i];
    if (!piece.problem.empty()) body += "none " + wanted[i].id + " " + printable(piece.problem) + "\n";
    else
      body += "part " + wanted[i].id + " " + std::to_string(wanted[i].offset) + " " +
              std::to_string(piece.bytes.size()) + "\n";
    bytes += piece.bytes;
  }
  return body + "\n" + bytes;
}

std::optional<std::vector<Piece>> parse_pieces(std::string_view body, const std::vector<Wanted>& wanted) {
  std::vector<Piece> pieces;
  std::vector<uint64_t> lengths;
  for (;;) {
    const auto line = take_line(body, body);
    if (!line) return std::nullopt;
    if (line->empty()) break;
    if (pieces.size() == wanted.size()) return std::nullopt;
    const Wanted& of = wanted[pieces.size()];
    const std::string part = "part " + of.id + " " + std::to_string(of.offset) + " ", none = "none " + of.id + " ";
    Piece& piece = pieces.emplace_back();
    if (line->starts_with(none)) piece.problem = printable(line->substr(none.size()));
    const auto length = piece.problem.empty() && line->starts_with(part) ? parse_count(line->substr(part.size()))
                                                                         : std::optional<uint64_t>();
    if (piece.problem.empty() && !length) return std::nullopt;
    lengths.push_back(length.value_or(0));
  }
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (lengths[i] > body.size()) return std::nullopt;
    pieces[i].bytes = body.substr(0, lengths[i]);
    body.remove_prefix(lengths[i]);
  }
  if (pieces.empty() || !body.empty()) return std::nullopt;
  return pieces;
}

std::string encode_question(const std::string& kind, const std::string& store, std::string_view body,
                            const Keys& keys) {
  const std::string line = std::string(magic) + " " + kind + " " + store + " " + new_ulid() + " ";
  return line + keys.sign(signed_text(line, {}, body)) + "\n" + std::string(body);
}

std::optional<PullQuestion> parse_question(std::string_view payload, const std::string& store, const Keys& keys,
                                           std::string& reason) {
  std::string_view body;
  const auto line = take_line(payload, body);
  const auto words = line && line->size() <= max_line ? split(*line, ' ') : std::vector<std::string>();
  if (words.size() != 5 || words[0] != magic) reason = "it is no question that this store understands";
  else if (words[2] != store) reason = "it is for another store";
  else if (!keys && words[4] != "-") reason = "it is signed, and this store's worker has no --auth";
  else if (!keys.verify(signed_text(*line, {}, body), words[4]))
    reason = words[4] == "-" ? "it is not signed (--auth)" : "its signature is wrong";
  if (!reason.empty()) return std::nullopt;
  return PullQuestion{words[1], *line, body};
}

std::string encode_pull_answer(const std::string& store, std::string_view line, std::string_view body,
                               const Keys& keys) {
  const std::string first = std::string(magic) + " " + store + " ";
  return first + keys.sign(signed_text(first, line, body)) + "\n" + std::string(body);
}

std::optional<std::string_view> parse_pull_answer(std::string_view result, const std::string& store,
                                                  std::string_view line, const Keys& keys, std::string& reason) {
  std::string_view body;
  const auto first = take_line(result, body);
  const auto words = first && first->size() <= max_line ? split(*first, ' ') : std::vector<std::string>();
  if (words.size() != 3 || words[0] != magic || words[1] != store) reason = "its answer is none of a store";
  else if (!keys && words[2] != "-") reason = needs_keys;
  else if (!keys.verify(signed_text(*first, line, body), words[2]))
    reason = "its answer is not signed with the keys of --auth";
  else if (body.starts_with("bad ")) reason = "it refuses the question: " + printable(body.substr(4, body.size() - 5));
  if (!reason.empty()) return std::nullopt;
  return body;
}

}  // namespace gq
