// The recorder collects the records of how attempts ended, and writes them to the journal. They are written together
// with the next start records, so that one write is enough for both; before the next claim; or at the latest at the end
// of the dispatcher's turn (Dispatcher::work()). When the records are written, the recorder frees the owners of the
// commands that ended. When the records are on stable storage, it also frees the blobs of the finished jobs.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "gq/base/log.hpp"
#include "gq/store/owners.hpp"
#include "gq/store/queue.hpp"
#include "gq/work/capture.hpp"
#include "gq/work/conclusion.hpp"

namespace gq {

class Recorder {
 public:
  // `seldom` limits the log lines about outputs that are not kept.
  Recorder(Queue& store, Owners& owners, LogLimit& seldom) : m_store(store), m_owners(owners), m_log_limit(seldom) {}

  // `output` is what the command printed, if the conclusion says that it is kept. If there is no room for it when the
  // records are written, the job ends without it.
  void add(const Claim& claim, const Conclusion& conclusion, std::unique_ptr<Capture> output = nullptr);
  // A command has ended. The caller adds the records of its jobs before the next append().
  void ended(Owner owner) { m_ended.push_back(std::move(owner)); }

  bool is_empty() const { return m_records.empty(); }
  // Whether a job was given back since the last settle(). Nothing may be claimed before the next settle(): after a
  // failed sync the records are written again, and would then release the new claim, too.
  bool gave_back() const { return m_gave_back; }
  // How many ends of attempts are not on stable storage yet.
  size_t unrecorded() const { return m_unrecorded; }

  // Writes all waiting records to the journal, followed by `more`, without waiting for the disk. If it throws Error,
  // the records that waited before the call are still waiting.
  void append(const std::vector<std::string>& more = {});
  // Writes all waiting records, and waits until they are on stable storage. Throws Error.
  void settle();
  // Returns an owner for the next command. On a full disk there may be no room for another owner's file; then this
  // function first records the ends of commands, which frees their owners.
  Owner take_owner();

 private:
  // An output that waits for the record of its job's end. Until it is kept, that record says that there was no room.
  struct Waiting {
    size_t record;  // its number
    Claim claim;
    Conclusion conclusion;
    Millis at;
    std::unique_ptr<Capture> output;
  };
  void say_lost(const Claim& claim, const std::string& why);
  void keep_outputs();
  void keep_output(Waiting& waiting);

  Queue& m_store;
  Owners& m_owners;
  LogLimit& m_log_limit;
  std::vector<std::string> m_records;
  std::vector<Waiting> m_waiting;
  // The records as they are without the outputs that have been put into them since the last append(), with their
  // numbers, and the size of all these outputs.
  std::vector<std::pair<size_t, std::string>> m_without;
  uint64_t m_kept = 0;
  std::vector<Fd> m_held;      // the blobs of outputs, until the records are on stable storage
  std::vector<Owner> m_ended;  // the owners of the commands whose ends are in the waiting records
  std::vector<std::string> m_done_blobs;
  bool m_gave_back = false;
  size_t m_unrecorded = 0;
};

}  // namespace gq
