#include "frame.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "gq/base/given.hpp"
#include "gq/base/text.hpp"
#include "gq/base/thread.hpp"
#include "gq/base/ulid.hpp"
#include "gq/base/wait.hpp"
#include "gq/gearman/gearman.hpp"
#include "gq/store/tokyo_table.hpp"
#include "gq/work/runner.hpp"
#include "help.hpp"

namespace gq {
namespace {

constexpr Millis progress_interval{200};
constexpr uint64_t most_text = 1 << 30;  // bytes of IDs, on standard input

// Writes each line with one write, so that lines of several programs do not mix. Adds the level if journald reads
// standard error.
void message(const char* program, Level level, const std::string& text) {
  static const bool journald = std::getenv("JOURNAL_STREAM") && !::isatty(STDERR_FILENO);
  static constexpr const char* names[] = {"", "warning: ", "", ""};
  static constexpr const char* prefixes[] = {"<3>", "<4>", "<6>", "<7>"};
  std::string line = std::string(journald ? prefixes[static_cast<size_t>(level)] : "") + program + ": " +
                     names[static_cast<size_t>(level)] + printable(text, any_length) + "\n";
  [[maybe_unused]] ssize_t n = ::write(STDERR_FILENO, line.data(), line.size());
}

std::string default_store() {
  const char* state = std::getenv("XDG_STATE_HOME");
  if (state && *state == '/') return std::string(state) + "/gq";
  const char* home = std::getenv("HOME");
  if (home && *home == '/') return std::string(home) + "/.local/state/gq";
  throw Error(Exit::config, "cannot tell where the store is: neither --store, GQ_STORE nor HOME is set");
}

// Ensures that the descriptors 0 to 2 are open; otherwise a file of the store could become standard output. Opens a
// closed one in the wrong direction, so that it still cannot be used.
void open_standard_descriptors() {
  for (int fd = 0; fd <= 2; ++fd)
    if (::fcntl(fd, F_GETFD) < 0 && ::open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) < 0) _exit(70);
}

// Whether there may be a file of this name. (If the directory cannot be searched, no file in it can be opened, and a
// glob finds no name in it.)
bool names_file(const char* name) {
  struct stat st;
  if (::lstat(name, &st) == 0) return true;
  return errno != ENOENT && errno != ENOTDIR && errno != ENAMETOOLONG && ::lstat(".", &st) == 0;
}

// Refuses words that look like an option and are names of files, as a glob may produce them. Otherwise the name of a
// file could choose the program that is run (--store=exec:...).
void check_words(int argc, char** argv) {
  bool options = true;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (options && word == "--") options = false;
    else if (word == "-" && names_file(argv[i]))
      throw Error(Exit::usage, "cannot tell whether - is standard input or a file: say ./- or /dev/stdin");
    else if (options && word.starts_with('-') && names_file(argv[i]))
      throw Error(Exit::usage, "cannot tell whether " + printable(word) + " is an option or a file: say ./" +
                                   printable(word) + " or --");
  }
}

// Refuses options that decide whom to trust if they come after FUNCTION: a glob may have produced them. check_words()
// may miss such a name, because its file is gone now, or because the name came from elsewhere.
void check_order(const CLI::App& app) {
  const auto* function = app.get_option_no_throw("FUNCTION");
  if (!function) return;
  bool after = false;
  for (const auto* option : app.parse_order()) {
    after = after || option == function;
    for (const char* name : {"--store", "--config", "--auth", "--servers"})
      if (after && option->check_name(name))
        throw Error(Exit::usage, std::string("cannot use ") + name + " after FUNCTION: put it before");
  }
}

// Returns " (did you mean X?)" for a word that the program does not know, if a name that it knows is near.
std::string suggestion(const std::string& word, const std::vector<std::string>& known) {
  const std::string meant = nearest(word, known);
  return meant.empty() ? "" : " (did you mean " + meant + "?)";
}

// Returns the long names of the options that the program, and its subcommand on this command line, have.
std::vector<std::string> option_names(const CLI::App& app) {
  std::vector<std::string> names;
  auto add = [&](const CLI::App& of) {
    for (const auto* option : of.get_options())
      for (const auto& name : option->get_lnames()) names.push_back("--" + name);
  };
  add(app);
  for (const auto* sub : app.get_subcommands()) add(*sub);
  return names;
}

