// Messages to the person who runs a program. The library never prints: it hands lines to the sink that the program
// installed before it started any thread; without one they are dropped.
#pragma once

#include <functional>
#include <string>

namespace gq {

enum class Level { error, warning, info, debug };

using LogSink = std::function<void(Level, const std::string&)>;

void set_log_sink(LogSink sink);
void log(Level level, const std::string& text);

}  // namespace gq
