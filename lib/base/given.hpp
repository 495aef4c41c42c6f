// Paths that a user gives. They may hold links. Whether the target is accepted depends on the open descriptor: its
// kind, its owner, its mode.
//
// The surprising fact: open(2) itself may wait, for the other side of a FIFO or for a process that must give up a
// lease, and a program that has blocked its signals cannot be stopped then. So everything is opened with O_NONBLOCK,
// which is removed afterwards.
#pragma once

#include <optional>
#include <string>

#include "gq/base/fd.hpp"

namespace gq {

// How long to wait for the end of a FIFO that is read at the start.
inline constexpr Millis start_patience{5'000};

enum Kinds : unsigned {
  regular_file = 1,
  fifo = 2,
  device = 4,  // a character device, as /dev/null
  // Any descriptor that this program was started with: /dev/stderr, /dev/fd/N, or a link to them.
  inherited = 8,
  other_kind = 16,
  null_device = 32,
  anything = 63,
};

// Opens a file that is one of these kinds. Throws Error with `code` if that fails, or if the file is of another kind. A
// FIFO may have no writer yet: then poll(2) waits, and read(2) returns its end. `is_inherited` tells whether the file
// is a descriptor of this process; the path alone does not tell that, as it may lead elsewhere by then. Nothing is
// opened for writing through a link of another user.
Fd open_given(const std::string& path, int flags, unsigned kinds, Exit code, mode_t mode = 0,
              bool* is_inherited = nullptr);

// Throws Error(config) if a path ends in a link that belongs neither to this user nor to root: the owner of the link
// could choose on which file this user's rights are used.
void check_link(const std::string& path);

// Call it after opening. It checks the link again, so that a link that was there only for a moment has no effect.
// Throws Error(retry), too, if the path leads to another file by now.
void check_reached(int fd, const std::string& path);

// Throws Error(config) unless the open file belongs to this user or to root, and its mode has none of the bits
// `forbidden`. `cure` is a command that mends the mode. If root gave the file to another user, the group may read it,
// as with a service's credentials. A file in /proc and a pipe are refused for every owner: another process decides
// what they say.
void check_trusted(int fd, const std::string& path, mode_t forbidden, const std::string& cure);

}  // namespace gq
