#include "gq/base/short_hold.hpp"

#include <cstdio>
#include <cstdlib>
#include <utility>

namespace gq {
namespace {

thread_local Holds mine;

}  // namespace

ShortHold::ShortHold() { ++mine.holds; }
ShortHold::~ShortHold() { --mine.holds; }
bool ShortHold::is_held() { return mine.holds > 0; }

LongWorkInHold::LongWorkInHold() { ++mine.exceptions; }
LongWorkInHold::~LongWorkInHold() { --mine.exceptions; }

Holds exchange_holds(Holds other) { return std::exchange(mine, other); }

void check_no_short_hold([[maybe_unused]] const char* what) {
#ifdef GQ_DEVELOPER
  if (mine.holds == 0 || mine.exceptions > 0) return;
  std::fprintf(stderr,
               "a bug: %s while this thread holds a lock that other processes wait for (gq/base/short_hold.hpp)\n",
               what);
  std::abort();
#endif
}

}  // namespace gq