// Returns a text for a usage error. CLI11's own texts are hard to read, and do not say where a value came from.
std::string usage_error(const CLI::App& app, const Program& program, const CLI::ParseError& e) {
  std::string text = e.what();
  const auto words = app.remaining(true);
  const auto subcommands = app.get_subcommands([](const CLI::App*) { return true; });
  if (!subcommands.empty() && app.get_subcommands().empty()) {
    std::vector<std::string> names;
    std::string known;
    for (const auto* sub : subcommands) {
      names.push_back(sub->get_name());
      known += (known.empty() ? "" : ", ") + names.back();
    }
    const auto word =
        std::find_if(words.begin(), words.end(), [](const std::string& w) { return !w.starts_with('-'); });
    if (word == words.end()) return "no subcommand is given: " + known;
    return printable(*word) + " is no subcommand" + suggestion(*word, names) + ": " + known;
  }
  if (dynamic_cast<const CLI::ExtrasError*>(&e) && !words.empty()) {
    const bool option = words.front().starts_with('-');
    text = printable(words.front()) +
           (option ? " is no option of " + std::string(program.name) +
                         suggestion(words.front().substr(0, words.front().find('=')), option_names(app))
                   : " is one word too many");
    if (!option && program.takes_command)
      text += ": say -- before the command (" + std::string(program.name) + " -f FUNCTION -- CMD)";
  }
  if (const size_t colon = text.find(": 1 required "); colon != std::string::npos)
    text = text.substr(0, colon) + " needs a value";
  return printable(text);
}

// Returns the option, such as --grace, that an error is about.
std::string option_of(const CLI::ParseError& e) {
  const std::string text = e.what();
  return text.substr(0, text.find_first_of(": "));
}

// Whether the wrong option is in a configuration file, and not among the words.
bool is_of_file(const CLI::ParseError& e, const std::vector<std::string>& words) {
  const std::string option = option_of(e);
  return option.starts_with("--") &&
         std::none_of(words.begin(), words.end(), [&](const std::string& w) { return w.starts_with(option); });
}

// Refuses long names. CLI11 splits names at dots into sections, and for each section copies all sections before it. The
// copies for a line of 64 KiB would not fit into memory.
void check_names(const std::string& path, const std::string& text) {
  constexpr size_t longest = 256;
  size_t number = 0;
  for (const auto& line : lines_of(text)) {
    ++number;
    if (line.starts_with('#') || line.starts_with(';')) continue;
    if (std::min(line.find('='), line.size()) > longest)
      throw Error(Exit::config, "cannot use " + printable(path) + ": the name in line " + std::to_string(number) +
                                    " is longer than " + std::to_string(longest) + " bytes");
  }
}

// Reads configuration files before CLI11 gets their names: CLI11 would open a FIFO, which could block the program at
// its start, or prevent it from ending.
class Configuration : public CLI::ConfigINI {
 public:
  // CLI11 gets this path instead of the path of the file. No user writes /dev/null in this form.
  static constexpr const char* placeholder = "/dev/./null";

  void read(const std::string& path) {
    if (path == placeholder && !m_name.empty()) return;
    m_name = path;
    if (m_texts.count(path)) return;  // validators may be called more than once
    bool is_inherited = false;
    Fd fd = open_given(path, O_RDONLY, regular_file | fifo | null_device, Exit::config, 0, &is_inherited);
    // Do not check inherited descriptors: the parent process chooses them, like the arguments.
    if (!is_inherited) check_trusted(fd.get(), path, S_IWOTH, "chmod o-w it");
    try {
      auto text = read_all(fd.get(), 1 << 20, printable(path), start_patience);
      if (!text) throw Error(Exit::config, "cannot read " + printable(path) + ": it has more than 1 MiB");
      check_names(path, *text);
      m_texts[path] = std::move(*text);
    } catch (const Error& e) {
      throw Error(Exit::config, e.what(), e.error_number());
    }
  }
  const std::string& name() const { return m_name; }
  // Returns the file's name and, if a line of the file sets this option, the number of the last one.
  std::string place(const std::string& option) const {
    size_t number = 0, last = 0;
    for (const auto& line : lines_of(m_texts.at(m_name))) {
      ++number;
      const std::string name = line.substr(0, line.find('='));
      const size_t begin = name.find_first_not_of(" \t");
      if (begin != std::string::npos && name.substr(begin, name.find_last_not_of(" \t") + 1 - begin) == option)
        last = number;
    }
    return printable(m_name) + (last ? ", line " + std::to_string(last) : "");
  }
  std::vector<CLI::ConfigItem> from_config(std::istream&) const override {
    std::istringstream text(m_texts.at(m_name));
    return CLI::ConfigINI::from_config(text);
  }

