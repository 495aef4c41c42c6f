// Error is the one exception type, for failures that no caller plans for. It carries the exit code of the program.
//
// A result that a caller plans for is a value (optional, enum, result struct), never an Error. The text is one sentence
// without a final stop, "cannot VERB OBJECT: reason", ready to follow the program's name.
#pragma once

#include <stdexcept>
#include <string>

namespace gq {

// The exit codes of every gq program, as in each manual page (64 and above follow sysexits.h).
enum class Exit : int {
  ok = 0,
  no = 1,            // the program asked a question, and the answer is no
  usage = 64,        // EX_USAGE
  bad_data = 65,     // EX_DATAERR
  no_input = 66,     // EX_NOINPUT
  unavailable = 69,  // EX_UNAVAILABLE: no server
  bug = 70,          // EX_SOFTWARE
  storage = 74,      // EX_IOERR
  retry = 75,        // EX_TEMPFAIL: locked, busy, or outcome unknown
  config = 78,       // EX_CONFIG
};

class Error : public std::runtime_error {
 public:
  Error(Exit code, const std::string& what, int error_number = 0)
      : std::runtime_error(what), m_code(code), m_errno(error_number) {}
  Exit code() const { return m_code; }
  // The errno that caused the failure, or 0.
  int error_number() const { return m_errno; }

 private:
  Exit m_code;
  int m_errno;
};

// Throws Error(code, "cannot <what>: <strerror(errno)>").
[[noreturn]] void throw_errno(Exit code, const std::string& what);

// Returns the text of an errno. Thread-safe.
std::string errno_text(int error_number);

// True for errors that mean "no room": ENOSPC, EDQUOT.
bool is_disk_full(int error_number);

}  // namespace gq
