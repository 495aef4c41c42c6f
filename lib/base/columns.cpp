#include "gq/base/columns.hpp"

#include <locale.h>
#include <wchar.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <numeric>

#include "gq/base/text.hpp"

namespace gq {
namespace {

constexpr size_t gap = 2;  // spaces between columns
constexpr const char* cut_mark = "…";

// The locale of this thread while this object exists: wcwidth() knows no character beyond ASCII in the locale C, which
// is what programs have that do not ask for another one.
class Utf8Locale {
 public:
  Utf8Locale() {
    static const locale_t utf8 = ::newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
    if (utf8) m_before = ::uselocale(utf8);
  }
  ~Utf8Locale() {
    if (m_before) ::uselocale(m_before);
  }
  Utf8Locale(const Utf8Locale&) = delete;
  Utf8Locale& operator=(const Utf8Locale&) = delete;

 private:
  locale_t m_before = nullptr;
};

// Calls `take` with each character of printable text and its width, until it returns false.
template <typename Take>
void for_each_character(std::string_view text, Take take) {
  const Utf8Locale locale;
  while (!text.empty()) {
    size_t n = 1;
    while (n < text.size() && (static_cast<unsigned char>(text[n]) & 0xc0) == 0x80) ++n;
    wchar_t c = static_cast<unsigned char>(text[0]);
    if (n > 1) c &= 0x7f >> n;
    for (size_t i = 1; i < n; ++i) c = c << 6 | (static_cast<unsigned char>(text[i]) & 0x3f);
    if (!take(text.substr(0, n), static_cast<size_t>(std::max(0, ::wcwidth(c))))) return;
    text.remove_prefix(n);
  }
}

}  // namespace

size_t width_of(std::string_view text) {
  size_t width = 0;
  for_each_character(text, [&](std::string_view, size_t w) { return width += w, true; });
  return width;
}

std::string cut_to(std::string_view text, size_t width) {
  size_t kept = 0, used = 0, total = 0;
  for_each_character(text, [&](std::string_view character, size_t w) {
    total += w;
    if (total + 1 <= width) kept += character.size(), used = total;
    return total <= width;
  });
  if (total <= width) return std::string(text);
  return width == 0 ? std::string() : std::string(text.substr(0, kept)) + cut_mark;
}

std::string padded_to(std::string_view text, size_t width, bool to_the_right) {
  const std::string shown = cut_to(text, width);
  const std::string space(width - std::min(width, width_of(shown)), ' ');
  return to_the_right ? space + shown : shown + space;
}

std::string coloured(const std::string& text, Colour colour) {
  static constexpr std::array codes{"", "31", "33", "32", "2"};
  if (colour == Colour::none) return text;
  return std::string("\033[") + codes[static_cast<size_t>(colour)] + "m" + text + "\033[0m";
}

TextTable::TextTable(std::vector<Column> columns, size_t width, bool has_colour)
    : m_columns(std::move(columns)), m_width(width), m_has_colour(has_colour), m_widths(m_columns.size()) {}

std::string TextTable::page(const std::vector<Row>& rows) {
  bool has_titles = std::all_of(m_widths.begin(), m_widths.end(), [](size_t w) { return w == 0; });
  std::vector<Row> printed = rows;
  for (auto& row : printed)
    for (size_t i = 0; i < m_columns.size(); ++i) {
      row[i].text = printable(row[i].text, any_length);
      if (row[i].text.empty()) continue;
      if (m_widths[i] == 0) has_titles = true, m_widths[i] = width_of(m_columns[i].title);
      m_widths[i] = std::max(m_widths[i], width_of(row[i].text));
    }
  if (has_titles && !rows.empty()) {
    Row titles;
    for (const auto& column : m_columns) titles.push_back({column.title, Colour::dim});
    printed.insert(printed.begin(), titles);
  }
  const auto widths = fitted();
  size_t last = 0;
  for (size_t i = 0; i < widths.size(); ++i)
    if (widths[i] > 0) last = i;
  std::string out;
  for (const auto& row : printed) {
    size_t left = m_width > 0 ? m_width : SIZE_MAX, spaces = 0;
    for (size_t i = 0; i < m_columns.size(); ++i) {
      if (widths[i] == 0) continue;
      std::string text = padded_to(row[i].text, widths[i], m_columns[i].is_number);
      // Spaces at the end of a line are left out, and nothing is printed beyond the width of the terminal.
      if (i == last && !m_columns[i].is_number) text.erase(text.find_last_not_of(' ') + 1);
      if (!text.empty() && text.find_first_not_of(' ') != std::string::npos && spaces < left) {
        text = cut_to(text, left - spaces);
        out += std::string(spaces, ' ') + (m_has_colour ? coloured(text, row[i].colour) : text);
        const size_t used = spaces + width_of(text);
        left -= std::min(left, used);
        spaces = gap;
      } else {
        spaces += widths[i] + gap;
      }
    }
    out += "\n";
  }
  return out;
}

// Returns the widths of the columns; 0 for those that are left out. Cuts the widest column that may be cut, until the
// table fits; if it does not fit then, leaves out columns by their rank.
std::vector<size_t> TextTable::fitted() const {
  std::vector<size_t> all = m_widths;
  for (;;) {
    std::vector<size_t> widths = all;
    if (m_width == 0 || cut(widths)) return widths;
    size_t highest = widths.size();
    for (size_t i = 0; i < widths.size(); ++i)
      if (all[i] > 0 && m_columns[i].rank > 0 &&
          (highest == widths.size() || m_columns[i].rank > m_columns[highest].rank))
        highest = i;
    if (highest == widths.size()) return widths;
    all[highest] = 0;
  }
}

// Makes the widest columns narrower until the table fits. Returns whether it does.
bool TextTable::cut(std::vector<size_t>& widths) const {
  const auto shown = static_cast<size_t>(std::count_if(widths.begin(), widths.end(), [](size_t w) { return w > 0; }));
  const size_t gaps = gap * (shown - std::min<size_t>(shown, 1));
  for (;;) {
    const size_t total = std::accumulate(widths.begin(), widths.end(), gaps);
    if (total <= m_width) return true;
    size_t widest = widths.size();
    for (size_t i = 0; i < widths.size(); ++i)
      if (m_columns[i].least > 0 && widths[i] > m_columns[i].least &&
          (widest == widths.size() || widths[i] > widths[widest]))
        widest = i;
    if (widest == widths.size()) return false;
    --widths[widest];
  }
}

std::string short_duration(Millis duration) {
  const int64_t seconds = std::max<int64_t>(0, duration.count() / 1000);
  if (seconds < 120) return std::to_string(seconds) + "s";
  if (seconds < 7200) return std::to_string(seconds / 60) + "m";
  if (seconds < 48 * 3600) return std::to_string(seconds / 3600) + "h";
  if (seconds < 730LL * 86400) return std::to_string(seconds / 86400) + "d";
  return std::to_string(seconds / (365LL * 86400)) + "y";
}

std::string short_size(uint64_t bytes) {
  if (bytes < 1024) return std::to_string(bytes);
  static constexpr char units[] = "KMGTPE";
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  for (value /= 1024; value >= 999.5 && unit + 2 < sizeof units; value /= 1024) ++unit;
  char text[32];
  snprintf(text, sizeof text, value < 9.95 ? "%.1f%c" : "%.0f%c", value, units[unit]);
  return text;
}

}  // namespace gq
