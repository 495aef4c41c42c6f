// A directory that is opened once; everything below it is reached through its descriptor. So changes to its path make
// no difference.
//
// Below it, at any depth, only regular files and directories are opened, and only if they belong to the directory's
// owner, to root, or to the user that this process runs as. No link is followed. The path that leads to the directory
// may hold links.
//
// A name is that of an entry of this directory; a name with a slash is not opened.
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
  // file system is not a network file system. All that is checked before anything in it is read. `create` makes it if
  // it is missing. Without `link`, the last step of the path must not be a link. Throws Error(config).
  static Directory of_store(const std::string& path, bool create, bool link = true);

  // The path by which it was opened: for messages, and for programs that must find it.
  const std::string& path() const { return m_path; }
  std::string path_of(const std::string& name) const { return m_path + "/" + name; }
  int fd() const { return m_fd->get(); }
  // The same directory, but each file and directory of this user below it loses the permissions of other users (0600,
  // 0700) when it is opened.
  Directory kept_private() const;
  // Its device, its inode and its creation time, which the maker of an archive cannot choose. Empty if the file system
  // does not tell the creation time.
  std::string identity() const;
  // Identifies the boot of the machine, and the mount through which the directory is reached. While it is the same,
  // what was written to its files can be read, synced or not. Empty if the kernel does not tell it (Linux before 6.8).
  std::string mount_identity() const;
  // When an entry was created, to the nanosecond. Empty if there is no entry, or if the file system does not tell that.
  std::string made_at(const std::string& name) const;
  bool belongs_to(uid_t user) const { return m_owner == user; }

  // Opens a file. Throws Error(code) if that fails. If the file must not be opened, throws Error(config), or
  // Error(code) if `code` is not storage. With O_CREAT the file has mode 0600.
  Fd open(const std::string& name, int flags, Exit code = Exit::storage) const;
  // The same, but returns an empty Fd if there is no such file.
  Fd find(const std::string& name, int flags) const;
  // The same, but returns an empty Fd and sets errno also if the file cannot or must not be opened.
  Fd try_open(const std::string& name, int flags) const;

  // A directory below this one; the path starts here and may have several steps.
  Directory below(const std::string& path, Exit code = Exit::storage) const;
  std::optional<Directory> find_below(const std::string& name) const;
  std::optional<Directory> try_below(const std::string& name) const;
  // A directory that may be another user's: the files in it must then belong to that user.
  Directory below_of_any(const std::string& name, Exit code) const;
  // Makes the directory (mode 0700) if it is missing, and syncs its name.
  Directory make_below(const std::string& name) const;

  // stat of an entry itself, even if it is a link; false and errno if there is none.
  bool look_at(const std::string& name, struct stat& st) const;
  bool has(const std::string& name) const;
  // Whether this name is still, or again, that of the open file.
  bool is(int fd, const std::string& name) const;
  // Whether this is a file that may be opened.
  bool trusts(const struct stat& st) const;
  // Whether other users can reach its entries, as far as its own mode says.
  bool lets_in_others() const;

  // As unlink(2), rename(2) and link(2): false and errno on failure.
  bool remove(const std::string& name) const;
  bool rename(const std::string& from, const std::string& to) const { return rename(from, *this, to); }
  bool rename(const std::string& from, const Directory& target, const std::string& to) const;
  // Leaves an existing target: false and EEXIST.
  bool rename_new(const std::string& from, const Directory& target, const std::string& to) const;
  // Links only a file that may be opened: else false and EPERM.
  bool link(const std::string& from, const Directory& target, const std::string& to) const;
  // Removes an entry with everything in it; no link is followed. Throws Error(storage), also if directories are nested
  // deeper than `levels`, which those of gq never are: each level takes a descriptor meanwhile.
  void remove_tree(const std::string& name, int levels = 8) const;
  // Sets the times of an entry to now.
  void touch(const std::string& name) const;

  // The names in it, except . and .., in no order.
  std::vector<std::string> names() const;

  // fsync(2), so that names made in it survive a power cut.
  void sync() const;
  void sync_parent() const;

  // Writes `content` to a file of this name. After a crash either the old or the new file is there, complete: temporary
  // file, fsync, rename, sync(). If `replace` is false, an existing file is left and false is returned.
  bool publish(const std::string& name, std::string_view content, bool replace) const;

  // A path for a library that opens files by path. If there is a /proc, changes to the directory's own path make no
  // difference. But the library would follow a link: call look_at() and trusts() before, and is() after.
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
