#include "gq/store/blobs.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <vector>

#include "gq/base/disk.hpp"
#include "gq/base/ulid.hpp"
#include "gq/journal/durability.hpp"
#include "gq/journal/record.hpp"

namespace gq {
namespace {

constexpr int longest_part_wait = 3000;  // milliseconds
constexpr const char* output_suffix = ".out";
constexpr std::string_view doubt_prefix = "tmp.doubt.";

bool is_arriving(const std::string& name) {
  constexpr size_t id = temporary_prefix.size() + ulid_size;
  return is_temporary_name(name) && name.size() > id && name[id] == '.';
}

// Makes room for another workload that arrives in parts: removes the files that were written least recently, except
// files that a process is writing.
void make_way(const Directory& directory) {
  std::vector<std::pair<std::pair<time_t, long>, std::string>> arriving;
  struct stat st;
  for (const auto& name : directory.names())
    if (is_arriving(name) && directory.look_at(name, st))
      arriving.push_back({{st.st_mtim.tv_sec, st.st_mtim.tv_nsec}, name});
  std::sort(arriving.begin(), arriving.end());
  size_t left = arriving.size();
  for (auto oldest = arriving.begin(); left >= most_arriving && oldest != arriving.end(); ++oldest) {
    const Fd fd = directory.try_open(oldest->second, O_RDONLY);
    if (fd && try_lock(fd.get(), FileLock::Mode::exclusive)) left -= directory.remove(oldest->second);
  }
}

}  // namespace

Blobs::Blobs(Directory directory, Durability& durability)
    : m_directory(std::move(directory)), m_durability(durability) {}

std::string blob_part(const std::string& id) { return id.substr(ulid_size - 2, 2); }

std::string output_blob(const std::string& job) { return job + output_suffix; }

std::string job_of_output(const std::string& id) {
  return id.ends_with(output_suffix) ? id.substr(0, id.size() - std::string_view(output_suffix).size()) : std::string();
}

std::string doubt_of(const std::string& arrived) {
  return std::string(doubt_prefix) + arrived.substr(temporary_prefix.size());
}

std::string doubted_by(const std::string& name) {
  if (!name.starts_with(doubt_prefix)) return {};
  return std::string(temporary_prefix) + name.substr(doubt_prefix.size());
}

bool is_blob_name(const std::string& name) {
  const std::string job = job_of_output(name);
  return is_ulid(job.empty() ? name : job);
}

std::optional<Fd> Blobs::put(const std::string& id, std::string_view data, uint64_t sum, Arrived* arrived) {
  std::optional<Directory> part;
  Fd fd;
  for (;;) {
    fd = open(id);
    if (!fd) {
      part = m_directory.make_below(blob_part(id));
      const bool written = arrived && arrived->file;
      const std::string temporary = written ? arrived->name : "tmp." + new_ulid();
      fd = written ? std::move(arrived->file) : m_directory.open(temporary, O_RDWR | O_CREAT | O_EXCL);
      try {
        if (!try_lock(fd.get(), FileLock::Mode::shared)) throw Error(Exit::storage, "cannot lock a new blob");
        if (!written) write_all_at(fd.get(), data, 0, "a blob");
        if (disk().fsync(fd.get()) != 0) throw_errno(Exit::storage, "sync a blob");
      } catch (const Error&) {
        m_directory.remove(temporary);
        throw;
      }
      if (m_directory.rename_new(temporary, *part, id)) break;
      int saved = errno;
      m_directory.remove(temporary);
      errno = saved;
      if (errno != EEXIST) throw_errno(Exit::storage, "name a blob");
      continue;  // another process or thread is delivering the same job now
    }
    wait_for_lock(fd.get(), FileLock::Mode::shared);
    if (!(part = m_directory.find_below(blob_part(id))) || !part->is(fd.get(), id))
      continue;  // the file was removed before this process had the lock
    if (!has_workload(fd.get(), data.size(), sum)) return std::nullopt;
    // Sync it, because the process that wrote the blob may not have done so yet.
    if (disk().fsync(fd.get()) != 0) throw_errno(Exit::storage, "sync a blob");
    break;
  }
  part->sync();
  m_directory.sync();
  m_durability.put_blob(id, data);
  return fd;
}

Arrived Blobs::put_part(const std::string& id, uint64_t sum, uint64_t offset, std::string_view part) {
  Arrived arrived{{}, "tmp." + id + "." + std::to_string(sum)};
  for (;;) {
    if (!m_directory.has(arrived.name)) make_way(m_directory);
    arrived.file = m_directory.open(arrived.name, O_RDWR | O_CREAT);
    // Another thread may be writing a part or finishing the job now.
    for (int tries = 0; !try_lock(arrived.file.get(), FileLock::Mode::exclusive); ++tries) {
      if (tries == longest_part_wait)
        throw Error(Exit::retry, "cannot write a part of " + id + ": another one is being written");
      disk().wait(std::chrono::milliseconds(1));
    }
    if (m_directory.is(arrived.file.get(), arrived.name)) break;
  }
  const std::string doubt = doubt_of(arrived.name);
  try {
    const auto trust = [&] {
      if (!m_directory.remove(doubt)) throw_errno(Exit::storage, "trust a part of a blob");
    };
    if (m_directory.has(doubt)) {
      if (disk().ftruncate(arrived.file.get(), 0) != 0) throw_errno(Exit::storage, "empty a part of a blob");
      trust();
    }
    if (!part.empty() && file_size(arrived.file.get()) == offset) {
      m_directory.open(doubt, O_RDWR | O_CREAT);
      write_all_at(arrived.file.get(), part, offset, "a blob");
      // Sync each part with the descriptor that wrote it: a descriptor that is opened for a later part does not report
      // earlier failed write-backs.
      if (disk().fdatasync(arrived.file.get()) != 0) throw_errno(Exit::storage, "sync a part of a blob");
      trust();
    }
  } catch (const Error&) {
    // The file may have filled the disk. If it cannot be removed, its doubt stays, too.
    if (m_directory.remove(arrived.name)) m_directory.remove(doubt);
    throw;
  }
  return arrived;
}

Fd Blobs::open(const std::string& id) const {
  auto part = m_directory.find_below(blob_part(id));
  return part ? part->find(id, O_RDONLY) : Fd();
}

std::optional<Blobs::Taken> Blobs::take(const std::string& id) const {
  auto part = m_directory.find_below(blob_part(id));
  Fd fd = part ? part->find(id, O_RDONLY) : Fd();
  if (!fd || !try_lock(fd.get(), FileLock::Mode::exclusive) || !part->is(fd.get(), id)) return std::nullopt;
  return Taken{id, std::move(fd)};
}

void Blobs::remove(const Taken& taken) {
  m_durability.remove_blob(taken.id, file_size(taken.file.get()));
  auto part = m_directory.find_below(blob_part(taken.id));
  if (part && !part->remove(taken.id) && errno != ENOENT) throw_errno(Exit::storage, "remove a blob");
}

bool has_workload(int fd, uint64_t size, uint64_t sum) { return file_size(fd) == size && sum_part(fd, 0, size) == sum; }

std::optional<uint64_t> sum_part(int fd, uint64_t offset, uint64_t size) {
  std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> owner(XXH3_createState(), XXH3_freeState);
  XXH3_state_t* state = owner.get();
  XXH3_64bits_reset(state);
  std::vector<char> buffer(std::min<uint64_t>(size, 1 << 20));
  for (uint64_t left = size; left > 0;) {
    size_t n = read_at(fd, buffer.data(), std::min<uint64_t>(left, buffer.size()), offset);
    if (n == 0) return std::nullopt;
    XXH3_64bits_update(state, buffer.data(), n);
    offset += n;
    left -= n;
  }
  return XXH3_64bits_digest(state);
}

}  // namespace gq
