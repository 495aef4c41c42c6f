#include "gq/view/top.hpp"

#include <algorithm>
#include <array>
#include <cstdio>

#include "gq/base/text.hpp"

namespace gq {
namespace {

constexpr size_t most_samples = 5;      // rates are of so many samples
constexpr int64_t period_ms = 10'000;   // of a character of a sparkline
constexpr int64_t most_periods = 18;    // three minutes
constexpr Millis late_after{600'000};   // a job that could have started so long ago is late
constexpr size_t most_jobs_shown = 50;  // of one worker

constexpr std::array sorts{"name", "queued", "oldest", "running", "in", "done", "failing"};

std::string rate_of(double value) {
  if (value <= 0) return "";
  char text[32];
  snprintf(text, sizeof text, value < 9.95 ? "%.1f" : "%.0f", value);
  return text;
}

std::string number(uint64_t n) { return n == 0 ? "" : std::to_string(n); }

// Returns the lines of a table that fit into the width, without colours.
std::vector<std::string> table_lines(const std::vector<Column>& columns, const std::vector<TextTable::Row>& rows,
                                     size_t width) {
  return lines_of(TextTable(columns, width, false).page(rows));
}

}  // namespace

void TopModel::add(TopSample sample) {
  const double seconds =
      m_has_sample ? std::max(0.001, static_cast<double>((sample.at - m_last.at).count()) / 1000) : 0.0;
  if (m_has_sample) {
    m_seconds.push_back(seconds);
    if (m_seconds.size() > most_samples) m_seconds.pop_front();
    const int64_t period = sample.at.count() / period_ms;
    for (const auto& [function, flow] : sample.flows) m_recent.try_emplace(function);
    for (auto& [function, recent] : m_recent) {
      const auto flow = sample.flows.find(function);
      recent.flows.push_back(flow == sample.flows.end() ? Flow{} : flow->second);
      while (recent.flows.size() > m_seconds.size()) recent.flows.pop_front();
      if (flow != sample.flows.end() && flow->second.done > 0) recent.periods[period] += flow->second.done;
      while (!recent.periods.empty() && recent.periods.begin()->first <= period - most_periods)
        recent.periods.erase(recent.periods.begin());
    }
    std::erase_if(m_recent, [](const auto& entry) {
      const auto& flows = entry.second.flows;
      return entry.second.periods.empty() && std::all_of(flows.begin(), flows.end(), [](const Flow& f) {
               return f.in == 0 && f.done == 0 && f.failed == 0;
             });
    });
  }
  m_last = std::move(sample);
  m_has_sample = true;
}

Flow TopModel::rates(const std::string& function) const {
  Flow sum;
  const auto recent = m_recent.find(function);
  if (recent == m_recent.end()) return sum;
  for (const auto& flow : recent->second.flows) {
    sum.in += flow.in;
    sum.done += flow.done;
    sum.failed += flow.failed;
  }
  double seconds = 0;
  for (double s : m_seconds) seconds += s;
  return {sum.in / seconds, sum.done / seconds, sum.failed / seconds};
}

std::string TopModel::sparkline(const std::string& function) const {
  static constexpr std::array bars{" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  const auto recent = m_recent.find(function);
  if (recent == m_recent.end()) return "";
  double highest = 0;
  for (const auto& [period, done] : recent->second.periods) highest = std::max(highest, done);
  if (highest == 0) return "";
  std::string line;
  const int64_t last = m_last.at.count() / period_ms;
  for (int64_t period = last - most_periods + 1; period <= last; ++period) {
    const auto found = recent->second.periods.find(period);
    const double part = found == recent->second.periods.end() ? 0 : found->second / highest;
    line += bars[part == 0 ? 0 : std::max<size_t>(1, static_cast<size_t>(part * (bars.size() - 1)))];
  }
  return line;
}

void TopModel::press(Key key) {
  const auto by = [&](size_t lines, bool down) {
    m_scroll = down ? m_scroll + lines : m_scroll - std::min(m_scroll, lines);
  };
  switch (key) {
    case Key::up:
    case Key::down:
      return by(1, key == Key::down);
    case Key::page_up:
    case Key::page_down:
      return by(m_page, key == Key::page_down);
    case Key::home:
      m_scroll = 0;
      return;
    case Key::end:
      m_scroll = m_last.overview.functions.size();
      return;
    case Key::sort:
      m_sort = (m_sort + 1) % sorts.size();
      m_scroll = 0;
      return;
    case Key::filter:
      m_is_typing = true;
      m_filter.clear();
      m_scroll = 0;
      return;
    case Key::enter:
      m_is_typing = false;
      return;
    case Key::escape:
      m_is_typing = false;
      m_filter.clear();
      return;
    case Key::erase:
      if (!m_is_typing) return;
      while (!m_filter.empty() && (static_cast<unsigned char>(m_filter.back()) & 0xc0) == 0x80) m_filter.pop_back();
      if (!m_filter.empty()) m_filter.pop_back();
      return;
  }
}

bool TopModel::type(const std::string& character) {
  if (!m_is_typing) return false;
  m_filter += character;
  m_scroll = 0;
  return true;
}

std::vector<std::string> TopModel::sorted() const {
  struct Place {
    double value;
    const std::string* name;
  };
  std::vector<Place> places;
  for (const auto& [name, found] : m_last.overview.functions) {
    if (name.find(m_filter) == std::string::npos) continue;
    double value = 0;
    const std::string_view by = sorts[m_sort];
    if (by == "queued") value = static_cast<double>(found.queued());
    else if (by == "oldest")
      value = found.waits_since ? static_cast<double>((m_last.at - *found.waits_since).count()) : -1;
    else if (by == "running") value = static_cast<double>(found.at(State::running));
    else if (by == "in") value = rates(name).in;
    else if (by == "done") value = rates(name).done;
    else if (by == "failing") value = rates(name).failed;
    places.push_back({value, &name});
  }
  std::stable_sort(places.begin(), places.end(), [](const Place& x, const Place& y) { return x.value > y.value; });
  std::vector<std::string> names;
  for (const auto& place : places) names.push_back(*place.name);
  return names;
}

std::vector<TopLine> TopModel::head(size_t width) const {
  const Overview& all = m_last.overview;
  uint64_t queued = 0, running = 0, delayed = 0, dead = 0;
  Flow sum;
  for (const auto& [name, found] : all.functions) {
    queued += found.queued();
    running += found.at(State::running);
    delayed += found.at(State::delayed);
    dead += found.at(State::dead);
  }
  for (const auto& [name, recent] : m_recent) {
    const Flow flow = rates(name);
    sum.in += flow.in;
    sum.done += flow.done;
    sum.failed += flow.failed;
  }
  const auto rate = [](double value) { return value > 0 ? rate_of(value) : std::string("0"); };
  std::vector<TopLine> lines;
  const std::string time = format_time(m_last.at).substr(11, 8) + " UTC";
  const size_t left = width > width_of(time) + 2 ? width - width_of(time) - 2 : 0;
  lines.push_back({padded_to("gq " + printable(m_last.store), left) + "  " + time, Colour::none, true});
  lines.push_back({"jobs: " + std::to_string(queued) + " queued, " + std::to_string(running) + " running, " +
                   std::to_string(delayed) + " delayed, " + std::to_string(dead) + " dead"});
  lines.push_back(
      {"per second: " + rate(sum.in) + " in, " + rate(sum.done) + " done, " + rate(sum.failed) + " failing"});
  std::string disk = "disk: " + short_size(all.disk.free) + " free; journal " + short_size(all.disk.journal) +
                     ", of which jobs need " + short_size(all.disk.needed);
  if (all.disk.outputs) disk += "; outputs " + short_size(all.disk.outputs);
  lines.push_back({disk, all.disk.damaged || all.troubles ? Colour::red : Colour::none});
  if (all.troubles)
    lines.push_back({counted(all.troubles, "trouble") + " in the journal (gq-inspect check tells which)", Colour::red});
  if (!all.waits.empty()) lines.push_back({"this node runs no job " + printable(all.waits), Colour::yellow});
  if (!m_last.note.empty()) lines.push_back({printable(m_last.note), Colour::yellow});
  for (const auto& [node, debt] : all.nodes) {
    std::string line = node + ": owed " + counted(debt.jobs, "job");
    if (debt.jobs) line += " for " + short_duration(m_last.at - debt.since);
    line += debt.answered_at.count() ? ", answered " + short_duration(m_last.at - debt.answered_at) + " ago"
                                     : ", has never answered";
    const bool is_silent = m_last.at - debt.answered_at > Millis(60'000);
    lines.push_back({line, is_silent ? Colour::yellow : Colour::none});
  }
  return lines;
}

// Returns the lines of the functions that are scrolled to: the titles, and up to `height` - 1 functions.
std::vector<TopLine> TopModel::functions(size_t width, size_t height) {
  const auto names = sorted();
  m_page = std::max<size_t>(1, height - std::min<size_t>(height, 1));
  m_scroll = std::min(m_scroll, names.size() - std::min(names.size(), m_page));
  std::vector<TextTable::Row> rows;
  std::vector<TopLine> lines;
  for (size_t i = m_scroll; i < names.size() && rows.size() < m_page; ++i) {
    const FunctionStats& found = m_last.overview.functions.at(names[i]);
    const Flow flow = rates(names[i]);
    std::string oldest;
    if (found.waits_since) oldest = short_duration(m_last.at - *found.waits_since);
    const bool is_late = found.waits_since && m_last.at - *found.waits_since > late_after;
    rows.push_back({{names[i]},
                    {found.paused ? "paused" : number(found.queued())},
                    {oldest},
                    {number(found.at(State::running))},
                    {number(found.at(State::dead))},
                    {rate_of(flow.in)},
                    {rate_of(flow.done)},
                    {rate_of(flow.failed)},
                    {sparkline(names[i])}});
    lines.push_back({"", flow.failed > 0 ? Colour::red : is_late ? Colour::yellow : Colour::none});
  }
  const auto texts = table_lines({{"FUNCTION", false, 10},
                                  {"QUEUED", true},
                                  {"OLDEST", true},
                                  {"RUNNING", true},
                                  {"DEAD", true},
                                  {"IN/s", true},
                                  {"DONE/s", true},
                                  {"FAIL/s", true},
                                  {"DONE, 3 MINUTES", false, 0, 1}},
                                 rows, width);
  if (texts.empty()) return {{m_filter.empty() ? "no functions" : "no function has this in its name", Colour::dim}};
  for (size_t i = 0; i < lines.size(); ++i) lines[i].text = texts[i + 1];
  lines.insert(lines.begin(), {texts[0], Colour::none, true});
  return lines;
}

std::vector<TopLine> TopModel::workers(size_t width) const {
  std::vector<TextTable::Row> rows;
  for (const auto& worker : m_last.workers) {
    TextTable::Row row{
        {std::to_string(worker.pid)}, {worker.host}, {worker.functions.empty() ? "all" : worker.functions}};
    size_t shown = 0;
    for (const auto& job : worker.runs) {
      if (++shown > most_jobs_shown) break;
      row.push_back({short_duration(m_last.at - job.since)});
      row.push_back({job.function});
      row.push_back({job.id});
      rows.push_back(std::exchange(row, {{}, {}, {}}));
    }
    if (worker.runs.empty()) {
      row.insert(row.end(), {{"idle"}, {}, {}});
      rows.push_back(row);
    }
  }
  const auto texts = table_lines(
      {{"PID"}, {"HOST", false, 6, 3}, {"WORKS ON", false, 8}, {"FOR", true}, {"RUNS", false, 8}, {"JOB", false, 0, 2}},
      rows, width);
  if (texts.empty()) return {{"no worker runs here", Colour::dim}};
  std::vector<TopLine> lines;
  for (const auto& text : texts) lines.push_back({text, Colour::none, lines.empty()});
  return lines;
}

std::string TopModel::keys() const {
  if (m_is_typing) return "functions with: " + printable(m_filter) + "_   Enter: keep   Esc: all";
  std::string text = "q quit   arrows scroll   s sort: " + std::string(sorts[m_sort]) + "   / filter";
  if (!m_filter.empty()) text += ": " + printable(m_filter) + "   Esc all";
  return text;
}

std::vector<TopLine> TopModel::lines(size_t width, size_t height) {
  if (!m_has_sample || width == 0 || height == 0) return {};
  std::vector<TopLine> all = head(width);
  const TopLine last{keys(), Colour::dim};
  const std::vector<TopLine> running = workers(width);
  // The functions get what the workers do not need, and at least half of the room.
  const size_t room = height - std::min(height, all.size() + 3);
  const size_t for_functions = std::max(room - std::min(room, running.size()), (room + 1) / 2);
  all.push_back({});
  const auto shown = functions(width, for_functions);
  all.insert(all.end(), shown.begin(), shown.end());
  all.push_back({});
  all.insert(all.end(), running.begin(), running.end());
  if (all.size() > height - 1) all.resize(height - 1);
  while (all.size() < height - 1) all.push_back({});
  all.push_back(last);
  for (auto& line : all) line.text = cut_to(line.text, width);
  return all;
}

}  // namespace gq
