// A simulated disk that may lose what was not synced, with the part of the kernel above it that gq uses (disk.hpp).
//
// It behaves as follows:
//  - A process sees at once all bytes that any process has written, and each change of a directory. A lock is released
//    when the process that holds it dies.
//  - After fsync or fdatasync of a file has returned 0, the file's bytes and size survive a power cut. After fsync of a
//    directory, its entries survive. Nothing else is guaranteed.
//  - What was not synced may survive a power cut or be lost. A page may be as it was after any write since the last
//    sync, or torn between two of these at a sector. The size may be any size since the last sync, with zeros where a
//    page is missing. Of the changes of a directory, either an arbitrary subset survives, or all changes up to some
//    moment. A rename is one change.
//  - The kernel may write back any page at any time. If that fails, the page is clean from then on, although the disk
//    does not have it. Only descriptors of the file that are open at that moment report an error, each at its next
//    sync. If none has reported it yet, one that is opened later does, unless the kernel forgets errors (as Linux does
//    when it drops a file from memory). Later the kernel may read such a page again from the disk, with its old
//    content.
//  - A directory at the top may be another file system: files cannot be linked or moved to it, and it is synced alone.
//  - Any call may fail, more often after one that has failed, but no more than two in a row. A write may write a part
//    before it fails, often one that ends among the bytes that the write changes. When the disk is full, a process can
//    write only to space that is already allocated, or that another file has freed.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "../simulate/random.hpp"
#include "gq/base/disk.hpp"

namespace simulate {

constexpr size_t sector = 64;  // bytes that are written whole or not at all; real disks: 512 or more

class SimulatedDisk {
 public:
  // A fault happens at random: on average once in this many cases; 0: never.
  struct Faults {
    unsigned calls = 0;        // calls that fail
    unsigned overwrites = 0;   // writes over other bytes that fail
    unsigned write_backs = 0;  // calls at which the kernel writes back a page
    unsigned losses = 0;       // write-backs that fail and lose the page
    unsigned rereads = 0;      // clean pages that the kernel reads again from disk
  };
  SimulatedDisk(size_t page_size, uint64_t seed);
  ~SimulatedDisk();

  // Cuts the power. All processes must have ended.
  void lose_power();
  // Another disk takes its place, which is empty; a file system of its own (set_apart()) stays. All processes must have
  // ended.
  void lose_all();
  void set_faults(const Faults& faults) { m_faults = faults; }
  void set_size(uint64_t size) { m_size = m_capacity = size; }
  // Full: other programs have taken all space that was free.
  void set_full(bool full) { m_capacity = full ? used() : m_size; }
  // Makes a directory at the top, when it is created, another file system with the same space.
  void set_apart(const std::string& directory) { m_apart = directory; }
  void set_forgets_errors(bool forgets) { m_forgets_errors = forgets; }
  uint64_t losses() const { return m_losses; }      // pages lost so far
  bool has_failed() const { return m_failed > 0; }  // the last call has
  // Returns a text for logs: the files, and how many bytes of each the disk has.
  std::string to_text() const;

 private:
  friend class SimulatedProcess;
  struct Node;
  struct Open;
  using NodePtr = std::shared_ptr<Node>;

  bool fails();
  bool fails_over(const Node& node, uint64_t offset);
  bool happens(unsigned one_in) { return one_in > 0 && m_random.chance(one_in); }
  static constexpr uint64_t endless = UINT64_MAX;
  uint64_t rounded(uint64_t size) const { return (size + m_page_size - 1) / m_page_size * m_page_size; }
  uint64_t taken(const Node& node) const;
  uint64_t used() const;
  uint64_t free_space() const { return m_capacity == endless ? endless : m_capacity - std::min(m_capacity, used()); }
  void touch(Node& node);
  void sync(Node& node, bool& whole);
  void sync_directory(Node& node);
  void write(Node& node, std::string_view bytes, uint64_t offset);
  size_t any_part(const Node& node, std::string_view bytes, uint64_t offset);
  void resize(Node& node, uint64_t size);
  void keep_page(Node& node, size_t page, const std::string& content);
  bool write_back(Node& node, size_t page);
  void write_some_back();
  void release(int fd);  // closes the descriptor, and releases its lock
  void settle(Node& file);
  void settle_directory(Node& directory);
  std::string page_of(const std::string& bytes, size_t page) const;
  std::string any_of(const std::vector<std::string>& versions);