 private:
  std::string m_name;  // the name of the last file, which is the one that is used
  std::map<std::string, std::string> m_texts;
};

}  // namespace

namespace {

int run(int argc, char** argv, const Program& program) {
  open_standard_descriptors();
  for (int s : {SIGPIPE, SIGXFSZ}) ::signal(s, SIG_IGN);  // the write that fails reports the error
  int verbosity = 0;
  bool quiet = false;
  set_log_sink([&](Level level, const std::string& text) {
    int wanted = quiet ? 0 : 1 + verbosity;
    if (static_cast<int>(level) <= wanted) message(program.name, level, text);
  });
  CLI::App app(program.purpose, program.name);
  auto configuration = std::make_shared<Configuration>();
  Common common;
  std::string servers = "127.0.0.1:" + std::to_string(gearman_port);
  std::vector<std::string> args;
  try {
    app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    app.fallthrough();
    const std::string manual = std::string(program.name) + "(1) is the manual page.";
    app.formatter(std::make_shared<HelpFormatter>(program.usage));
    app.footer(manual);  // subcommands get this one
    program.options(app);
    app.footer((program.example ? "Example:\n  " + std::string(program.example) + "\n\n" : "") + manual);
    app.option_defaults()->group(common_options);
    app.add_option("--store", common.store,
                   "Directory of the store, or exec:PROGRAM for a database (default $GQ_STORE, then "
                   "~/.local/state/gq)")
        ->type_name("DIR");
    app.add_option("--servers", servers, "Gearman servers, HOST[:PORT],... (default $GQ_SERVERS, then 127.0.0.1:4730)")
        ->type_name("LIST");
    app.set_config("--config", "", "Read options from this file, a line NAME = VALUE for each")
        ->type_name("FILE")
        ->transform([&](const std::string& path) {
          configuration->read(path);
          return std::string(Configuration::placeholder);
        });
    app.config_formatter(configuration);  // CLI11's own formatter splits values at commas
    app.allow_config_extras(CLI::config_extras_mode::error);
    app.add_flag("-q,--quiet", quiet, "Print errors only");
    app.add_flag_function(
        "-v,--verbose", [&](int64_t times) { verbosity = static_cast<int>(times); }, "Say more; twice for still more");
    app.set_version_flag("--version",
                         std::string(program.name) + " " + GQ_VERSION + "\nlibgearman " + libgearman_version() +
                             ", Tokyo Cabinet " + TokyoTable::version(),
                         "Print the version of the program and of its libraries");
    app.set_help_flag("-h,--help", "Print this help");
    for (const char* name : {"--store", "--servers", "--config"}) not_empty(*app.get_option(name));

    // A flag overrides the environment, and the environment overrides the file. So the environment's values go before
    // the flags, and the last value of an option is used.
    auto from_environment = [&](const char* variable, const char* option) {
      const char* value = std::getenv(variable);
      if (value && *value) args.insert(args.end(), {option, value});
    };
    from_environment("GQ_STORE", "--store");
    from_environment("GQ_SERVERS", "--servers");
    ::unsetenv("GEARMAN_SERVERS");  // libgearman would add these servers to every handle
    if (program.takes_files) check_words(argc, argv);
    int i = 1;
    for (; i < argc && !(program.takes_command && std::string_view(argv[i]) == "--"); ++i) args.emplace_back(argv[i]);
    for (++i; i < argc; ++i) common.command.emplace_back(argv[i]);
    std::vector<std::string> reversed(args.rbegin(), args.rend());  // CLI11 takes the words in reverse order
    app.parse(reversed);
    check_order(app);
    if (common.store.empty()) common.store = default_store();
    auto list = parse_servers(servers);
    if (!list)
      throw Error(Exit::usage, "cannot read the list of servers " + printable(servers) + ": it is not HOST[:PORT],...");
    common.servers = std::move(*list);
    return static_cast<int>(program.body(common));
  } catch (const CLI::CallForHelp&) {
    print(app.help());
    return 0;
  } catch (const CLI::CallForVersion& e) {
    print(std::string(e.what()) + "\n");
    return 0;
  } catch (const CLI::FileError& e) {
    throw Error(Exit::config, printable(e.what()));
  } catch (const CLI::ConfigError& e) {
    const std::string text = e.what(), name = text.substr(text.rfind(' ') + 1);
    const std::string option = name.substr(name.rfind('.') + 1);
    throw Error(Exit::config, "cannot use " + configuration->place(option) + ": " + program.name + " has no option " +
                                  printable(name) + suggestion("--" + option, option_names(app)));
  } catch (const CLI::ParseError& e) {
    if (!configuration->name().empty() && is_of_file(e, args))
      throw Error(Exit::config,
                  "cannot use " + configuration->place(option_of(e).substr(2)) + ": " + printable(e.what()));
    throw Error(Exit::usage, usage_error(app, program, e) + " (--help tells more)");
  }
}

}  // namespace

