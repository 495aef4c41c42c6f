#include "gq/view/report.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>

#include "gq/base/text.hpp"
#include "gq/view/status.hpp"

namespace gq {
namespace {

constexpr size_t most_rows = 500;     // of functions
constexpr size_t most_running = 100;  // jobs that run
constexpr size_t most_dead = 25;      // dead jobs
constexpr size_t most_dead_functions = 200, claims_a_visit = 2000;
constexpr size_t longest_text = 300;
constexpr size_t minutes_a_bar = 10, bars_a_day = most_minutes / minutes_a_bar;
constexpr int64_t minute_length = 60'000;

std::string escape(std::string_view text) {
  std::string out;
  for (const char c : printable(text, any_length)) {
    if (c == '&') out += "&amp;";
    else if (c == '<') out += "&lt;";
    else if (c == '>') out += "&gt;";
    else if (c == '"') out += "&quot;";
    else if (c == '\'') out += "&#39;";
    else out += c;
  }
  return out;
}

std::string number(uint64_t n) { return std::to_string(n); }

std::string element(const std::string& tag, const std::string& content) {
  return "<" + tag + ">" + content + "</" + tag.substr(0, tag.find(' ')) + ">";
}

struct Cell {
  std::string html;
  bool is_number = false;
  bool is_bad = false;
};

// A table without the columns in which all cells are empty. On a narrow screen each row becomes a block of lines, which
// repeat the titles.
class HtmlTable {
 public:
  explicit HtmlTable(std::vector<std::string> titles) : m_titles(std::move(titles)), m_is_used(m_titles.size()) {}
  void row(std::vector<Cell> cells) {
    for (size_t i = 0; i < cells.size(); ++i)
      if (!cells[i].html.empty()) m_is_used[i] = true;
    m_rows.push_back(std::move(cells));
  }
  std::string html() const {
    std::string head, body;
    for (size_t i = 0; i < m_titles.size(); ++i) {
      const bool is_number = !m_rows.empty() && m_rows.front()[i].is_number;
      if (m_is_used[i]) head += element(is_number ? "th class=\"n\"" : "th", m_titles[i]);
    }
    for (const auto& cells : m_rows) {
      body += "<tr>";
      for (size_t i = 0; i < cells.size(); ++i) {
        const auto& [html, is_number, is_bad] = cells[i];
        const std::string kinds = std::string(is_number ? "n" : "") + (is_bad ? " bad" : "");
        if (m_is_used[i])
          body += element("td data-title=\"" + m_titles[i] + "\"" + (kinds.empty() ? "" : " class=\"" + kinds + "\""),
                          html);
      }
      body += "</tr>";
    }
    return "<div class=\"table\"><table><thead><tr>" + head + "</tr></thead><tbody>" + body +
           "</tbody></table></div>\n";
  }

