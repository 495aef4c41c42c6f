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
  std::string store;                 // --store, $GQ_STORE, or the user's state directory
  std::vector<Server> servers;       // --servers, $GQ_SERVERS, or the local one
  std::vector<std::string> command;  // the words after --
};

struct Program {
  const char* name;
  const char* purpose;
  bool takes_command = false;    // everything after the first -- is a command
  bool takes_files = false;      // file names are among its words, as a glob gives them
  bool dies_of_sigpipe = false;  // for a filter whose reader has gone: after cleaning up, it dies of SIGPIPE
  std::function<void(CLI::App&)> options;
  std::function<Exit(const Common&)> body;
};

// main() of every program: parses, runs, reports; returns the exit code.
int run_program(int argc, char** argv, const Program& program);

// While it exists, SIGTERM, SIGINT and SIGHUP still end the program, but only after `last` was called, in a thread of
// its own. So `last` can leave shared files as other processes need them. Make it before other threads are started.
class EndsInOrder {
 public:
  explicit EndsInOrder(std::function<void()> last);
  ~EndsInOrder();  // the signals stay blocked: the program is about to end

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
  // At most a few times a second.
  void show(const std::string& text);
  // Call it before anything else is written.
  void clear();

 private:
  const bool m_on;
  bool m_shown = false;
  Millis m_next{0};
};

// Validators that also convert, for use with add_option.
CLI::Option* add_duration(CLI::App& app, const std::string& name, Millis& value, const std::string& help);
void add_size(CLI::App& app, const std::string& name, uint64_t& value, const std::string& help);
void add_count(CLI::App& app, const std::string& name, uint64_t& value, const std::string& help, uint64_t least,
               uint64_t most);

// Any number of file names, taken as they are.
void add_files(CLI::App& app, std::vector<std::string>& value, const std::string& help);

// Makes an empty value an error: an unset variable of a script gives one.
CLI::Option& not_empty(CLI::Option& option);

// A line for standard output: fields with tabs between them, made printable; and a JSON object.
std::string text_line(const std::vector<std::string>& fields);
std::string json_line(const nlohmann::ordered_json& json);

// Writes to standard output at once, the bytes as they are; throws Error(storage) on failure.
void print(std::string_view text);

// Throws Error(usage) if no job can be queued under this name.
void check_function(const std::string& name);

}  // namespace gq
