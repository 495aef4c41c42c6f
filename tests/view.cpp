// Unit tests of what people see: tables, and short forms of times and sizes.
#include "check.hpp"
#include "gq/base/columns.hpp"

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

}  // namespace

void test_view() {
  texts_have_widths();
  values_are_short();
  tables_fit();
}
