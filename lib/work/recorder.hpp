// What becomes of jobs, on its way to the journal. Records wait here until the next start of a job, so that one write
// takes both; what they let go of, the owners of commands that have ended and the blobs of jobs that are done, is let
// go when they are written, or when they are on stable storage.
#pragma once

#include <string>
#include <vector>

#include "gq/store/owners.hpp"
#include "gq/store/store.hpp"
#include "gq/work/conclusion.hpp"

namespace gq {

class Recorder {
 public:
  Recorder(Store& store, Owners& owners) : m_store(store), m_owners(owners) {}

  void add(const Claim& claim, const Conclusion& conclusion);
  // A command has ended; what became of its jobs is added before the next append().
  void ended(Owner owner) { m_ended.push_back(std::move(owner)); }

  bool is_empty() const { return m_records.empty(); }
  // Whether a claim was let go of since the last settle(). Until that, nothing may be claimed: recorded anew after a
  // failed sync, it would let go of the new claim, too.
  bool gave_back() const { return m_gave_back; }
  // Ends of attempts that are not on stable storage.
  size_t unrecorded() const { return m_unrecorded; }

  // Writes all of it to the journal, and these behind it, without waiting for the disk. Throws Error, and then keeps
  // what was here before.
  void append(const std::vector<std::string>& more = {});
  // Waits until all of it is on stable storage. Throws Error.
  void settle();
  // An owner for what is started next. On a full disk there may be no room for one more file; those of commands that
  // have ended are free once that is recorded.
  Owner take_owner();

 private:
  Store& m_store;
  Owners& m_owners;
  std::vector<std::string> m_records;
  std::vector<Owner> m_ended;  // the commands of which those tell the end
  std::vector<std::string> m_done_blobs;
  bool m_gave_back = false;
  size_t m_unrecorded = 0;
};

}  // namespace gq
