// What --help prints, and the suggestions for words that a program does not know.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace gq {

// The group of the options that all programs have. --help prints it last.
constexpr const char* common_options = "Common options";

// Formats --help: options by group, each with the name of its value, in lines of at most 80 columns.
class HelpFormatter : public CLI::Formatter {
 public:
  // `usage`: the words after the program's name, one line for each form of the command line.
  explicit HelpFormatter(std::vector<std::string> usage);
  std::string make_usage(const CLI::App* app, std::string name) const override;
  std::string make_group(std::string group, bool is_positional, std::vector<const CLI::Option*> options) const override;
  std::string make_option(const CLI::Option* option, bool is_positional) const override;
  std::string make_subcommand(const CLI::App* subcommand) const override;

 private:
  std::vector<std::string> m_usage;
};

// Returns the candidate that `word` probably means: the one that the fewest changes of single characters turn `word`
// into. Returns an empty string if each candidate differs in more than a third of its characters.
std::string nearest(const std::string& word, const std::vector<std::string>& candidates);

}  // namespace gq
