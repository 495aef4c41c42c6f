// Blobs: workloads over max_inline_data, one immutable file each, blobs/<xx>/<job ID> with xx the last two characters
// of the ID. A blob is written once and read in place; its sum is in the job's add record.
//
// A blob is on stable storage, name included, before the record that refers to it is appended. Until that record is
// acknowledged its creator holds a shared flock on it, so that nobody takes it for an orphan.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "gq/base/directory.hpp"

namespace gq {

class Durability;

// The directory that the blob of a job is in, below that of all blobs.
std::string blob_part(const std::string& id);

// So many workloads arrive in parts at a time, each in a file. Without keys anybody can begin one.
inline constexpr size_t most_arriving = 256;

// What has come of a workload that arrives in parts.
struct Arrived {
  Fd file;
  std::string name;  // in the directory of blobs
};

class Blobs {
 public:
  // The `durability` must outlive it.
  Blobs(Directory directory, Durability& durability);

  // Makes `data` (whose sum64 is `sum`) the durable blob of a job; returns a locked descriptor to hold until the
  // acknowledgement, or nullopt when there is a blob of that ID with other content, which is left as it is.
  // Throws Error(storage).
  // With `arrived`, they stand in that file, which becomes the blob.
  std::optional<Fd> put(const std::string& id, std::string_view data, uint64_t sum, Arrived* arrived = nullptr);

  // Appends a part to the workload whose sum64 is `sum`, durably, where it begins at the end of what has come so far.
  // Returns the file with that, locked. The file of a transfer that was cut off stays for a while, so that the transfer
  // can resume, but for the oldest of most_arriving. Throws Error(storage), and then the file is gone.
  Arrived put_part(const std::string& id, uint64_t sum, uint64_t offset, std::string_view part);

  // Opens a blob for reading; an empty Fd where there is none. Throws Error where it cannot be opened.
  Fd open(const std::string& id) const;

  // A blob that nobody can deliver while this exists.
  struct Taken {
    std::string id;
    Fd file;
  };
  // Takes a blob that is to be removed, so that what is known of its job under index.lock stays true until remove() is
  // done, outside: a job that needs it would have to come with it. nullopt where there is none, or where a process or
  // thread delivers it at this moment.
  std::optional<Taken> take(const std::string& id) const;
  // Unlinks it, and removes it from the database. Throws Error(storage).
  void remove(const Taken& taken);

  // Removes what has come of a workload.
  void remove(const Arrived& arrived) const { m_directory.remove(arrived.name); }

  const Directory& directory() const { return m_directory; }
  std::string path(const std::string& id) const { return m_directory.path_of(blob_part(id) + "/" + id); }

 private:
  const Directory m_directory;
  Durability& m_durability;
};

// The sum64 of a part of a file, read piece by piece. nullopt where the file is too short; throws Error(storage).
std::optional<uint64_t> sum_part(int fd, uint64_t offset, uint64_t size);

}  // namespace gq
