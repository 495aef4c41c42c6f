#include "gq/base/notify.hpp"

#include <systemd/sd-daemon.h>

#include <map>
#include <set>

#include "gq/base/mutex.hpp"
#include "gq/base/text.hpp"

namespace gq {
namespace {

struct Status {
  Mutex mutex;
  std::string text GUARDED_BY(mutex), sent GUARDED_BY(mutex);
  std::map<std::string, std::string> troubles GUARDED_BY(mutex);

  std::string with(const std::string& state) const REQUIRES(mutex) {
    std::string all = state;
    std::set<std::string> named;
    for (const auto& [what, reason] : troubles)
      if (named.insert(reason).second) all += "; " + reason;
    return all;
  }
  void tell() REQUIRES(mutex) {
    if (std::string all = with(text); !text.empty() && all != sent) notify("STATUS=" + (sent = all));
  }
};

Status& status() {
  static Status s;
  return s;
}

}  // namespace

// printable() replaces line feeds: a line feed in the text would begin another variable.
void notify(const std::string& state) { ::sd_notify(0, printable(state, any_length).c_str()); }

void set_status(const std::string& text) {
  MutexLock guard(status().mutex);
  status().text = text;
  status().tell();
}

std::string with_troubles(const std::string& text) {
  MutexLock guard(status().mutex);
  return status().with(text);
}

bool begin_trouble(const std::string& what, const std::string& reason) {
  MutexLock guard(status().mutex);
  bool begins = status().troubles.insert_or_assign(what, reason).second;
  status().tell();
  return begins;
}

bool end_trouble(const std::string& what) {
  MutexLock guard(status().mutex);
  bool there = status().troubles.erase(what) > 0;
  if (there) status().tell();
  return there;
}

}  // namespace gq
