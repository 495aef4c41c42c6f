// Telling systemd(1), or whoever set NOTIFY_SOCKET, how a daemon is; see sd_notify(3).
#pragma once

#include <string>

namespace gq {

// "READY=1", "STOPPING=1", "STATUS=text". Does nothing where nobody asked.
void notify(const std::string& state);

}  // namespace gq
