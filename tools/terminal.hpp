// How a program shows its results: as a table for people, on a terminal; or as lines for other programs.
#pragma once

#include <cstddef>
#include <string>

#include "gq/base/clock.hpp"

namespace gq {

// A job that could have started so long ago is late, and a node that has been owed a job for so long.
inline constexpr Millis late_after{10 * 60'000};

struct View {
  bool is_table = false;
  bool has_colour = false;
  size_t width = 0;  // of the terminal, in columns; 0: no limit
};

// Returns how to write to standard output. `colour` is the user's choice: auto, always or never. With `always` another
// program that shows colours reads the output: it gets a table, too.
View view_of_output(const std::string& colour);

}  // namespace gq
