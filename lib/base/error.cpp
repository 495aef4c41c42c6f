#include "gq/base/error.hpp"

#include <cerrno>
#include <cstring>

namespace gq {

std::string errno_text(int error_number) {
  char buffer[128];
  return strerror_r(error_number, buffer, sizeof buffer);
}

void throw_errno(Exit code, const std::string& what) {
  int saved = errno;
  throw Error(code, "cannot " + what + ": " + errno_text(saved), saved);
}

bool is_disk_full(int error_number) { return error_number == ENOSPC || error_number == EDQUOT; }

}  // namespace gq
