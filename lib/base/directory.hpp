// A Directory is opened once, and everything below it is reached through its descriptor. So later changes to its path
// have no effect.
//
// Below it, at any depth, only regular files and directories are opened, and only if they belong to the directory's
// owner, to root, or to the user that this process runs as. No link is followed. The path that leads to the directory
// may hold links.
//
// A parameter `name` names an entry of this directory; a name with a slash is not opened.
#pragma once

#include <sys/stat.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gq/base/fd.hpp"

namespace gq {

class Directory {
 public:
  // Opens a directory of any owner. Throws Error(code).
  explicit Directory(const std::string& path, Exit code = Exit::storage);

  // Opens the directory of a store: the user that this process runs as owns it, no other user can write to it, and its
  // file system is not a network file system. This is checked before anything in the directory is read. If `create` is
  // true, a missing directory is created. If `link` is false, the last step of the path must not be a link. Throws
  // Error(config), or Error(storage) if the disk fails.
  static Directory of_store(const std::string& path, bool create, bool link = true);

  // The path by which the directory was opened: for messages, and for other programs.
  const std::string& path() const { return m_path; }
  std::string path_of(const std::string& name) const { return m_path + "/" + name; }
  int fd() const { return m_fd->get(); }
  // The same directory, but each file and directory of this user below it loses the permissions of other users (0600,
  // 0700) when it is opened.
  Directory kept_private() const;
  // Returns a text of the directory's device, inode and creation time. Unpacking an archive cannot set this creation
  // time. Empty if the file system does not report the creation time.
  std::string identity() const;
  // Identifies the boot of the machine, and the mount through which the directory is reached. While both stay the same,
  // everything that was written to the files can be read, synced or not. Empty if the kernel does not report the mount
  // (Linux before 6.8).
  std::string mount_identity() const;
  // Returns when an entry was created, to the nanosecond. Empty if there is no such entry, or if the file system does
  // not report the creation time.
  std::string made_at(const std::string& name) const;
  bool belongs_to(uid_t user) const { return m_owner == user; }

  // Opens a file. Throws Error(code) if that fails. If the file must not be opened, throws Error(config), or
  // Error(code) if `code` is not storage. With O_CREAT the file has mode 0600.
  Fd open(const std::string& name, int flags, Exit code = Exit::storage) const;
  // The same, but returns an empty Fd if there is no such file.
  Fd find(const std::string& name, int flags) const;
  // The same, but returns an empty Fd and sets errno also if the file cannot or must not be opened.
  Fd try_open(const std::string& name, int flags) const;

  // Opens a directory below this one. `path` starts at this directory and may have several steps.
  Directory below(const std::string& path, Exit code = Exit::storage) const;
  std::optional<Directory> find_below(const std::string& name) const;
  std::optional<Directory> try_below(const std::string& name) const;
  // Opens a directory below this one that may belong to another user; then the files in it must belong to that user.
  Directory below_of_any(const std::string& name, Exit code) const;
  // Opens a directory below this one; if it is missing, creates it (mode 0700) and syncs its name.
  Directory make_below(const std::string& name) const;

  // As lstat(2): reports on a link itself. False and errno if there is no such entry.
  bool look_at(const std::string& name, struct stat& st) const;
  bool has(const std::string& name) const;
  // Whether the entry `name` is the open file now.
  bool is(int fd, const std::string& name) const;
  // Whether a file with this stat may be opened.
  bool trusts(const struct stat& st) const;
  // Whether the directory's own mode lets other users reach its entries.
  bool lets_in_others() const;

  // As unlink(2), rename(2) and link(2): false and errno on failure.
  bool remove(const std::string& name) const;
  bool rename(const std::string& from, const std::string& to) const { return rename(from, *this, to); }
  bool rename(const std::string& from, const Directory& target, const std::string& to) const;
  // As rename(2), but does not replace an existing target: then false and EEXIST.
  bool rename_new(const std::string& from, const Directory& target, const std::string& to) const;
  // As link(2), but only for a file that may be opened; for any other, false and EPERM.
  bool link(const std::string& from, const Directory& target, const std::string& to) const;
  // Removes an entry with everything in it; no link is followed. Throws Error(storage), also if directories are nested
  // deeper than `levels`, because each level needs a descriptor. Directories that gq creates are never nested so deep.
  void remove_tree(const std::string& name, int levels = 8) const;
  // Sets the times of an entry to now.
  void touch(const std::string& name) const;

  // The names of the entries, except . and .., in no order.
  std::vector<std::string> names() const;

  // fsync(2), so that names made in it survive a power cut.
  void sync() const;
  void sync_parent() const;

  // Writes `content` to a file of this name: temporary file, fsync, rename, sync(). After a crash, either the old or
  // the new file is there, complete. If `replace` is false, an existing file stays unchanged, and the result is false.
  bool publish(const std::string& name, std::string_view content, bool replace) const;

  // Returns a path for a library that opens files by path. If /proc is mounted, changes to the directory's own path
  // have no effect on it. But the library follows a link: call look_at() and trusts() before, and is() afterwards.
  std::string reach(const std::string& name) const;

 private:
  Directory(std::string path, Fd fd, bool keeps_private = false);
  bool is_own(uid_t user) const;
  Fd open_checked(const std::string& name, int flags, const char*& why) const;
  std::optional<Directory> step(const std::string& name, bool of_any, const char*& why) const;
  [[noreturn]] void refuse(const std::string& name, const char* why, Exit code) const;

  std::string m_path;
  std::shared_ptr<const Fd> m_fd;
  uid_t m_owner = 0;
  bool m_keeps_private = false;
};

}  // namespace gq
