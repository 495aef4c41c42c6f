// A directory that is opened once, and everything below it through its descriptor: what becomes of its path meanwhile
// changes nothing.
//
// Below it, at any depth, only regular files and directories are opened that belong to the directory's owner, to root,
// or to the user that this process runs as; no link is followed. The path that leads to it may hold links.
//
// A name is that of an entry of this directory: one with a slash in it is not opened.
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

  // That of a store: the user that this process runs as owns it, no other user can write to it, and its file system is
  // no network's; these are known before anything in it is looked at. With `create` it is made where it is
  // missing. Without `link` the path's last step must not be one. Throws Error(config).
  static Directory of_store(const std::string& path, bool create, bool link = true);

  // The path that it was opened by: for messages, and for programs that are to find it.
  const std::string& path() const { return m_path; }
  std::string path_of(const std::string& name) const { return m_path + "/" + name; }
  int fd() const { return m_fd->get(); }
  // The same, but each file (0600) and directory (0700) of this user below it loses what others may do with it when it
  // is opened.
  Directory kept_private() const;
  // Its device, its inode and the time at which it was made. The maker of an archive cannot choose that time. Empty
  // where the file system does not tell it.
  std::string identity() const;
  // Of the machine's start, and of the mount that it is reached through. While it is the same, what was written to its
  // files can be read, synced or not. Empty where the kernel does not tell it (Linux before 6.8).
  std::string mount_identity() const;
  // When an entry was made, to the nanosecond. Empty where there is none, or the file system does not tell that.
  std::string made_at(const std::string& name) const;
  bool belongs_to(uid_t user) const { return m_owner == user; }

  // Opens a file; throws Error(code) where it cannot, and Error(config), or that of a `code` that is not storage, where
  // it is not to be opened. With O_CREAT it has mode 0600.
  Fd open(const std::string& name, int flags, Exit code = Exit::storage) const;
  // The same, but empty where there is none.
  Fd find(const std::string& name, int flags) const;
  // The same, but empty and errno also where it cannot or must not be opened.
  Fd try_open(const std::string& name, int flags) const;

  // A directory in this one, whose path is given from here and may have several steps.
  Directory below(const std::string& path, Exit code = Exit::storage) const;
  std::optional<Directory> find_below(const std::string& name) const;
  std::optional<Directory> try_below(const std::string& name) const;
  // One that may be another user's: then what is in that has to be his.
  Directory below_of_any(const std::string& name, Exit code) const;
  // It is made where it is missing, mode 0700, and then its name has been synced.
  Directory make_below(const std::string& name) const;

  // As of an entry itself, also of a link; false and errno where there is none.
  bool look_at(const std::string& name, struct stat& st) const;
  bool has(const std::string& name) const;
  // Whether this name is still, or again, that of the open file.
  bool is(int fd, const std::string& name) const;
  // Whether that is a file to be opened.
  bool trusts(const struct stat& st) const;
  // Whether others can come to what is in it, as far as its own mode says.
  bool lets_in_others() const;

  // As unlink(2), rename(2) and link(2): false and errno.
  bool remove(const std::string& name) const;
  bool rename(const std::string& from, const std::string& to) const { return rename(from, *this, to); }
  bool rename(const std::string& from, const Directory& target, const std::string& to) const;
  // What has the name already is left: EEXIST.
  bool rename_new(const std::string& from, const Directory& target, const std::string& to) const;
  // What it leads to is a file that may be opened, or the link is not made: EPERM.
  bool link(const std::string& from, const Directory& target, const std::string& to) const;
  // Removes an entry with all that is in it; no link is followed. Throws Error(storage), also where directories stand
  // in each other that many levels deep, as those of gq do not: each takes a descriptor meanwhile.
  void remove_tree(const std::string& name, int levels = 8) const;
  // Gives an entry the date of now.
  void touch(const std::string& name) const;

  // The names in it, but . and .., in no order.
  std::vector<std::string> names() const;

  // fsync(2), so that names made in it survive a power cut.
  void sync() const;
  void sync_parent() const;

  // Puts `content` under a name so that a crash leaves the old file, or the new one, whole: temporary file, fsync,
  // rename, sync(). With `replace` false an existing file is left and false returned.
  bool publish(const std::string& name, std::string_view content, bool replace) const;

  // A path for a library that opens files by their path. The path that leads to the directory does not count in it,
  // where there is a /proc; but a link would be followed, so look_at() and trusts() go before, and is() behind.
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
