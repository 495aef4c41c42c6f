#include "notify.hpp"

#include <systemd/sd-daemon.h>

namespace gq {

void notify(const std::string& state) { ::sd_notify(0, state.c_str()); }

}  // namespace gq
