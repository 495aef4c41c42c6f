#include "gq/base/short_hold.hpp"

#include <cstdio>
#include <cstdlib>

namespace gq {
namespace {

thread_local int holds = 0, exceptions = 0;

}  // namespace

ShortHold::ShortHold() { ++holds; }
ShortHold::~ShortHold() { --holds; }
bool ShortHold::is_held() { return holds > 0; }

LongWorkInHold::LongWorkInHold() { ++exceptions; }
LongWorkInHold::~LongWorkInHold() { --exceptions; }

void check_no_short_hold([[maybe_unused]] const char* what) {
#ifdef GQ_DEVELOPER
  if (holds == 0 || exceptions > 0) return;
  std::fprintf(stderr,
               "a bug: %s while this thread holds a lock that other processes wait for (gq/base/short_hold.hpp)\n",
               what);
  std::abort();
#endif
}

}  // namespace gq
