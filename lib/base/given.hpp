// Paths that a person gives. They may hold links; what they lead to decides, as the open descriptor shows it: its kind,
// its owner, its mode.
//
// The surprising fact: open(2) itself may wait, for the other side of a FIFO or for a process that has to give up a
// lease, and a program that has blocked its signals does not end then. So everything is opened with O_NONBLOCK, which
// is taken away again.
#pragma once

#include <optional>
#include <string>

#include "gq/base/fd.hpp"

namespace gq {

// How long the end of a FIFO may be awaited that is read at the start.
inline constexpr Millis start_patience{5'000};

enum Kinds : unsigned {
  regular_file = 1,
  fifo = 2,
  device = 4,  // one of characters, as /dev/null
  inherited =
      8,  // whatever a descriptor is that this program was started with: /dev/stderr, /dev/fd/N, or a link to them
  other_kind = 16,
  null_device = 32,
  anything = 63,
};

// Opens a file that is one of these kinds; throws Error with `code` where it cannot, or where it is of another kind. A
// FIFO may have no writer yet; until it has, poll(2) waits and read(2) finds its end. `is_inherited` tells whether it
// is a descriptor of this process, which the path alone does not tell: it may be another one by then. Nothing is opened
// for writing through a link of another user.
Fd open_given(const std::string& path, int flags, unsigned kinds, Exit code, mode_t mode = 0,
              bool* is_inherited = nullptr);

// Throws Error(config) where a path ends in a link of another user's than this one or root: that could choose what this
// user's rights are used on.
void check_link(const std::string& path);

// Behind an open: the same again, so that no link counts that was there for a moment. Throws Error(retry), too, where
// the path leads elsewhere by now.
void check_reached(int fd, const std::string& path);

// Throws Error(config) unless what is open belongs to this user or to root, and has none of the bits `forbidden` in its
// mode. `cure` is a command for the latter. The group of what root gave to another user may read it, as of a service's
// credentials. What only shows another process, in /proc, or is a pipe of one, says what that process likes, whoever
// owns it.
void check_trusted(int fd, const std::string& path, mode_t forbidden, const std::string& cure);

}  // namespace gq