int run_program(int argc, char** argv, const Program& program) {
  try {
    return run(argc, argv, program);
  } catch (const Error& e) {
    if (program.dies_of_sigpipe && e.error_number() == EPIPE) {
      ::signal(SIGPIPE, SIG_DFL);
      ::raise(SIGPIPE);
    }
    message(program.name, Level::error, e.what());
    return static_cast<int>(e.code());
  } catch (const std::bad_alloc&) {
    message(program.name, Level::error, "cannot go on: out of memory");
    return static_cast<int>(Exit::retry);
  } catch (const std::exception& e) {
    message(program.name, Level::error, std::string("a bug: ") + e.what());
    return static_cast<int>(Exit::bug);
  }
}

Display::Display() : m_on(::isatty(STDERR_FILENO)) {}

void Display::show(const std::string& text) {
  if (!m_on || now_ms() < m_next) return;
  m_next = now_ms() + progress_interval;
  m_shown = true;
  const std::string line = "\r\033[K" + text;
  [[maybe_unused]] ssize_t n = ::write(STDERR_FILENO, line.data(), line.size());
}

void Display::clear() {
  if (!std::exchange(m_shown, false)) return;
  [[maybe_unused]] ssize_t n = ::write(STDERR_FILENO, "\r\033[K", 4);
}

EndsInOrder::EndsInOrder(std::function<void()> last) : m_last(std::move(last)) {
  sigset_t set = stop_signals(), before;
  m_signals = Fd(::signalfd(-1, &set, SFD_CLOEXEC));
  if (!m_signals) return;
  m_end = make_pipe();
  ::pthread_sigmask(SIG_BLOCK, &set, &before);
  try {
    m_thread = start_thread([this] { watch(); });
  } catch (const Error&) {  // without the thread, a signal ends the program at once
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }
}

EndsInOrder::~EndsInOrder() {
  if (!m_thread.joinable()) return;
  m_end.writer.reset();  // a close cannot fail
  m_thread.join();
}

void EndsInOrder::watch() {
  pollfd fds[] = {{m_signals.get(), POLLIN, 0}, {m_end.reader.get(), 0, 0}};
  while (::poll(fds, 2, -1) < 0 && errno == EINTR) continue;
  signalfd_siginfo info;
  if (!(fds[0].revents & POLLIN) || ::read(m_signals.get(), &info, sizeof info) != sizeof info) return;
  stop_waiting();
  try {
    m_last();
  } catch (const std::exception&) {  // the program ends in any case
  }
  const int signal = static_cast<int>(info.ssi_signo);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signal);
  ::signal(signal, SIG_DFL);
  ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  ::raise(signal);
}