 private:
  const std::vector<std::string> m_titles;
  std::vector<bool> m_is_used;
  std::vector<std::vector<Cell>> m_rows;
};

Cell count_cell(uint64_t n, bool is_bad = false) { return {n ? number(n) : "", true, is_bad && n > 0}; }

// "2026-01-31 12:00:00" of a time.
std::string short_time(Millis at) {
  std::string text = format_time(at).substr(0, 19);
  text[10] = ' ';
  return text;
}

Millis since(Millis at, Millis now) { return std::max(Millis(0), now - at); }

// A round number that is not less than n, for the top of a scale.
double round_up(double n) {
  if (n <= 1) return 1;
  const double power = std::pow(10, std::floor(std::log10(n)));
  for (const double step : {1.0, 2.0, 5.0, 10.0})
    if (step * power >= n) return step * power;
  return n;
}

constexpr int chart_width = 720, chart_height = 150, chart_top = 24, chart_bottom = 26;

std::string coordinate(double n) {
  const int64_t tenths = std::llround(n * 10);
  return std::to_string(tenths / 10) + (tenths % 10 ? "." + std::to_string(std::abs(tenths % 10)) : "");
}

// A chart of the last day: a bar for each ten minutes. `label` returns a value as text.
std::string chart(const std::string& title, const std::string& kind, const std::vector<uint64_t>& values, Millis now,
                  uint64_t top, const std::function<std::string(uint64_t)>& label) {
  const double bar = static_cast<double>(chart_width) / static_cast<double>(values.size());
  const double high = chart_height - chart_top - chart_bottom, base = chart_height - chart_bottom;
  std::string svg = "<figure><figcaption>" + title + "</figcaption><svg viewBox=\"0 0 " + std::to_string(chart_width) +
                    " " + std::to_string(chart_height) + "\" role=\"img\" aria-label=\"" + title +
                    " in the last day\" class=\"" + kind + "\">";
  svg += "<path class=\"grid\" d=\"M0 " + std::to_string(chart_top) + "H720M0 " + coordinate(chart_top + high / 2) +
         "H720M0 " + coordinate(base) + "H720\"/>";
  svg += "<text x=\"2\" y=\"" + std::to_string(chart_top - 5) + "\">" + label(top) + "</text>";
  std::string bars;
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i] == 0) continue;
    const double h = std::max(1.0, high * static_cast<double>(values[i]) / static_cast<double>(top));
    const Millis from = now - Millis(static_cast<int64_t>((values.size() - i) * minutes_a_bar) * minute_length);
    bars += "<rect x=\"" + coordinate(static_cast<double>(i) * bar) + "\" y=\"" + coordinate(base - h) + "\" width=\"" +
            coordinate(bar - 0.6) + "\" height=\"" + coordinate(h) + "\"><title>" + short_time(from).substr(11, 5) +
            ": " + label(values[i]) + "</title></rect>";
  }
  svg += bars;
  for (int quarter = 0; quarter <= 4; ++quarter) {
    const Millis at = now - Millis((4 - quarter) * 6 * 60 * minute_length);
    const char* anchor = quarter == 0 ? "start" : quarter == 4 ? "end" : "middle";
    svg += "<text x=\"" + std::to_string(quarter * chart_width / 4) + "\" y=\"" + std::to_string(chart_height - 7) +
           "\" text-anchor=\"" + anchor + "\">" + short_time(at).substr(11, 5) + "</text>";
  }
  return svg + "</svg></figure>\n";
}

std::string charts(const Report& report) {
  const Millis now = report.overview.at;
  const uint64_t last = static_cast<uint64_t>(std::max<int64_t>(now.count() / minute_length, most_minutes));
  std::array<std::vector<uint64_t>, 3> counts;
  for (auto& values : counts) values.resize(bars_a_day);
  for (const auto& [minute, tally] : report.minutes) {
    if (minute > last || minute + most_minutes <= last) continue;
    const size_t at = (minute + most_minutes - last - 1) / minutes_a_bar;
    for (size_t i = 0; i < counts.size(); ++i) counts[i][at] += tally.values[i];
  }
  std::optional<Millis> oldest;
  for (const auto& [name, f] : report.overview.functions)
    if (f.waits_since) oldest = std::max(oldest.value_or(Millis(0)), since(*f.waits_since, now));
  const auto ages = ages_of_oldest(report.minutes, oldest.value_or(Millis(0)), now);
  std::vector<uint64_t> age(bars_a_day);
  for (size_t i = 0; i < ages.size(); ++i) age[i / minutes_a_bar] = std::max(age[i / minutes_a_bar], ages[i]);
  const auto top = [](const std::vector<uint64_t>& values) {
    return static_cast<uint64_t>(round_up(static_cast<double>(*std::max_element(values.begin(), values.end()))));
  };
  const auto duration = [](uint64_t ms) { return human_duration(Millis(static_cast<int64_t>(ms))); };
  const uint64_t oldest_age = std::max<uint64_t>(1000, *std::max_element(age.begin(), age.end()));
  return "<section><h2>The last day</h2><p class=\"note\">A bar is ten minutes; times are UTC.</p><div "
         "class=\"charts\">" +
         chart("Jobs in", "in", counts[0], now, top(counts[0]), number) +
         chart("Jobs done", "done", counts[1], now, top(counts[1]), number) +
         chart("Attempts failed", "failed", counts[2], now, top(counts[2]), number) +
         chart("Age of the oldest job that could run", "age", age, now, oldest_age, duration) + "</div></section>\n";
}

