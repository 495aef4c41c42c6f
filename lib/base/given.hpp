// Opens paths that a user gives. A path may contain links. gq first opens the file, and then decides by the open file,
// not by the path, whether it accepts it: by its kind, its owner and its mode.
//
// The surprising fact: open(2) itself may wait: for the other side of a FIFO, or until another process gives up a file
// lease (fcntl(2)). A program that has blocked its signals cannot be stopped during this wait. So these functions open
// with O_NONBLOCK, and remove that flag afterwards.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "gq/base/fd.hpp"

namespace gq {

// How long a program waits for the end of a FIFO that it reads when it starts.
inline constexpr Millis start_patience{5'000};

enum Kinds : unsigned {
  regular_file = 1,
  fifo = 2,
  device = 4,  // a character device such as /dev/null
  // A descriptor that this program inherited, of any kind: /dev/stderr, /dev/fd/N, or a link to one of these.
  inherited = 8,
  other_kind = 16,
  null_device = 32,
  anything = 63,
};

// Opens a file of one of these kinds. Throws Error with `code` if that fails, or if the file is of another kind. A FIFO
// may have no writer yet: then poll(2) waits, and read(2) returns the end of the file. `is_inherited` is set to whether
// the path named a descriptor of this process; looking at the path later does not show this, as the path may lead
// elsewhere by then. Does not open a file for writing through a link of another user.
Fd open_given(const std::string& path, int flags, unsigned kinds, Exit code, mode_t mode = 0,
              bool* is_inherited = nullptr);

// Returns why this process does not use a file of `owner`, for messages: "it belongs to user 1000 (you are root)".
std::string owner_problem(uid_t owner);

// Throws Error(config) if a path ends in a link that belongs neither to this user nor to root: the owner of such a link
// could choose which file this program opens with this user's rights.
void check_link(const std::string& path);

// Call it after the open. Checks the link again, so that a link that was there only for a moment has no effect. Throws
// as check_link(), and Error(retry) if the path now leads to another file.
void check_reached(int fd, const std::string& path);

// Throws Error(config) unless the open file belongs to this user or to root, and its mode has none of the bits
// `forbidden`. `cure` is a command that mends the mode, for the message. If root owns the file and this process does
// not run as root, the group may read it, as with a service's credentials. Files in /proc and pipes are always
// refused: another process decides what they contain.
void check_trusted(int fd, const std::string& path, mode_t forbidden, const std::string& cure);

}  // namespace gq
