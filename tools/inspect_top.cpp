#include "inspect_top.hpp"

#define NCURSES_NOMACROS 1  // else erase, timeout and others are macros
#include <curses.h>
#include <locale.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cwchar>
#include <mutex>

#include "frame.hpp"
#include "gq/base/text.hpp"
#include "gq/store/owners.hpp"
#include "gq/view/top.hpp"

namespace gq {
namespace {

constexpr Millis period{1000};
constexpr size_t most_looked_up = 1000;         // ends of which the functions are looked up for one sample
constexpr size_t most_claims_shown = 2000;      // jobs that workers run
constexpr uint64_t most_journal = 64ULL << 20;  // bytes of the journal that are read for one sample
constexpr int escape_key = 27, escape_delay_ms = 50;

std::mutex screen_mutex;  // leave_screen() may run in another thread
SCREEN* screen = nullptr;

// Reads what has happened since the last call, from the journal.
class Flows {
 public:
  explicit Flows(Ledger& ledger) : m_ledger(ledger), m_reader(ledger.read(end_of(ledger))) {}

  std::map<std::string, Flow> read() {
    std::map<std::string, Flow> flows;
    struct End {
      const std::string id;
      bool failed;
    };
    std::vector<End> ends;
    const Lsn end = end_of(m_ledger);
    // What is too much to be read in time is passed over: the rates are too low then, and other programs are not
    // slower.
    if (end > m_reader.position() + most_journal) m_reader.skip_to(end);
    while (m_reader.position() < end) {
      const auto item = m_reader.next();
      if (item == JournalReader::Item::end) break;
      if (item != JournalReader::Item::record) continue;
      const Event& event = m_reader.event();
      if (const auto* add = std::get_if<event::Add>(&event)) ++flows[add->asked.function].in;
      else if (const auto* done = std::get_if<event::Done>(&event)) ends.push_back({done->id, false});
      else if (const auto* fail = std::get_if<event::Fail>(&event); fail && fail->spent)
        ends.push_back({fail->id, true});
      else if (const auto* dead = std::get_if<event::Dead>(&event)) ends.push_back({dead->id, true});
    }
    // Of very many ends, some are looked up, and count for the others.
    const double each = std::max(1.0, static_cast<double>(ends.size()) / most_looked_up);
    m_ledger.look([&](Fold& fold) {
      std::map<std::string, Flow> found;
      for (double i = 0; i < static_cast<double>(ends.size()); i += each) {
        const End& one = ends[static_cast<size_t>(i)];
        if (const auto job = fold.get(one.id))
          (one.failed ? found[job->function].failed : found[job->function].done) += each;
      }
      m_found = std::move(found);
    });
    for (const auto& [function, flow] : m_found) {
      flows[function].done += flow.done;
      flows[function].failed += flow.failed;
    }
    return flows;
  }

 private:
  static Lsn end_of(Ledger& ledger) {
    Lsn end = 0;
    ledger.look([&](Fold& fold) { end = fold.position().end; });
    return end;
  }
  Ledger& m_ledger;
  EventReader m_reader;
  std::map<std::string, Flow> m_found;
};

std::vector<TopWorker> workers_of(Ledger& ledger) {
  std::map<std::string, TopWorker> workers;
  for (const auto& [owner, info] : processes_here(ledger.owners_directory())) {
    TopWorker& worker = workers[owner_process(owner)];
    worker.pid = info.pid;
    worker.host = info.host;
    for (const auto& function : info.runs.value_or(std::vector<std::string>()))
      worker.functions += (worker.functions.empty() ? "" : ",") + function;
  }
  std::vector<Claim> claims;
  ledger.look([&](Fold& fold) {
    claims.clear();
    std::vector<std::string> ids;
    std::string cursor;
    fold.page('c', "", most_claims_shown, cursor, ids);
    for (const auto& id : ids)
      if (auto job = fold.get(id); job && job->state == State::running) claims.push_back({id, std::move(*job)});
  });
  for (const auto& claim : claims)
    if (const auto worker = workers.find(owner_process(claim.job.owner)); worker != workers.end())
      worker->second.runs.push_back({claim.id, claim.job.function, claim.job.changed_at});
  std::vector<TopWorker> all;
  for (auto& [owner, worker] : workers) {
    std::sort(worker.runs.begin(), worker.runs.end(),
              [](const TopJob& x, const TopJob& y) { return x.since < y.since; });
    all.push_back(std::move(worker));
  }
  return all;
}

// The terminal while it is drawn on.
class Screen {
 public:
  explicit Screen(bool has_colour) : m_has_colour(has_colour) {
    // Without UTF-8, ncurses could not draw the names of functions.
    const char* locale = ::setlocale(LC_CTYPE, "");
    if (!locale || !std::strstr(locale, "UTF-8")) ::setlocale(LC_CTYPE, "C.UTF-8");
    const std::lock_guard lock(screen_mutex);
    screen = ::newterm(nullptr, stdout, stdin);
    if (!screen) {
      const char* kind = std::getenv("TERM");
      throw Error(Exit::usage, "cannot draw on this terminal: TERM is " + printable(kind ? kind : "not set"));
    }
    ::cbreak(), ::noecho(), ::nonl(), ::keypad(stdscr, TRUE), ::curs_set(0);
    ::set_escdelay(escape_delay_ms);
    m_has_colour = m_has_colour && ::has_colors() && ::start_color() == OK && ::use_default_colors() == OK;
    if (m_has_colour) ::init_pair(1, COLOR_RED, -1), ::init_pair(2, COLOR_YELLOW, -1), ::init_pair(3, COLOR_GREEN, -1);
  }
  ~Screen() { leave_screen(); }
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  void draw(TopModel& model) {
    const std::lock_guard lock(screen_mutex);
    if (!screen) return;
    ::erase();
    int row = 0;
    for (const auto& line : model.lines(static_cast<size_t>(COLS), static_cast<size_t>(LINES))) {
      const attr_t attributes = (line.is_title ? A_BOLD : A_NORMAL) | (line.colour == Colour::dim ? A_DIM : A_NORMAL);
      const short pair = !m_has_colour                   ? short{0}
                         : line.colour == Colour::red    ? short{1}
                         : line.colour == Colour::yellow ? short{2}
                                                         : short{0};
      ::attr_set(attributes, pair, nullptr);
      ::mvaddstr(row++, 0, line.text.c_str());
    }
    ::attr_set(A_NORMAL, 0, nullptr);
    ::refresh();
  }

