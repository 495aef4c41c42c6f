// Collects what becomes of jobs, for the journal. Records wait here until the next start of a job, so that one write
// takes both. The recorder also frees resources: the owners of ended commands when the records are written, and the
// blobs of finished jobs when the records are on stable storage.
#pragma once

#include <string>
#include <vector>

#include "gq/store/owners.hpp"
#include "gq/store/queue.hpp"
#include "gq/work/conclusion.hpp"

namespace gq {

class Recorder {
 public:
  Recorder(Queue& store, Owners& owners) : m_store(store), m_owners(owners) {}

  void add(const Claim& claim, const Conclusion& conclusion);
  // A command has ended. The caller adds the records of its jobs before the next append().
  void ended(Owner owner) { m_ended.push_back(std::move(owner)); }

  bool is_empty() const { return m_records.empty(); }
  // Whether a claim was given up since the last settle(). Until settle() nothing may be claimed: a failed sync writes
  // the records again, and they would then give up the new claim, too.
  bool gave_back() const { return m_gave_back; }
  // Ends of attempts that are not on stable storage.
  size_t unrecorded() const { return m_unrecorded; }

  // Writes all waiting records to the journal, followed by these, without waiting for the disk. Throws Error, and then
  // keeps the records that waited before the call.
  void append(const std::vector<std::string>& more = {});
  // Writes them, and waits until they are on stable storage. Throws Error.
  void settle();
  // An owner for the next command. On a full disk there may be no room for another file; then this records the ends of
  // commands first, which frees their owners.
  Owner take_owner();

 private:
  Queue& m_store;
  Owners& m_owners;
  std::vector<std::string> m_records;
  std::vector<Owner> m_ended;  // of the commands whose ends the records tell
  std::vector<std::string> m_done_blobs;
  bool m_gave_back = false;
  size_t m_unrecorded = 0;
};

}  // namespace gq
