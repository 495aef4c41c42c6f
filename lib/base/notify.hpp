// Telling systemd(1), or whoever set NOTIFY_SOCKET, how a daemon is; see sd_notify(3). And what is wrong with it now,
// from all of its threads: each trouble is said when it begins and when it is over, and stands in the status meanwhile.
#pragma once

#include <string>

namespace gq {

// "READY=1", "STOPPING=1". Does nothing where nobody asked.
void notify(const std::string& state);

// What it is doing; the troubles that there are stand behind it.
void set_status(const std::string& text);
std::string with_troubles(const std::string& text);

// Trouble with `what` has begun, or goes on, and this is the reason; true where it begins: the caller says so.
bool begin_trouble(const std::string& what, const std::string& reason);
// It is over; true where there was any.
bool end_trouble(const std::string& what);

}  // namespace gq
