// The frame that all programs share, and the only code that sees CLI11: common options, messages, exit codes.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <thread>
#include <vector>

#include "gq/base/clock.hpp"
#include "gq/base/error.hpp"
#include "gq/base/fd.hpp"
#include "gq/base/log.hpp"
#include "gq/gearman/gearman.hpp"

namespace gq {

struct Common {
  std::string store;                 // --store, $GQ_STORE, or a directory in the user's state directory
  std::vector<Server> servers;       // --servers, $GQ_SERVERS, or the server on this machine
  std::vector<std::string> command;  // the words after --
};

struct Program {
  const char* name;
  const char* purpose;
  std::vector<std::string> usage;  // the words after the name, for --help: one for each form of the command line
  const char* example = nullptr;   // for --help
  bool takes_command = false;      // everything after the first -- is a command
  bool takes_files = false;        // its words contain file names, for example from a glob
  bool dies_of_sigpipe = false;    // it dies of SIGPIPE, after cleaning up, when the reader of its output has ended
  std::function<void(CLI::App&)> options;
  std::function<Exit(const Common&)> body;
};

// The main() of every program: parses the command line, runs the program, reports errors. Returns the exit code.
int run_program(int argc, char** argv, const Program& program);

// While this object exists, SIGTERM, SIGINT and SIGHUP end the program only after `last` was called, in a separate
// thread. So `last` can leave shared files in the state that other processes need. Create the object before other
// threads are started.
class EndsInOrder {
 public:
  explicit EndsInOrder(std::function<void()> last);
  ~EndsInOrder();  // the signals stay blocked, because the program is about to end

 private:
  void watch();
  std::function<void()> m_last;
  Fd m_signals;
  Pipe m_end;
  std::thread m_thread;
};

// Shows progress in one line that is overwritten, if standard error is a terminal.
class Display {
 public:
  Display();
  ~Display() { clear(); }
  bool is_on() const { return m_on; }
  // Shows the text, but at most a few times a second.
  void show(const std::string& text);
  // Clears the line. Call it before anything else is written.
  void clear();

 private:
  const bool m_on;
  bool m_shown = false;
  Millis m_next{0};
};

// These functions add options whose values are checked and converted.
CLI::Option* add_duration(CLI::App& app, const std::string& name, Millis& value, const std::string& help);
void add_size(CLI::App& app, const std::string& name, uint64_t& value, const std::string& help);
void add_count(CLI::App& app, const std::string& name, uint64_t& value, const std::string& help, uint64_t least,
               uint64_t most);

// Adds any number of file names as arguments, unchanged.
void add_files(CLI::App& app, std::vector<std::string>& value, const std::string& help);

// Makes an empty value an error: a script with an unset variable passes an empty value.
CLI::Option& not_empty(CLI::Option& option);

// Return a line for standard output: text_line() joins fields by tabs and makes them printable; the other prints a JSON
// object.
std::string text_line(const std::vector<std::string>& fields);
std::string json_line(const nlohmann::ordered_json& json);

// Writes the bytes, unchanged, to standard output at once. Throws Error(storage) on failure.
void print(std::string_view text);

// Returns the IDs in a text: the first word of each line, or the "id" of a JSON object. Throws Error(bad_data) if one
// is not an ID.
std::vector<std::string> parse_ids(std::string_view text);
// Returns what standard input has, up to 1 GiB. Throws Error(bad_data) if it is longer.
std::string read_text();
// Replaces "-" by the IDs on standard input, see parse_ids(). Throws Error(usage) for an argument that is not an ID.
std::vector<std::string> read_ids(const std::vector<std::string>& names);

// Throws Error(usage) if no job can be queued under this name.
void check_function(const std::string& name);

}  // namespace gq
