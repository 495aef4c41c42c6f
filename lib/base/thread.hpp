// Starts a thread, and reports failure as an Error.
#pragma once

#include <functional>
#include <system_error>
#include <thread>

#include "gq/base/error.hpp"

namespace gq {

// Throws Error(retry) if no thread can be started.
inline std::thread start_thread(std::function<void()> body) {
  try {
    return std::thread(std::move(body));
  } catch (const std::system_error& e) {
    throw Error(Exit::retry, "cannot start a thread: " + errno_text(e.code().value()));
  }
}

}  // namespace gq
