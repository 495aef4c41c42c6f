#include "script.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <sstream>
#include <stdexcept>

namespace simulate {
namespace {

// The word for each kind of action, and its arguments.
struct Form {
  const char* word;
  const char* places;  // 'a' and 'b' are nodes, 'j' is a job, 'n' a number, 's' a submission
};
constexpr std::array<Form, action_kinds> forms{
    {{"submit", "jas"},  {"again", "ja"}, {"raw", "j"},     {"grab", "ja"},  {"step", "aj"},  {"give-up", "aj"},
     {"deliver", "abj"}, {"lose", "abj"}, {"twice", "abj"}, {"ask", "ab"},   {"keep", "a"},   {"pay", "ab"},
     {"run", "a"},       {"time", "n"},   {"pause", "a"},   {"resume", "a"}, {"clock", "an"}, {"forget", "ab"},
     {"join", "ab"},     {"kill", "aj"},  {"crash", "a"},   {"power", "a"},  {"start", "a"},  {"wipe", "a"},
     {"bad-sync", "a"},  {"full", "a"},   {"room", "a"}}};

std::optional<unsigned> parse_number(const std::string& digits) {
  unsigned value = 0;
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return value;
}

std::optional<unsigned> parse_node(const std::string& word) {
  if (word == "client") return client;
  auto number = parse_number(word.rfind("rep_", 0) == 0 ? word.substr(4) : "");
  if (!number || *number == 0 || *number > 9) return std::nullopt;
  return *number - 1;
}

bool parse_job(const std::string& word, Action& action) {
  const size_t dot = word.find('.');
  auto job = parse_number(word.substr(0, dot)), which = parse_number(dot == word.npos ? "0" : word.substr(dot + 1));
  if (!job || !which) return false;
  action.job = *job;
  action.which = *which;
  return true;
}

std::string node_text(unsigned node) { return node == client ? "client" : "rep_" + std::to_string(node + 1); }

constexpr const char* whats[] = {"plain", "id", "key"};

std::string submit_text(unsigned n) {
  const Submit s = decode_submit(n);
  return std::string(" ") + whats[static_cast<size_t>(s.what)] +
         (s.what == Submit::What::plain ? "" : "=" + std::to_string(s.which)) + " payload=" + std::to_string(s.payload);
}

// Parses the two words of a submission; nullopt if they are not valid.
std::optional<unsigned> parse_submit(const std::string& what, const std::string& payload) {
  for (unsigned n = 0; n < 3 * few * payloads; ++n)
    if (submit_text(n) == " " + what + " " + payload) return n;
  return std::nullopt;
}

}  // namespace

unsigned encode(const Submit& s) { return static_cast<unsigned>(s.what) + 3 * (s.which + few * s.payload); }

Submit decode_submit(unsigned n) { return {static_cast<Submit::What>(n % 3), n / 3 % few, n / 3 / few % payloads}; }

const char* word_of(Action::Kind kind) { return forms[static_cast<size_t>(kind)].word; }

std::string to_text(const Action& action) {
  const Form& form = forms[static_cast<size_t>(action.kind)];
  std::string text = form.word;
  for (const char* p = form.places; *p; ++p)
    text += *p == 's'   ? submit_text(action.n)
            : *p == 'j' ? " " + std::to_string(action.job) + (action.which ? "." + std::to_string(action.which) : "")
            : *p == 'n' ? " " + std::to_string(action.n)
                        : " " + node_text(*p == 'a' ? action.a : action.b);
  return text;
}

std::string to_text(const Script& script) {
  const Setting& s = script.setting;
  std::string text = "group nodes=" + std::to_string(s.nodes) + " copies=" + std::to_string(s.copies) +
                     " run=" + (s.once ? "once" : "everywhere") + (s.owe ? " owe" : "") + (s.after ? " after" : "") +
                     (s.expires ? " expires=" + std::to_string(s.expires) : "");
  for (unsigned n = 0; n < s.nodes; ++n)
    if (s.serves[n])
      text += " rep_" + std::to_string(n + 1) + "=" + (s.serves[n] == 1 ? "g" : s.serves[n] == 2 ? "f" : "none");
  text += "\n";
  for (const auto& action : script.actions) text += to_text(action) + "\n";
  return text;
}

Script parse_script(const std::string& text) {
  Script script;
  std::istringstream lines(text);
  std::string line;
  for (size_t number = 1; std::getline(lines, line); ++number) {
    auto bad = [&] { return std::runtime_error("line " + std::to_string(number) + ": cannot be understood: " + line); };
    std::istringstream words(line.substr(0, line.find('#')));
    std::vector<std::string> all;
    for (std::string word; words >> word;) all.push_back(word);
    if (all.empty()) continue;
    if (all[0] == "group") {
      for (size_t i = 1; i < all.size(); ++i) {
        const std::string name = all[i].substr(0, all[i].find('='));
        const std::string value = all[i].substr(std::min(name.size() + 1, all[i].size()));
        auto count = parse_number(value);
        if (name == "nodes" && count && *count > 0 && *count < 10) script.setting.nodes = *count;
        else if (name == "copies" && count) script.setting.copies = *count;
        else if (name == "run" && (value == "once" || value == "everywhere")) script.setting.once = value == "once";
        else if (name == "expires" && count) script.setting.expires = *count;
        else if (name == "owe" && value.empty()) script.setting.owe = true;
        else if (name == "after" && value.empty()) script.setting.after = true;
        else if (parse_node(name) && (value == "f" || value == "g" || value == "none"))
          script.setting.serves[*parse_node(name)] = value == "f" ? 2 : value == "g" ? 1 : 3;
        else throw bad();
      }
      continue;
    }
    auto form = std::find_if(forms.begin(), forms.end(), [&](const Form& f) { return all[0] == f.word; });
    if (form == forms.end()) throw bad();
    Action action{static_cast<Action::Kind>(form - forms.begin())};
    size_t i = 1;
    for (const char* p = form->places; *p; ++p, ++i) {
      if (i >= all.size()) throw bad();
      std::optional<unsigned> value;
      if (*p == 's') value = i + 1 < all.size() ? parse_submit(all[i], all[i + 1]) : std::nullopt, ++i;
      else if (*p == 'n') value = parse_number(all[i]);
      else if (*p != 'j') value = parse_node(all[i]);
      else if (parse_job(all[i], action)) continue;
      if (!value) throw bad();
      (*p == 'a' ? action.a : *p == 'b' ? action.b : action.n) = *value;
    }
    if (i != all.size()) throw bad();
    script.actions.push_back(action);
  }
  return script;
}

}  // namespace simulate
