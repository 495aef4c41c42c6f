// A blob is a workload over max_inline_data in a file of its own, blobs/<xx>/<job ID>; xx are the last two characters
// of the ID. A blob is written once, never changed, and read in place. Its sum is in the job's add record.
// A kept output of that size is a blob, too, blobs/<xx>/<job ID>.out, with the sum in the record of the job's end. All
// functions here take the name of the file as the blob's ID.
//
// A blob and its name are on stable storage before the record that refers to it is appended. Until that record is
// acknowledged, the process that created the blob holds a shared flock on it, so that no other process removes it as an
// orphan.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "gq/base/directory.hpp"

namespace gq {

class Durability;

// Returns the name of the subdirectory of blobs/ that holds a blob.
std::string blob_part(const std::string& id);

// The name of the blob of a job's output, and the job whose output a blob is; empty if it is a workload.
std::string output_blob(const std::string& job);
std::string job_of_output(const std::string& id);
// Whether a file of blobs/<xx> can be a blob.
bool is_blob_name(const std::string& name);

// How many workloads may be arriving in parts at the same time, each in a file of its own. Without keys, any client can
// begin one.
inline constexpr size_t most_arriving = 256;

// A workload that arrives in parts, as far as it has arrived. While a part is written and not yet synced, a second
// file, the doubt, stands beside it: if the process dies then, the disk may have lost a page that the next process
// would still read.
struct Arrived {
  Fd file;
  std::string name;  // its name in the directory of blobs
};
// The name of the doubt of such a workload, and the workload whose doubt a file is; empty if it is another file.
std::string doubt_of(const std::string& arrived);
std::string doubted_by(const std::string& name);

class Blobs {
 public:
  // `durability` must outlive the object.
  Blobs(Directory directory, Durability& durability);

  // Makes `data` (whose sum64 is `sum`) the durable blob of a job. Returns a locked descriptor, which the caller holds
  // until the acknowledgement; nullopt if there is a blob with that ID and other content, which stays unchanged. If
  // `arrived` has a file, that file already holds `data` and becomes the blob. Throws Error(storage), and Error(retry)
  // if a user's database does not answer.
  std::optional<Fd> put(const std::string& id, std::string_view data, uint64_t sum, Arrived* arrived = nullptr);

  // If `offset` is the end of the parts that have arrived so far, appends a part to the workload whose sum64 is `sum`,
  // and syncs it; otherwise writes nothing. Returns the file, locked. The file of an interrupted transfer stays for a
  // while, so that the transfer can resume; beyond most_arriving files, the oldest are removed. If a process died while
  // it wrote a part, the transfer begins again. Throws Error(storage) after it has removed the file, Error(retry) if
  // the file stays locked for 3 seconds.
  Arrived put_part(const std::string& id, uint64_t sum, uint64_t offset, std::string_view part);

  // Opens a blob for reading. Returns an empty Fd if there is none. Throws Error if it cannot be opened.
  Fd open(const std::string& id) const;

  // A blob under an exclusive lock: while this object exists, no process can deliver the blob.
  struct Taken {
    std::string id;
    Fd file;
  };
  // Locks a blob that is to be removed. Call it under index.lock, when no job needs the blob; remove() may then be
  // called without index.lock. Meanwhile no new job can need the blob, because a process that delivers such a job must
  // lock the blob. Returns nullopt if there is no such blob, or if a process or thread is delivering it.
  std::optional<Taken> take(const std::string& id) const;
  // Unlinks the blob, and removes it from the database. Throws Error(storage).
  void remove(const Taken& taken);

  // Removes the parts of a workload that have arrived.
  void remove(const Arrived& arrived) const { m_directory.remove(arrived.name); }

  const Directory& directory() const { return m_directory; }
  std::string path(const std::string& id) const { return m_directory.path_of(blob_part(id) + "/" + id); }

 private:
  const Directory m_directory;
  Durability& m_durability;
};

// Returns the sum64 of a part of a file; nullopt if the file is too short. Throws Error(storage). Reads the file in
// pieces of 1 MiB.
std::optional<uint64_t> sum_part(int fd, uint64_t offset, uint64_t size);

// Whether a file has exactly that size and that sum64. Throws Error(storage).
bool has_workload(int fd, uint64_t size, uint64_t sum);

}  // namespace gq
