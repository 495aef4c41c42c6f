// A disk that forgets what was not synced, and the kernel above it, as far as gq uses them (disk.hpp).
//
// What is promised of it, and no more:
//  - Processes see at once what any of them wrote, and the entries of directories; a lock is freed when its holder
//  dies.
//  - After fsync or fdatasync of a file returned 0, its bytes and its size survive a power cut; after fsync of a
//    directory, the entries that it had. That is all.
//  - What was not synced may be there after a power cut or not: each page as it was at any write since, or torn between
//    two of them at a sector; the size as it was at any time since, so that zeros stand where a page is missing; each
//    change of a directory by itself (a rename is one), or all up to some point.
//  - The kernel may write back any page at any time. Where that fails, the page is clean from then on though the disk
//    does not have it: only descriptors of the file that are open at that moment get an error, each at its next sync.
//    Later such a page may be read as the disk has it.
//  - Any call may fail, and a write be short before it does. When the disk is full, only what was allocated can be
//    written.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "../simulate/random.hpp"
#include "gq/base/disk.hpp"

namespace simulate {

class SimulatedDisk {
 public:
  // One in so many; 0: never.
  struct Faults {
    unsigned calls = 0;        // calls that fail
    unsigned write_backs = 0;  // calls behind which the kernel writes something back
    unsigned losses = 0;       // pages that are lost when they are written back
    unsigned rereads = 0;      // clean pages at which the kernel looks that it reads anew from the disk
  };
  SimulatedDisk(size_t page_size, uint64_t seed);
  ~SimulatedDisk();

  // All processes have to have ended.
  void lose_power();
  void set_faults(const Faults& faults) { m_faults = faults; }
  void set_full(bool full) { m_full = full; }
  uint64_t losses() const { return m_losses; }  // pages that were lost so far
  // For people: what the disk itself has of each file.
  std::string to_text() const;

 private:
  friend class SimulatedProcess;
  struct Node;
  struct Open;
  using NodePtr = std::shared_ptr<Node>;

  bool happens(unsigned one_in) { return one_in > 0 && m_random.chance(one_in); }
  void write(Node& node, std::string_view bytes, uint64_t offset);
  void resize(Node& node, uint64_t size);
  void keep_page(Node& node, size_t page, const std::string& content);
  bool write_back(Node& node, size_t page);
  void write_some_back();
  void settle(Node& file);
  void settle_directory(Node& directory);
  std::string page_of(const std::string& bytes, size_t page) const;
  std::string any_of(const std::vector<std::string>& versions);

  const size_t m_page_size;
  Random m_random;
  Faults m_faults;
  bool m_full = false;
  uint64_t m_losses = 0, m_nodes = 0;
  NodePtr m_root;
  std::vector<std::weak_ptr<Node>> m_files;
  std::map<int, std::shared_ptr<Open>> m_open;
  int m_next;
};

// What a process has of the disk. It is dead once `runs` has returned false: each call fails then, and changes nothing,
// so that what the library does on its way out is of no effect.
class SimulatedProcess final : public gq::Disk {
 public:
  // Before each call `runs` is asked; `name` says which, for people.
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

  int openat(int directory, const char* name, int flags, mode_t mode) override;
  int close(int fd) override;
  ssize_t pread(int fd, void* buffer, size_t size, off_t offset) override;
  ssize_t pwrite(int fd, const void* data, size_t size, off_t offset) override;
  int ftruncate(int fd, off_t size) override;
  int fallocate(int fd, int mode, off_t offset, off_t size) override;
  int fsync(int fd) override;
  int fdatasync(int fd) override { return fsync(fd); }
  int renameat2(int from, const char* name, int to, const char* new_name, unsigned flags) override;
  int linkat(int from, const char* name, int to, const char* new_name, int flags) override;
  int unlinkat(int directory, const char* name, int flags) override;
  int mkdirat(int directory, const char* name, mode_t mode) override;
  int fstat(int fd, struct stat* st) override;
  int fstatat(int directory, const char* name, struct stat* st, int flags) override;
  int fstatfs(int fd, struct statfs* fs) override;
  int flock(int fd, int operation) override;
  int list(int directory, std::vector<std::string>& names) override;
  void wait(std::chrono::microseconds) override { m_kernel.wait(*this); }

 private:
  using Node = SimulatedDisk::Node;
  using Open = SimulatedDisk::Open;
  bool starts(const char* call, int fd, const std::string& more = {});
  Open* find(int fd) const;
  SimulatedDisk::NodePtr directory_of(int fd) const;
  int open_node(SimulatedDisk::NodePtr node, bool writes);

  SimulatedDisk& m_disk;
  Kernel& m_kernel;
  bool m_dead = false;
  std::set<int> m_own;
};

}  // namespace simulate
