#include "help.hpp"

#include <algorithm>
#include <numeric>

namespace gq {
namespace {

constexpr size_t width = 80, indent = 26;  // columns

// Returns `head`, and `text` beside it, in lines that are broken between words.
std::string two_columns(const std::string& head, const std::string& text) {
  std::string result = "  " + head, line;
  const std::string margin(indent, ' ');
  if (result.size() + 2 > indent) result += "\n" + margin;
  else result.resize(indent, ' ');
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find(' ', at), text.size());
    const std::string word = text.substr(at, end - at);
    if (!line.empty() && indent + line.size() + 1 + word.size() > width) {
      result += line + "\n" + margin;
      line.clear();
    }
    line += (line.empty() ? "" : " ") + word;
    at = end + 1;
  }
  return result + line + "\n";
}

// The number of single characters that have to be added, removed or replaced to turn one word into another.
size_t distance(const std::string& from, const std::string& to) {
  std::vector<size_t> row(to.size() + 1);
  std::iota(row.begin(), row.end(), 0U);
  for (size_t i = 0; i < from.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i + 1);
    for (size_t j = 0; j < to.size(); ++j) {
      const size_t replaced = diagonal + (from[i] == to[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

}  // namespace

HelpFormatter::HelpFormatter(std::vector<std::string> usage) : m_usage(std::move(usage)) {
  label("Positionals", "Arguments");
}

std::string HelpFormatter::make_usage(const CLI::App* app, std::string name) const {
  std::string result;
  if (app->get_parent()) {
    result = "Usage: " + app->get_parent()->get_name() + " " + app->get_name() + " [OPTIONS]";
    for (const auto* option : app->get_options([](const CLI::Option* o) { return o->get_positional(); }))
      result += " " + make_option_usage(option);
    return result + "\n\n";
  }
  for (const auto& form : m_usage) result += (result.empty() ? "Usage: " : "       ") + name + " " + form + "\n";
  return result + "\n";
}

std::string HelpFormatter::make_group(std::string group, bool is_positional,
                                      std::vector<const CLI::Option*> options) const {
  std::string result = group + ":\n";
  for (const auto* option : options) result += make_option(option, is_positional);
  return result + (is_positional ? "\n" : "");
}

std::string HelpFormatter::make_option(const CLI::Option* option, bool is_positional) const {
  std::string head = option->get_name(is_positional, !is_positional);
  if (const size_t comma = head.find(','); comma != std::string::npos) head.insert(comma + 1, " ");
  if (!is_positional && option->get_type_size() != 0) {
    const std::string type = option->get_type_name();  // with the texts of validators, such as LEVEL:{high,low}
    head += " " + type.substr(0, type.find(":{"));
  }
  return two_columns(head, option->get_description());
}

std::string HelpFormatter::make_subcommand(const CLI::App* subcommand) const {
  return two_columns(subcommand->get_name(), subcommand->get_description());
}

std::string nearest(const std::string& word, const std::vector<std::string>& candidates) {
  std::string best;
  size_t least = SIZE_MAX;
  for (const auto& candidate : candidates) {
    const size_t changes = distance(word, candidate);
    if (changes * 3 <= candidate.size() && changes < least) {
      least = changes;
      best = candidate;
    }
  }
  return best;
}

}  // namespace gq