std::string tiles(const Overview& o) {
  uint64_t queued = 0, running = 0, delayed = 0, dead = 0;
  std::optional<Millis> oldest;
  for (const auto& [name, f] : o.functions) {
    queued += f.queued(), running += f.at(State::running);
    delayed += f.at(State::delayed), dead += f.at(State::dead);
    if (f.waits_since) oldest = std::max(oldest.value_or(Millis(0)), since(*f.waits_since, o.at));
  }
  std::string html = "<div class=\"tiles\">";
  const auto tile = [&](const char* what, const std::string& value, bool is_bad = false) {
    html +=
        std::string("<div") + (is_bad ? " class=\"bad\"" : "") + "><b>" + value + "</b><span>" + what + "</span></div>";
  };
  tile("queued", number(queued));
  tile("running", number(running));
  tile("delayed", number(delayed));
  tile("dead", number(dead), dead > 0);
  tile("oldest waits for", oldest ? human_duration(*oldest) : "–");
  tile("workers", number(o.processes.size()), o.processes.empty() && queued > 0);
  tile("disk free", human_size(o.disk.free));
  return html + "</div>\n";
}

std::string functions_of(const Overview& o) {
  std::vector<const std::pair<const std::string, FunctionStats>*> rows;
  for (const auto& f : o.functions) rows.push_back(&f);
  const auto activity = [](const auto* row) { return row->second.at(State::dead) + row->second.counters.live(); };
  std::stable_sort(rows.begin(), rows.end(), [&](auto* x, auto* y) { return activity(x) > activity(y); });
  HtmlTable table(
      {"Function", "Queued", "Running", "Delayed", "Waiting", "Dead", "Finished", "Oldest", "Workloads", ""});
  for (size_t i = 0; i < std::min(rows.size(), most_rows); ++i) {
    const auto& [name, f] = *rows[i];
    std::string notes;
    const auto note = [&](const std::string& text) { notes += (notes.empty() ? "" : ", ") + text; };
    if (f.paused) note("paused");
    if (f.limit) note("at most " + number(*f.limit) + " run");
    if (f.letters) note("dead letters to " + escape(printable(*f.letters, longest_text)));
    if (f.waits_since && !f.paused && !o.workers.has(name)) note("no worker");
    table.row({{escape(name)},
               count_cell(f.queued()),
               count_cell(f.at(State::running)),
               count_cell(f.at(State::delayed)),
               count_cell(f.at(State::waiting) + f.at(State::pending) + f.at(State::held)),
               count_cell(f.at(State::dead), true),
               count_cell(f.at(State::finished) + f.at(State::kept)),
               {f.waits_since ? human_duration(since(*f.waits_since, o.at)) : "", true},
               {f.counters.bytes ? human_size(f.counters.bytes) : "", true},
               {notes}});
  }
  std::string html = "<section><h2>Functions</h2>";
  if (rows.empty()) return html + "<p class=\"note\">No function has jobs.</p></section>\n";
  html += table.html();
  if (rows.size() > most_rows) html += "<p class=\"note\">And " + number(rows.size() - most_rows) + " more.</p>";
  return html + "</section>\n";
}

std::string workers_of(const Report& report) {
  const Overview& o = report.overview;
  std::string html = "<section><h2>Workers</h2>";
  if (o.processes.empty()) return html + "<p class=\"note\">No worker runs on this machine.</p></section>\n";
  HtmlTable table({"Process", "Host", "Functions", "Runs"});
  for (const auto& [owner, info] : o.processes) {
    std::string functions = info.runs ? "" : "all";
    for (const auto& name : info.runs.value_or(std::vector<std::string>()))
      functions += (functions.empty() ? "" : ", ") + name;
    std::string runs;
    for (const auto& [claim, holder] : report.running)
      if (owner_process(claim.job.owner) + ".0" == owner)
        runs += (runs.empty() ? "" : "<br>") + escape(printable(claim.job.function, longest_text)) + " <code>" +
                escape(claim.id) + "</code> for " + human_duration(since(claim.job.changed_at, o.at)) +
                (holder.pid ? ", pid " + std::to_string(holder.pid) : "");
    table.row(
        {{std::to_string(info.pid), true}, {escape(info.host)}, {escape(printable(functions, longest_text))}, {runs}});
  }
  return html + table.html() + "</section>\n";
}

