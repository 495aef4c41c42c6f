#include "owners.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <memory>

#include "text.hpp"
#include "ulid.hpp"

namespace gq {
namespace {

bool is_owner_name(const std::string& name) {
  return name.size() > ulid_size + 1 && is_ulid(name.substr(0, ulid_size)) && name[ulid_size] == '.' &&
         parse_count(name.substr(ulid_size + 1));
}

// Calls `visit` with the name of each owner's file until it returns false.
template <typename Visit>
void for_each_file(const std::string& directory, Visit visit) {
  std::unique_ptr<DIR, int (*)(DIR*)> dir(opendir(directory.c_str()), closedir);
  if (!dir) return;
  // A name that is an owner's is locked from its first moment on. A temporary one may not be locked yet.
  while (const dirent* entry = readdir(dir.get()))
    if (std::string name = entry->d_name; is_owner_name(name) && !visit(name)) return;
}

}  // namespace

void sweep_owners(const std::string& directory) {
  for_each_file(directory, [&](const std::string& name) {
    Fd fd = try_open(directory + "/" + name, O_RDONLY);
    if (fd && try_lock(fd.get(), FileLock::Mode::exclusive)) ::unlink((directory + "/" + name).c_str());
    return true;
  });
}

Owners::Owners(const std::string& directory, size_t slots) : m_directory(directory), m_id(new_ulid()) {
  make_directory(directory);
  sweep_owners(directory);
  for (size_t slot = 0; slot <= slots; ++slot) {
    std::string temporary = directory + "/tmp." + new_ulid();
    Fd fd = open_file(temporary, O_RDWR | O_CREAT | O_EXCL);
    if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) throw_errno(Exit::storage, "lock an owner file");
    if (::rename(temporary.c_str(), (directory + "/" + name(slot)).c_str()) != 0)
      throw_errno(Exit::storage, "rename an owner file");
    m_files.push_back(std::move(fd));
  }
}

Owners::~Owners() {
  for (size_t slot = 0; slot < m_files.size(); ++slot) {
    m_files[slot].reset();
    try {
      if (!owner_alive(m_directory, name(slot))) ::unlink((m_directory + "/" + name(slot)).c_str());
    } catch (const Error&) {  // the next process sweeps it
    }
  }
}

bool owner_alive(const std::string& directory, const std::string& owner) {
  if (!is_owner_name(owner)) return false;
  Fd fd = try_open(directory + "/" + owner, O_RDONLY);
  if (!fd) {
    if (errno == ENOENT) return false;
    throw_errno(Exit::storage, "open an owner file");
  }
  return !try_lock(fd.get(), FileLock::Mode::shared);
}

bool any_owner_alive(const std::string& directory) {
  bool alive = false;
  for_each_file(directory, [&](const std::string& name) {
    if (name.substr(ulid_size) == ".0") alive = alive || owner_alive(directory, name);
    return !alive;
  });
  return alive;
}

std::string owner_process(const std::string& owner) { return owner.substr(0, owner.rfind('.')); }

}  // namespace gq