namespace {

std::string long_name(const std::string& names) { return names.substr(names.find("--")); }

template <typename T, typename Parse>
CLI::Option* add_parsed(CLI::App& app, const std::string& name, T& value, const std::string& help, const char* kind,
                        const char* type, Parse parse) {
  return app
      .add_option_function<std::string>(
          name,
          [&value, name, kind, parse](const std::string& text) {
            auto parsed = parse(text);
            if (!parsed) throw CLI::ValidationError(long_name(name), printable(text) + " is not " + kind);
            value = static_cast<T>(*parsed);
          },
          help)
      ->type_name(type);
}

}  // namespace

CLI::Option* add_duration(CLI::App& app, const std::string& name, Millis& value, const std::string& help) {
  return add_parsed(app, name, value, help, "a duration such as 90, 1.5s, 250ms, 10m, 2h or 7d", "DUR",
                    [](const std::string& text) { return parse_duration(text); });
}

void add_size(CLI::App& app, const std::string& name, uint64_t& value, const std::string& help) {
  add_parsed(app, name, value, help, "a size such as 512, 64K or 256M", "SIZE",
             [](const std::string& text) { return parse_size(text); });
}

void add_count(CLI::App& app, const std::string& name, uint64_t& value, const std::string& help, uint64_t least,
               uint64_t most) {
  app.add_option_function<std::string>(
         name,
         [&value, name, least, most](const std::string& text) {
           auto parsed = parse_count(text);
           if (!parsed || *parsed < least || *parsed > most)
             throw CLI::ValidationError(long_name(name), printable(text) + " is not a number from " +
                                                             std::to_string(least) + " to " + std::to_string(most));
           value = *parsed;
         },
         help)
      ->type_name("N");
}

void add_files(CLI::App& app, std::vector<std::string>& value, const std::string& help) {
  constexpr int any = CLI::detail::expected_max_vector_size;
  // Take the names as one option: with extra arguments allowed, CLI11 would take [a,b] for the names a and b.
  app.add_option("FILE", value, help)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->expected(any, any)
      ->allow_extra_args(false);
}

CLI::Option& not_empty(CLI::Option& option) {
  return *option.check([](const std::string& text) { return text.empty() ? "it is empty" : ""; });
}

void print(std::string_view text) {
  while (!text.empty()) {
    ssize_t n = ::write(STDOUT_FILENO, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw_errno(Exit::storage, "write standard output");
    text.remove_prefix(static_cast<size_t>(n));
  }
}

std::string text_line(const std::vector<std::string>& fields) {
  std::string line;
  for (const auto& field : fields) line += (line.empty() ? "" : "\t") + printable(field, any_length);
  return line + "\n";
}

std::string json_line(const nlohmann::ordered_json& json) {
  return json_printable(json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)) + "\n";
}

void check_function(const std::string& name) {
  if (auto problem = function_name_problem(name))
    throw Error(Exit::usage, "cannot use the function name " + printable(name) + ": " + *problem);
}

namespace {

Error no_id(const std::string& text, Exit code) {
  return {code, "cannot use " + printable(text) + ": it is not a job ID (26 characters)"};
}

}  // namespace

std::vector<std::string> parse_ids(std::string_view text) {
  std::vector<std::string> ids;
  for (const auto& line : split(text, '\n')) {
    if (line.empty()) continue;
    std::string name = line.substr(0, line.find_first_of(" \t"));
    if (line[0] == '{') {
      auto json = nlohmann::json::parse(line, nullptr, false);
      name = json.is_object() && json.contains("id") && json["id"].is_string() ? json["id"].get<std::string>() : line;
    }
    auto id = parse_ulid(name);
    if (!id) throw no_id(name, Exit::bad_data);
    ids.push_back(*id);
  }
  return ids;
}

std::string read_text() {
  auto text = read_all(STDIN_FILENO, most_text, "standard input");
  if (!text) throw Error(Exit::bad_data, "cannot read standard input: it is longer than 1 GiB");
  return *text;
}

std::vector<std::string> read_ids(const std::vector<std::string>& names) {
  std::vector<std::string> ids;
  for (const auto& name : names) {
    if (name == "-") {
      for (auto& id : parse_ids(read_text())) ids.push_back(std::move(id));
    } else if (auto id = parse_ulid(name)) {
      ids.push_back(*id);
    } else {
      throw no_id(name, Exit::usage);
    }
  }
  return ids;
}

}  // namespace gq
