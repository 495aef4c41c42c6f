#include "gq/store/owners.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "gq/base/disk.hpp"
#include "gq/base/text.hpp"
#include "gq/base/ulid.hpp"
#include "gq/state/job.hpp"

namespace gq {
namespace {

constexpr uint64_t longest_file = 1 << 20;

bool is_owner_name(const std::string& name) {
  return name.size() > ulid_size + 1 && is_ulid(name.substr(0, ulid_size)) && name[ulid_size] == '.' &&
         parse_count(name.substr(ulid_size + 1));
}

bool is_process(const std::string& owner) { return owner.substr(ulid_size) == ".0"; }

// Calls `visit` with the name of each owner's file until it returns false.
template <typename Visit>
void for_each_file(const Directory& directory, Visit visit) {
  // A file with an owner's name was locked before it got the name. A file with a temporary name may not be locked yet,
  // so it is skipped.
  for (const auto& name : directory.names())
    if (is_owner_name(name) && !visit(name)) return;
}

int64_t since_boot() {
  timespec t{};
  ::clock_gettime(CLOCK_BOOTTIME, &t);
  return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

std::string link_text(const char* path) {
  char text[256];
  ssize_t n = ::readlink(path, text, sizeof text);
  return n > 0 ? std::string(text, static_cast<size_t>(n)) : std::string();
}

const OwnerInfo& here() {
  static const OwnerInfo info = [] {
    OwnerInfo i;
    if (Fd fd = try_open("/proc/sys/kernel/random/boot_id", O_RDONLY))
      i.boot = read_file(fd.get(), longest_file, "the boot ID").value_or("");
    i.boot = i.boot.substr(0, i.boot.find('\n'));
    i.space = link_text("/proc/self/ns/pid");
    if (!i.space.empty()) i.space += link_text("/proc/self/ns/time");
    char name[256] = "";
    ::gethostname(name, sizeof name - 1);
    i.host = printable(name);
    return i;
  }();
  return info;
}

// Returns the path from the root; empty if there is none.
std::string absolute_path(const std::string& path) {
  if (path.starts_with('/')) return path;
  std::error_code error;
  const auto absolute = std::filesystem::absolute(path, error);
  return error ? std::string() : absolute.string();
}

// Returns the first line of a file. It is overwritten for each command, so it always has the same length.
std::string first_line(pid_t pid) {
  char line[64];
  snprintf(line, sizeof line, "pid %010d since %015lld\n", static_cast<int>(pid), static_cast<long long>(since_boot()));
  return line;
}

bool write_text(int fd, const std::string& text) {
  return disk().pwrite(fd, text.data(), text.size(), 0) == static_cast<ssize_t>(text.size());
}

// Returns the fields of /proc/PID/stat after the name: from the third field (the state) on.
std::vector<std::string> stat_of(const std::string& pid) {
  Fd fd = try_open("/proc/" + pid + "/stat", O_RDONLY);
  if (!fd) return {};
  try {
    std::string text = read_file(fd.get(), longest_file, "/proc").value_or("");
    size_t name_end = text.rfind(") ");
    if (name_end == std::string::npos) return {};
    return split(std::string_view(text).substr(name_end + 2), ' ');
  } catch (const Error&) {  // the process has ended just now
    return {};
  }
}

bool is_ended(const std::vector<std::string>& stat) { return stat[0] == "Z" || stat[0] == "X"; }

// Whether a process group has a process that is not a zombie.
bool has_living(pid_t group) {
  std::unique_ptr<DIR, int (*)(DIR*)> dir(opendir("/proc"), closedir);
  while (const dirent* entry = dir ? readdir(dir.get()) : nullptr) {
    if (!parse_count(entry->d_name)) continue;
    auto stat = stat_of(entry->d_name);
    if (stat.size() > 2 && stat[2] == std::to_string(group) && !is_ended(stat)) return true;
  }
  return false;
}

ProcessInfo look_at(pid_t pid) {
  ProcessInfo p;
  // EPERM shows that the process exists. A process that /proc does not show (hidepid) may be the command.
  auto answers = [](pid_t to) { return ::kill(to, 0) == 0 || errno != ESRCH; };
  p.has_group = answers(-pid);
  p.exists = answers(pid);
  if (auto stat = stat_of(std::to_string(pid)); stat.size() > 19) {
    p.ended = is_ended(stat);
    p.started = static_cast<int64_t>(parse_count(stat[19]).value_or(0)) * 1000 / ::sysconf(_SC_CLK_TCK);
    // If no process reaps orphans, the zombie of the command itself keeps the group in existence.
    if (p.ended && p.has_group) p.has_group = has_living(pid);
  }
  return p;
}

// The content of an owner's file, and whether a process holds its lock. read_owner() returns nullopt if there is no
// such file.
struct OwnerFile {
  bool locked = false;
  OwnerInfo info;
};
std::optional<OwnerFile> read_owner(const Directory& directory, const std::string& owner) {
  if (!is_owner_name(owner)) return std::nullopt;
  Fd fd = directory.find(owner, O_RDONLY);
  if (!fd) return std::nullopt;
  OwnerFile file;
  file.locked = !try_lock(fd.get(), FileLock::Mode::shared);
  file.info = parse_owner(read_file(fd.get(), longest_file, "an owner file").value_or(""));
  return file;
}

bool is_held(const Directory& directory, const std::string& owner, const OwnerFile& file) {
  if (is_process(owner)) return file.locked;
  auto process = read_owner(directory, owner_process(owner) + ".0");
  bool worker = process && process->locked;
  return is_held(file.locked, worker, file.info, here(),
                 worker || !file.locked || file.info.pid <= 0 ? ProcessInfo{} : look_at(file.info.pid));
}

}  // namespace

bool is_held(bool locked, bool worker, const OwnerInfo& file, const OwnerInfo& here, const ProcessInfo& command) {
  if (worker || !locked) return worker;
  if (file.pid <= 0 || here.boot.empty() || here.space.empty() || file.boot != here.boot || file.space != here.space)
    return true;
  // If a process that started later has the number, the number was free before, so the command's group was empty.
  if (command.exists && command.started > file.since) return false;
  return (command.exists && !command.ended) || command.has_group;
}

OwnerInfo parse_owner(const std::string& text) {
  OwnerInfo info;
  for (const auto& line : split(text, '\n')) {
    auto words = split(line, ' ');
    if (words.size() == 4 && words[0] == "pid" && words[2] == "since") {
      info.pid = static_cast<pid_t>(parse_count(words[1]).value_or(0));
      info.since = static_cast<int64_t>(parse_count(words[3]).value_or(0));
    }
    if (words[0] == "runs") info.runs.emplace(words.begin() + 1, words.end());
    if (words[0] == "output") info.output = line.substr(std::min(line.size(), words[0].size() + 1));
    if (words.size() != 2) continue;
    for (auto [key, member] : {std::pair{"boot", &OwnerInfo::boot},
                               {"space", &OwnerInfo::space},
                               {"host", &OwnerInfo::host},
                               {"then", &OwnerInfo::then}})
      if (words[0] == key) info.*member = words[1];
  }
  return info;
}

void sweep_owners(const Directory& directory) {
  for_each_file(directory, [&](const std::string& name) {
    Fd fd = directory.try_open(name, O_RDONLY);
    if (!fd) return true;
    // If this process gets the lock, no other process gets it before the file is removed. The file's own process may
    // use the file again, unless that process is dead.
    auto file = try_lock(fd.get(), FileLock::Mode::exclusive) ? OwnerFile{} : read_owner(directory, name);
    if (file && !is_held(directory, name, *file)) directory.remove(name);
    return true;
  });
}

Owners::Owners(const Directory& directory, size_t commands, const std::vector<std::string>& functions,
               const std::string& then, const std::string& output)
    : m_directory(directory), m_id(new_ulid()) {
  sweep_owners(directory);
  std::string runs;
  for (const auto& f : functions) runs += " " + f;
  if (!runs.empty()) runs = "runs" + runs + "\n";
  if (!then.empty()) runs += "then " + then + "\n";
  if (const auto path = output.empty() ? output : absolute_path(output); !path.empty() && !has_control(path))
    runs += "output " + path + "\n";
  m_process = make(runs);
  started(m_process, ::getpid());
  while (m_free.size() < commands) m_free.push_back(make());
}

Owners::~Owners() {
  for (const auto& owner : m_free) m_directory.remove(owner.name);
  m_directory.remove(m_process.name);
}

Owner Owners::make(const std::string& more) {
  Owner owner;
  const std::string temporary = "tmp." + new_ulid();
  Fd file = m_directory.open(temporary, O_WRONLY | O_CREAT | O_EXCL);
  owner.lock = m_directory.open(temporary, O_RDONLY);
  if (disk().flock(owner.lock.get(), LOCK_EX | LOCK_NB) != 0) throw_errno(Exit::storage, "lock an owner file");
  // If there is no room for the content, is_held() uses only the lock.
  if (!write_text(file.get(), first_line(0) + "boot " + here().boot + "\nspace " + here().space + "\nhost " +
                                  here().host + "\n" + more))
    if (disk().ftruncate(file.get(), 0) != 0) throw_errno(Exit::storage, "write an owner file");
  owner.name = m_id + "." + std::to_string(m_count);
  if (!m_directory.rename(temporary, owner.name)) throw_errno(Exit::storage, "rename an owner file");
  ++m_count;
  return owner;
}

Owner Owners::take() {
  if (m_free.empty()) return make();
  Owner owner = std::move(m_free.back());
  m_free.pop_back();
  return owner;
}

bool Owners::started(const Owner& owner, pid_t pid) {
  Fd file = m_directory.try_open(owner.name, O_WRONLY);
  return file && write_text(file.get(), first_line(pid));
}

void Owners::let_go(Owner owner) {
  owner.lock.reset();
  // Open the file again and lock it: only this shows that no other process has inherited the old descriptor. Check the
  // name, because a sweep may have removed the file. Write the file, because it must not name the last command while
  // the next one is being started.
  owner.lock = m_directory.try_open(owner.name, O_RDONLY);
  struct stat st;
  if (owner.lock && disk().flock(owner.lock.get(), LOCK_EX | LOCK_NB) == 0 &&
      disk().fstat(owner.lock.get(), &st) == 0 && st.st_nlink > 0 && started(owner, 0))
    m_free.push_back(std::move(owner));
  else m_directory.remove(owner.name);
}

bool owner_alive(const Directory& directory, const std::string& owner) {
  auto file = read_owner(directory, owner);
  return file && is_held(directory, owner, *file);
}

std::optional<Holder> holder_of(const Directory& directory, const std::string& owner) {
  if (!owner_alive(directory, owner)) return std::nullopt;
  Holder holder;
  if (auto process = read_owner(directory, owner_process(owner) + ".0"); process && process->locked) {
    holder.worker = process->info.pid;
    holder.host = process->info.host;
  }
  if (auto file = is_process(owner) ? std::nullopt : read_owner(directory, owner)) {
    holder.pid = file->info.pid;
    holder.host = file->info.host;
  }
  return holder;
}

std::vector<std::pair<std::string, OwnerInfo>> processes_here(const Directory& directory) {
  std::vector<std::pair<std::string, OwnerInfo>> found;
  for_each_file(directory, [&](const std::string& name) {
    auto file = is_process(name) ? read_owner(directory, name) : std::nullopt;
    if (file && file->locked) found.emplace_back(name, std::move(file->info));
    return true;
  });
  return found;
}

RunHere running_here(const std::vector<std::pair<std::string, OwnerInfo>>& processes) {
  RunHere running;
  for (const auto& [name, info] : processes) {
    running.any = true;
    if (!info.then.empty()) running.targets.insert(info.then);
    if (info.runs) running.functions.insert(info.runs->begin(), info.runs->end());
    else running.all = true;
  }
  return running;
}

}  // namespace gq