std::string nodes_of(const Overview& o) {
  if (o.nodes.empty()) return {};
  HtmlTable table({"Node", "Owed jobs", "Owed since", "Last answered"});
  for (const auto& [node, debt] : o.nodes)
    table.row({{escape(node)},
               count_cell(debt.jobs),
               {debt.jobs ? short_time(debt.since) : ""},
               {debt.answered_at.count() ? human_duration(since(debt.answered_at, o.at)) + " ago" : "never"}});
  std::string html = "<section><h2>Nodes</h2>";
  if (!o.waits.empty()) html += "<p class=\"bad\">This node runs no job " + escape(o.waits) + ".</p>";
  return html + table.html() + "</section>\n";
}

std::string disk_of(const DiskUse& disk) {
  HtmlTable table({"Journal", "Needed by jobs", "Outputs", "Free on the disk"});
  table.row({{human_size(disk.journal), true},
             {human_size(disk.needed), true},
             {human_size(disk.outputs), true},
             {human_size(disk.free), true}});
  return "<section><h2>Disk</h2>" + table.html() + "</section>\n";
}

std::string dead_of(const Report& report) {
  std::string html = "<section><h2>Newest dead jobs</h2>";
  if (report.dead.empty()) return html + "<p class=\"note\">No job is dead.</p></section>\n";
  std::vector<std::string> titles = {"Function", "Name", "Dead since", "Attempts", "Ended with"};
  if (report.reasons) titles.emplace_back("Reason");
  titles.emplace_back("To run it again");
  HtmlTable table(titles);
  for (const auto& [id, job] : report.dead) {
    std::vector<Cell> cells = {{escape(printable(job.function, longest_text))},
                               {escape(job.name)},
                               {element("span class=\"t\"", short_time(job.changed_at))},
                               count_cell(job.attempts()),
                               {job.signal            ? "signal " + number(job.signal)
                                : job.exit != no_exit ? "exit " + number(job.exit)
                                                      : ""}};
    if (report.reasons) cells.push_back({escape(printable(job.why, longest_text))});
    cells.push_back({element("code", "gq-flush --kick " + escape(id))});
    table.row(cells);
  }
  return html + table.html() + "</section>\n";
}

constexpr const char* style = R"(
:root{color-scheme:light dark;--ground:#fff;--text:#1c2024;--soft:#60646c;--line:#e0e1e6;--tile:#f5f6f8;--bad:#c62a2f;--in:#3e63dd;--done:#30a46c;--age:#b5730b}
@media(prefers-color-scheme:dark){:root{--ground:#15171a;--text:#eceef0;--soft:#9ba1a6;--line:#2e3236;--tile:#1e2124;--bad:#ff6369;--in:#849dff;--done:#4cc38a;--age:#f1a10d}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1100px;padding:1rem;background:var(--ground);color:var(--text);font:15px/1.45 system-ui,sans-serif}
h1{font-size:1.4rem;margin:.2rem 0;overflow-wrap:anywhere}h2{font-size:1.1rem;margin:1.6rem 0 .5rem}
p{margin:.3rem 0}.note{color:var(--soft)}.bad,.bad b{color:var(--bad)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(120px,1fr));gap:.6rem;margin:1rem 0}
.tiles div{background:var(--tile);border-radius:8px;padding:.6rem .8rem}
.tiles b{display:block;font-size:1.35rem;white-space:nowrap}.tiles span{color:var(--soft)}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:1rem}
figure{margin:0}figcaption{font-weight:600}svg{display:block;width:100%;height:auto}
svg text{fill:var(--soft);font:15px system-ui,sans-serif}.grid{stroke:var(--line);fill:none}
.in rect{fill:var(--in)}.done rect{fill:var(--done)}.failed rect{fill:var(--bad)}.age rect{fill:var(--age)}
.table{overflow-x:auto}table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.35rem .6rem;border-bottom:1px solid var(--line);vertical-align:top}
th{color:var(--soft);font-weight:600;white-space:nowrap}td{max-width:24rem;overflow-wrap:break-word}
.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}.t{white-space:nowrap}code{font:13px ui-monospace,monospace}
@media(max-width:600px){body{padding:.6rem}svg text{font-size:22px}table,tbody,tr,td{display:block}thead,td:empty{display:none}
tr{border-bottom:1px solid var(--line);padding:.4rem 0}td{border:0;padding:.05rem 0;max-width:none}td.n{text-align:left}
td:before{content:attr(data-title) ": ";color:var(--soft)}td[data-title=""]:before{content:""}}
)";

}  // namespace

