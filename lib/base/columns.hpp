// Tables for terminals: aligned columns within the width of the terminal, and short forms of times and sizes; pure.
// Makes each text printable (text.hpp) before it measures it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "gq/base/clock.hpp"

namespace gq {

enum class Colour : uint8_t { none, red, yellow, green, dim };

struct Cell {
  std::string text{};
  Colour colour = Colour::none;
};

struct Column {
  std::string title;
  bool is_number = false;  // aligned to the right
  size_t least = 0;        // the column may be cut to this width to fit into the terminal; 0: it is never cut
  int rank = 0;            // if cutting is not enough, the columns with the highest rank are left out first; 0: never
};

// How many columns of a terminal a text takes: wide characters take two, combining ones none.
size_t width_of(std::string_view text);
// Returns a text of at most `width` columns. A text that is cut ends with "…".
std::string cut_to(std::string_view text, size_t width);
// Returns a text of exactly `width` columns, cut or padded with spaces.
std::string padded_to(std::string_view text, size_t width, bool to_the_right = false);
// Returns the escape sequences around a text, or only the text for Colour::none.
std::string coloured(const std::string& text, Colour colour);

// A table that is printed page by page, so that it can have any number of rows. Each page fits the columns to its rows;
// no column becomes narrower than on an earlier page, unless the table would not fit into the terminal. A column that
// is empty on all pages so far is left out. The titles are printed first, and again if a column comes up later.
class TextTable {
 public:
  using Row = std::vector<Cell>;  // as many cells as there are columns
  // `width` is that of the terminal; 0: no limit.
  TextTable(std::vector<Column> columns, size_t width, bool has_colour);
  // Returns the lines of a page, each with its newline.
  std::string page(const std::vector<Row>& rows);

 private:
  std::vector<size_t> fitted() const;
  bool cut(std::vector<size_t>& widths) const;

  const std::vector<Column> m_columns;
  const size_t m_width;
  const bool m_has_colour;
  std::vector<size_t> m_widths;  // of the widest text so far; 0: the column was always empty
};

// "45s", "3m", "5h", "12d", "3y": the largest unit of which there are at least two, rounded down.
std::string short_duration(Millis duration);
// "512", "1.5K", "24M": bytes, in powers of 1024, with three digits or less before the unit.
std::string short_size(uint64_t bytes);

}  // namespace gq
