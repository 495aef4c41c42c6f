// Tells systemd(1), or any program that set NOTIFY_SOCKET, the state of a daemon; see sd_notify(3). Also collects the
// present troubles of all threads: each trouble is logged when it begins and when it ends, and the status shows it
// meanwhile.
#pragma once

#include <string>

namespace gq {

// "READY=1", "STOPPING=1". Does nothing without NOTIFY_SOCKET.
void notify(const std::string& state);

// What the daemon is doing; the present troubles are appended.
void set_status(const std::string& text);
std::string with_troubles(const std::string& text);

// Trouble with `what` has begun, or goes on, for this reason. True if it begins: the caller then logs it.
bool begin_trouble(const std::string& what, const std::string& reason);
// The trouble is over; true if there was any.
bool end_trouble(const std::string& what);

}  // namespace gq
