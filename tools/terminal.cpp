#include "terminal.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <string_view>

namespace gq {

View view_of_output(const std::string& colour) {
  const bool is_terminal = ::isatty(STDOUT_FILENO);
  View view;
  view.is_table = is_terminal || colour == "always";
  winsize size{};
  if (is_terminal && ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0) view.width = size.ws_col;
  const char *no_colour = std::getenv("NO_COLOR"), *kind = std::getenv("TERM");
  const bool is_wanted = !(no_colour && *no_colour) && !(kind && std::string_view(kind) == "dumb");
  view.has_colour = colour == "always" || (colour == "auto" && is_terminal && is_wanted);
  return view;
}

}  // namespace gq
