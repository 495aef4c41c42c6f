// Unit tests of what people see: tables, and short forms of times and sizes.
#include "check.hpp"
#include "gq/base/columns.hpp"
#include "gq/base/text.hpp"
#include "gq/view/top.hpp"
#include "gq/work/line_tag.hpp"

namespace {

using namespace gq;

void texts_have_widths() {
  CHECK(width_of("abc") == 3 && width_of("") == 0 && width_of("äö") == 2);
  CHECK(width_of("漢字") == 4 && width_of("e\u0301") == 1);
  CHECK(cut_to("abcdef", 6) == "abcdef" && cut_to("abcdef", 5) == "abcd…" && cut_to("abcdef", 1) == "…");
  CHECK(cut_to("abc", 0).empty());
  CHECK(cut_to("漢字字", 4) == "漢…" && cut_to("漢字字", 5) == "漢字…" && cut_to("漢字字", 6) == "漢字字");
  CHECK(padded_to("ab", 4) == "ab  " && padded_to("ab", 4, true) == "  ab" && padded_to("漢", 3) == "漢 ");
  CHECK(padded_to("漢字", 2) == "… ");
}

void values_are_short() {
  const auto seconds = [](int64_t n) { return short_duration(Millis(n * 1000)); };
  CHECK(seconds(-5) == "0s" && seconds(119) == "119s" && seconds(120) == "2m" && seconds(7199) == "119m");
  CHECK(seconds(7200) == "2h" && seconds(47 * 3600) == "47h" && seconds(48 * 3600) == "2d");
  CHECK(seconds(729 * 86400LL) == "729d" && seconds(3 * 365 * 86400LL) == "3y");
  CHECK(short_size(0) == "0" && short_size(1023) == "1023" && short_size(1024) == "1.0K");
  CHECK(short_size(10240) == "10K" && short_size(1023 * 1024) == "1.0M" && short_size(25 << 20) == "25M");
  CHECK(short_size(UINT64_MAX) == "16E");
}

void tables_fit() {
  const std::vector<Column> columns{{"NAME", false, 4}, {"N", true}, {"NONE"}, {"TEXT", false, 5}};
  TextTable wide(columns, 0, false);
  CHECK(wide.page({}).empty());
  CHECK(wide.page({{{"a"}, {"1"}, {}, {"first"}}, {{"漢字漢"}, {"100"}, {}, {}}}) ==
        "NAME      N  TEXT\n"
        "a         1  first\n"
        "漢字漢  100\n");
  // A later page keeps the widths, and says the titles again only because a column has come up.
  CHECK(wide.page({{{"b"}, {"2"}, {}, {"x"}}}) == "b         2  x\n");
  CHECK(wide.page({{{"b"}, {"2"}, {"y"}, {"x"}}}) == "NAME      N  NONE  TEXT\nb         2  y     x\n");
  // The widest columns are cut first, as far as they may be; beyond that, the line ends at the width.
  TextTable narrow(columns, 16, false);
  CHECK(narrow.page({{{"abcdefgh"}, {"1"}, {}, {"a long text"}}}) == "NAME   N  TEXT\nabcd…  1  a lon…\n");
  TextTable tiny(columns, 7, false);
  CHECK(tiny.page({{{"abcdefgh"}, {"1"}, {}, {"a long text"}}}) == "NAME  N\nabc…  1\n");
  TextTable ranked({{"ID"}, {"SIZE", true, 0, 2}, {"AGE", true, 0, 1}, {"TEXT", false, 5}}, 12, false);
  CHECK(ranked.page({{{"a"}, {"1"}, {"3m"}, {"a long text"}}}) == "ID  TEXT\na   a long …\n");
  TextTable more({{"ID"}, {"SIZE", true, 0, 2}, {"AGE", true, 0, 1}, {"TEXT", false, 5}}, 14, false);
  CHECK(more.page({{{"a"}, {"1"}, {"3m"}, {"a long text"}}}) == "ID  AGE  TEXT\na    3m  a lo…\n");
  // Text that would control the terminal does not; colours are outside of the widths.
  TextTable coloured_table({{"A"}, {"B"}}, 20, true);
  CHECK(coloured_table.page({{{"x\033[2J", Colour::red}, {"y"}}}) ==
        "\033[2mA    \033[0m  \033[2mB\033[0m\n\033[31mx?[2J\033[0m  y\n");
}

// A sample of a store at this second, with one function for each name.
TopSample sample_at(int64_t second, const std::map<std::string, Flow>& flows,
                    std::vector<std::string> names = {"a", "b"}) {
  TopSample sample{.at = Millis(second * 1000), .store = "/store", .flows = flows};
  for (const auto& name : names) sample.overview.functions[name].counters.jobs[0] = name.size();
  return sample;
}

std::string shown(TopModel& model, size_t width, size_t height) {
  const auto lines = model.lines(width, height);
  CHECK(lines.size() <= height);
  std::string text;
  for (const auto& line : lines) {
    CHECK(width_of(line.text) <= width);
    text += line.text + "\n";
  }
  return text;
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

void rates_come_from_samples() {
  TopModel model;
  CHECK(model.lines(80, 24).empty());
  model.add(sample_at(100, {{"a", {50, 50, 50}}}));  // nothing is known about the time before the first sample
  CHECK(model.rates("a").in == 0 && model.sparkline("a").empty());
  model.add(sample_at(102, {{"a", {10, 4, 2}}}));
  CHECK(model.rates("a").in == 5 && model.rates("a").done == 2 && model.rates("a").failed == 1);
  CHECK(model.rates("b").in == 0 && model.rates("none").in == 0);
  for (int64_t second = 103; second <= 107; ++second) model.add(sample_at(second, {}));
  CHECK(model.rates("a").in == 0);
  CHECK(model.sparkline("a") == std::string(17, ' ') + "█");
  model.add(sample_at(111, {{"a", {0, 2, 0}}}));
  CHECK(model.sparkline("a") == std::string(16, ' ') + "█▄");
  model.add(sample_at(111 + 180, {}));
  CHECK(model.sparkline("a").empty());
}

void top_fits_any_screen() {
  TopModel model;
  std::vector<std::string> names;
  for (int i = 0; i < 10'000; ++i) names.push_back("function-" + padded(static_cast<uint64_t>(i), 5));
  TopSample sample = sample_at(100, {}, names);
  sample.workers = {{4242, "host", "function-00001", {{"ID1", "function-00001", Millis(40'000)}}},
                    {4243, "host", "", {}}};
  sample.overview.nodes["rep_2"].jobs = 3;
  model.add(sample);
  for (size_t width : {1, 2, 20, 40, 80, 200})
    for (size_t height : {1, 2, 5, 10, 24, 60}) shown(model, width, height);
  const std::string text = shown(model, 80, 24);
  CHECK(has(text, "gq /store") && has(text, "00:01:40 UTC") && has(text, "rep_2: owed 3 jobs") &&
        has(text, "140000 queued"));
  CHECK(has(text, "function-00000 ") && has(text, "4242") && has(text, "60s  function-00001") && has(text, "4243"));
  CHECK(has(text, "idle"));
  model.press(TopModel::Key::end);
  CHECK(has(shown(model, 80, 24), "function-09999 ") && !has(shown(model, 80, 24), "function-00000 "));
  model.press(TopModel::Key::page_up);
  CHECK(!has(shown(model, 80, 24), "function-09999 "));
  model.press(TopModel::Key::home);
  model.press(TopModel::Key::down);
  CHECK(!has(shown(model, 80, 24), "function-00000 ") && has(shown(model, 80, 24), "function-00001 "));
}

void top_sorts_and_filters() {
  using Key = TopModel::Key;
  TopModel model;
  model.add(sample_at(100, {}, {"a", "bbb", "cc"}));
  model.add(sample_at(101, {{"cc", {0, 0, 1}}}, {"a", "bbb", "cc"}));
  const auto order = [&] {
    std::string names;
    for (const auto& line : model.lines(100, 30))
      for (const char* name : {"a ", "bbb ", "cc "})
        if (line.text.starts_with(name)) names += name;
    return names;
  };
  CHECK(order() == "a bbb cc ");
  model.press(Key::sort);  // by queued jobs
  CHECK(order() == "bbb cc a " && has(shown(model, 100, 30), "sort: queued"));
  for (int i = 0; i < 5; ++i) model.press(Key::sort);
  CHECK(order() == "cc a bbb " && has(shown(model, 100, 30), "sort: failing"));
  CHECK(!model.type("q"));
  model.press(Key::filter);
  CHECK(model.type("b") && model.type("ä"));
  CHECK(order().empty() && has(shown(model, 100, 30), "no function has this in its name"));
  model.press(Key::erase);
  CHECK(order() == "bbb ");
  model.press(Key::enter);
  CHECK(!model.type("q") && order() == "bbb " && has(shown(model, 100, 30), "filter: b"));
  model.press(Key::escape);
  CHECK(order() == "cc a bbb ");
}

void lines_are_tagged() {
  LineTag tag("f ID: ");
  CHECK(tag.add("one") == "" && tag.add(" two\n\nthree") == "f ID: one two\nf ID: \n" && tag.end() == "f ID: three\n");
  CHECK(tag.end().empty() && tag.add("").empty());
  const std::string part(LineTag::longest_line, 'x');
  CHECK(tag.add(part) == "f ID: " + part + "\n" && tag.add(part + "y\n") == "f ID: " + part + "\nf ID: y\n");
  LineTag none;
  CHECK(none.add("one\ntwo") == "one\ntwo" && none.end().empty());
}

}  // namespace

void test_view() {
  lines_are_tagged();
  rates_come_from_samples();
  top_fits_any_screen();
  top_sorts_and_filters();
  texts_have_widths();
  values_are_short();
  tables_fit();
}
