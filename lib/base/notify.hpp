// Tells systemd(1), or any program that set NOTIFY_SOCKET, the state of a daemon; see sd_notify(3). Also collects the
// present troubles of all threads: a trouble is logged when it begins and when it ends, and is part of the status
// meanwhile.
#pragma once

#include <string>

namespace gq {

// Sends a state such as "READY=1" or "STOPPING=1". Does nothing without NOTIFY_SOCKET.
void notify(const std::string& state);

// Sends what the daemon is doing, followed by the present troubles.
void set_status(const std::string& text);
std::string with_troubles(const std::string& text);

// Reports that there is trouble with `what`, for this reason. Returns true if the trouble is new: the caller then logs
// it.
bool begin_trouble(const std::string& what, const std::string& reason);
// Reports that there is no trouble with `what` any more. Returns true if there was any.
bool end_trouble(const std::string& what);

}  // namespace gq
