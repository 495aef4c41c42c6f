#include "log.hpp"

namespace gq {
namespace {

LogSink& sink() {
  static LogSink s;
  return s;
}

}  // namespace

void set_log_sink(LogSink s) { sink() = std::move(s); }

void log(Level level, const std::string& text) {
  if (sink()) sink()(level, text);
}

}  // namespace gq
