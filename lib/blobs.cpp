#include "blobs.hpp"

#include <fcntl.h>
#include <unistd.h>
#include <xxhash.h>

#include <cerrno>
#include <memory>
#include <vector>

#include "record.hpp"
#include "ulid.hpp"

namespace gq {

Blobs::Blobs(std::string directory) : m_directory(std::move(directory)) { make_directory(m_directory); }

std::string Blobs::path(const std::string& id) const {
  return m_directory + "/" + id.substr(id.size() - 2) + "/" + id;
}

std::optional<Fd> Blobs::put(const std::string& id, std::string_view data, uint64_t sum) {
  std::string target = path(id);
  std::string directory = target.substr(0, target.rfind('/'));
  Fd fd = open(id);
  if (!fd) {
    make_directory(directory);
    std::string temporary = m_directory + "/tmp." + new_ulid();
    fd = open_file(temporary, O_RDWR | O_CREAT | O_EXCL);
    try {
      FileLock lock(fd.get(), FileLock::Mode::shared);
      write_all(fd.get(), data, "a blob");
      if (::fsync(fd.get()) != 0) throw_errno(Exit::storage, "sync a blob");
    } catch (const Error&) {
      ::unlink(temporary.c_str());
      throw;
    }
    int rc = ::renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, target.c_str(), RENAME_NOREPLACE);
    if (rc != 0) {
      int saved = errno;
      ::unlink(temporary.c_str());
      errno = saved;
      if (errno != EEXIST) throw_errno(Exit::storage, "name a blob");
      fd = open_file(target, O_RDONLY);  // somebody delivers the same job at this moment
    }
  }
  while (!try_lock(fd.get(), FileLock::Mode::shared)) ::usleep(1000);
  if (file_size(fd.get()) != data.size() || sum_file(fd.get()) != sum) return std::nullopt;
  // Whoever made it may not have come to its syncs.
  if (::fsync(fd.get()) != 0) throw_errno(Exit::storage, "sync a blob");
  sync_directory(directory);
  sync_directory(m_directory);
  return fd;
}

Fd Blobs::open(const std::string& id) const { return try_open(path(id), O_RDONLY); }

void Blobs::remove(const std::string& id) {
  if (::unlink(path(id).c_str()) != 0 && errno != ENOENT) throw_errno(Exit::storage, "remove a blob");
}

uint64_t sum_file(int fd) {
  std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> owner(XXH3_createState(), XXH3_freeState);
  XXH3_state_t* state = owner.get();
  XXH3_64bits_reset(state);
  std::vector<char> buffer(1 << 20);
  for (uint64_t offset = 0;;) {
    size_t n = read_at(fd, buffer.data(), buffer.size(), offset);
    XXH3_64bits_update(state, buffer.data(), n);
    offset += n;
    if (n < buffer.size()) return XXH3_64bits_digest(state);
  }
}

}  // namespace gq