std::vector<uint64_t> ages_of_oldest(const std::map<uint64_t, MinuteTally>& minutes, Millis oldest, Millis now) {
  std::vector<uint64_t> ages(most_minutes);
  const uint64_t last = static_cast<uint64_t>(std::max<int64_t>(now.count() / minute_length, most_minutes));
  // A job that was started at some time had waited a minute less a minute earlier.
  uint64_t age = static_cast<uint64_t>(std::max<int64_t>(0, oldest.count()));
  for (size_t i = most_minutes; i-- > 0;) {
    const auto found = minutes.find(last - (most_minutes - 1 - i));
    if (found != minutes.end()) age = std::max(age, found->second.values[MinuteTally::longest_wait]);
    ages[i] = age;
    age -= std::min<uint64_t>(age, minute_length);
  }
  return ages;
}

Report report_of(Queue& store, bool reasons) {
  Report report{.overview = overview_of(store), .reasons = reasons};
  report.name = store.group() ? store.group().self.node : store.directory().path();
  store.look([&](Fold& fold) { report.minutes = fold.tally().minutes(); });
  std::string cursor;
  for (bool last = false; !last;) {
    std::string next;
    std::vector<Claim> found;
    store.look([&](Fold& fold) {
      std::vector<std::string> ids;
      found.clear();
      next = cursor;
      last = fold.page('c', "", claims_a_visit, next, ids);
      for (const auto& id : ids)
        if (auto job = fold.get(id); job && job->state == State::running) found.push_back({id, std::move(*job)});
    });
    cursor = next;
    for (auto& claim : found)
      if (auto holder = holder_of(store.owners_directory(), claim.job.owner))
        report.running.push_back({std::move(claim), *holder});
    std::stable_sort(report.running.begin(), report.running.end(), [](const RunningJob& x, const RunningJob& y) {
      return x.claim.job.changed_at < y.claim.job.changed_at;
    });
    if (report.running.size() > most_running) report.running.resize(most_running);
  }
  size_t looked_at = 0;
  for (const auto& [function, f] : report.overview.functions) {
    if (f.at(State::dead) == 0) continue;
    if (++looked_at > most_dead_functions) break;
    std::vector<Claim> found;
    store.look([&, &name = function](Fold& fold) {
      found.clear();
      for (const auto& id : fold.last_dead(name, most_dead))
        if (auto job = fold.get(id)) found.push_back({id, std::move(*job)});
    });
    report.dead.insert(report.dead.end(), std::make_move_iterator(found.begin()), std::make_move_iterator(found.end()));
    std::stable_sort(report.dead.begin(), report.dead.end(),
                     [](const Claim& x, const Claim& y) { return x.job.changed_at > y.job.changed_at; });
    if (report.dead.size() > most_dead) report.dead.resize(most_dead);
  }
  return report;
}

std::string report_html(const Report& report) {
  const Overview& o = report.overview;
  const Status status = status_of(o, {});
  const std::string title = "gq: " + escape(report.name);
  std::string html =
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src "
      "'unsafe-inline'\">"
      "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">"
      "<link rel=\"icon\" href=\"data:,\"><title>" +
      title + "</title><style>" + style + "</style></head><body>\n";
  html += element("h1", title) + element("p class=\"note\"", "As of " + short_time(o.at) + " UTC");
  if (!status.problems.empty()) html += element("p class=\"bad\"", escape(status_line(status)));
  html += tiles(o) + charts(report) + functions_of(o) + workers_of(report) + nodes_of(o) + dead_of(report) +
          disk_of(o.disk);
  return html + "</body></html>\n";
}

}  // namespace gq
