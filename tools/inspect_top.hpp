// gq-inspect top: a view of a store that is refreshed each second. It takes samples and draws what TopModel returns.
#pragma once

#include "gq/store/queue.hpp"
#include "terminal.hpp"

namespace gq {

Exit top(const View& view, const std::string& name, Queue& store);

// Gives the terminal back, before a signal ends the program. Any thread may call it.
void leave_screen();

}  // namespace gq