  const size_t m_page_size;
  Random m_random;
  Faults m_faults;
  bool m_forgets_errors = false;
  unsigned m_failed = 0;  // how many calls have failed in a row
  uint64_t m_size = endless, m_capacity = endless;
  std::string m_apart;
  uint64_t m_losses = 0, m_nodes = 0, m_boots = 0;
  uint64_t m_time = 1;  // of the last change
  NodePtr m_root;
  std::vector<std::weak_ptr<Node>> m_files;
  std::map<int, std::shared_ptr<Open>> m_open;
  int m_next;
};

// The calls of one process to the disk. The process is dead once `runs` has returned false. From then on each call
// fails and changes nothing, so the library's cleanup has no effect.
class SimulatedProcess final : public gq::Disk {
 public:
  // `runs` is called before each call: false kills the process. `call` and `what` describe the call for the log.
  class Kernel {
   public:
    virtual ~Kernel() = default;
    virtual bool runs(SimulatedProcess& process, const char* call, const std::string& what) = 0;
    virtual void wait(SimulatedProcess& process) = 0;
  };
  SimulatedProcess(SimulatedDisk& all, Kernel& above) : m_disk(all), m_kernel(above) {}
  ~SimulatedProcess() override { die(); }
  void die();
  bool is_dead() const { return m_dead; }
  // Called before a call that is not one of the disk. False: the process is dead.
  bool goes_on(const char* call, const std::string& what);

  int openat(int directory, const char* name, int flags, mode_t mode) override;
  int close(int fd) override;
  ssize_t pread(int fd, void* buffer, size_t size, off_t offset) override;
  ssize_t pwrite(int fd, const void* data, size_t size, off_t offset) override;
  int ftruncate(int fd, off_t size) override;
  int fallocate(int fd, int mode, off_t offset, off_t size) override;
  int fsync(int fd) override;
  int fdatasync(int fd) override { return fsync(fd); }
  int renameat2(int from, const char* name, int to, const char* new_name, unsigned flags) override;
  int clone(int to, int from) override;
  int linkat(int from, const char* name, int to, const char* new_name, int flags) override;
  int unlinkat(int directory, const char* name, int flags) override;
  int mkdirat(int directory, const char* name, mode_t mode) override;
  int fstat(int fd, struct stat* st) override;
  int fstatat(int directory, const char* name, struct stat* st, int flags) override;
  int statx(int directory, const char* name, int flags, unsigned mask, struct statx* st) override;
  int fstatfs(int fd, struct statfs* fs) override;
  int syncfs(int fd) override;
  int futimens(int fd) override;
  int utimensat(int directory, const char* name, int flags) override;
  int flock(int fd, int operation) override;
  int list(int directory, std::vector<std::string>& names) override;
  void wait(std::chrono::microseconds) override { m_kernel.wait(*this); }

 private:
  using Node = SimulatedDisk::Node;
  using Open = SimulatedDisk::Open;
  bool starts(const char* call, int fd, const std::string& more = {});
  Open* find(int fd) const;
  SimulatedDisk::NodePtr directory_of(int fd) const;
  // The directory that has a path's last step, and that step; null and errno if there is none.
  SimulatedDisk::NodePtr walk(int fd, const std::string& path, std::string& leaf) const;
  SimulatedDisk::NodePtr find_node(int fd, const std::string& path) const;
  int open_node(SimulatedDisk::NodePtr node, bool writes);

  SimulatedDisk& m_disk;
  Kernel& m_kernel;
  bool m_dead = false;
  std::set<int> m_own;
};

}  // namespace simulate