 private:
  bool m_has_colour;
};

// Waits for a key until `until`. Returns false if the user wants to quit.
bool obey_keys(Screen& shown, TopModel& model, std::chrono::steady_clock::time_point until) {
  using Key = TopModel::Key;
  static const std::map<wint_t, Key> special{
      {KEY_UP, Key::up},     {KEY_DOWN, Key::down}, {KEY_PPAGE, Key::page_up},   {KEY_NPAGE, Key::page_down},
      {KEY_HOME, Key::home}, {KEY_END, Key::end},   {KEY_BACKSPACE, Key::erase}, {KEY_ENTER, Key::enter}};
  static const std::map<wint_t, Key> typed{
      {L'\n', Key::enter}, {L'\r', Key::enter}, {escape_key, Key::escape}, {0x7f, Key::erase}, {L'\b', Key::erase}};
  static const std::map<wint_t, Key> letters{
      {L's', Key::sort}, {L'/', Key::filter}, {L'k', Key::up}, {L'j', Key::down}};
  for (;;) {
    const auto left = std::chrono::duration_cast<Millis>(until - std::chrono::steady_clock::now());
    if (left.count() <= 0) return true;
    ::timeout(static_cast<int>(left.count()));
    wint_t c = 0;
    const int kind = ::get_wch(&c);
    if (kind == ERR) {
      if (::feof(stdin) || !::isatty(STDIN_FILENO)) return false;
      if (std::chrono::steady_clock::now() + std::chrono::milliseconds(1) < until) ::usleep(1000);  // a signal came
      continue;
    }
    const auto& keys = kind == KEY_CODE_YES ? special : typed;
    if (const auto key = keys.find(c); key != keys.end()) {
      model.press(key->second);
    } else if (kind == OK) {
      char bytes[MB_LEN_MAX + 1] = "";
      std::mbstate_t state{};
      const size_t n = std::wcrtomb(bytes, static_cast<wchar_t>(c), &state);
      if (n == static_cast<size_t>(-1) || c < L' ' || !model.type(std::string(bytes, n))) {
        if (c == L'q') return false;
        if (const auto letter = letters.find(c); letter != letters.end()) model.press(letter->second);
      }
    }
    shown.draw(model);  // also after KEY_RESIZE
  }
}

}  // namespace

void leave_screen() {
  const std::lock_guard lock(screen_mutex);
  if (!screen) return;
  ::endwin();
  screen = nullptr;
}

Exit top(const View& view, const std::string& name, Queue& store) {
  if (!::isatty(STDOUT_FILENO) || !::isatty(STDIN_FILENO))
    throw Error(Exit::usage, "cannot show top: standard input and standard output must be a terminal");
  // Messages would be written across the screen.
  static std::mutex note_mutex;
  static std::string note;
  set_log_sink([](Level level, const std::string& text) {
    if (level > Level::warning) return;
    const std::lock_guard lock(note_mutex);
    note = text;
  });
  const auto last_note = [] {
    const std::lock_guard lock(note_mutex);
    return note;
  };
  Flows flows(store);
  TopModel model;
  Screen shown(view.has_colour);
  for (;;) {
    const auto begun = std::chrono::steady_clock::now();
    TopSample sample{.at = now_ms(),
                     .store = name,
                     .overview = overview_of(store),
                     .flows = flows.read(),
                     .workers = workers_of(store),
                     .note = last_note()};
    model.add(std::move(sample));
    shown.draw(model);
    // A store that takes long to be looked at is looked at less often, so that other programs do not wait for this one.
    const auto used = std::chrono::steady_clock::now() - begun;
    if (!obey_keys(shown, model, begun + std::max<std::chrono::steady_clock::duration>(period, 5 * used)))
      return Exit::ok;
  }
}

}  // namespace gq
