// The connections to one other node of the group. They carry questions, and records; the other node answers each record
// with a verdict. Thread-safe; a Call is used by one thread at a time.
//
// A Link carries one transfer at a time, so each transfer under way has its own Link; idle Links are reused. If no
// caller waits for an answer any more, the answer still tells what the other node knows, so hear_late() reads it when
// it comes.
#pragma once

#include <list>
#include <memory>
#include <string>
#include <vector>

#include "gq/base/mutex.hpp"
#include "gq/replication/features.hpp"
#include "gq/replication/monitor.hpp"
#include "gq/replication/transfer.hpp"

namespace gq {

class PeerLine;

// Records that are sent to one or more nodes.
struct Batch {
  std::string records{};
  size_t count = 0;  // the number of records
  // If a client waits for the records: for each record, the number of its job in the quorum.
  std::vector<size_t> numbers{};
};

// A batch that is being sent to one node.
struct Call {
  PeerLine* line;
  std::shared_ptr<const Batch> batch;
  std::unique_ptr<Sending> sending{};  // the transfer of the batch's records
  std::shared_ptr<Quorum> quorum{};    // if a client waits for the records: its quorum
  // The range of the journal that has the records. `end` is 0 if a walk must not skip this range.
  Lsn from = 0, end = 0;
};

// Returns the Gearman function on which a node answers questions.
inline std::string ask_function(const std::string& node) { return node + ".ask"; }

class PeerLine {
 public:
  PeerLine(Monitor& monitor, std::string name) : m_monitor(monitor), m_name(std::move(name)) {}

  const std::string& name() const { return m_name; }

  // Asks the node about its state, and which of these jobs it knows. Throws Error if the node does not answer, or if
  // its answer must be ignored.
  AskReply ask(const std::vector<std::string>& ids);

  // Whether another transfer may be sent: not too many are unanswered.
  bool is_free() const;
  // Begins to send records. Throws Error if it cannot begin.
  Call start(std::shared_ptr<const Batch> batch, std::shared_ptr<Quorum> quorum = {});
  // Waits for the verdicts. Returns one for each record; fewer if the call was cut short. Throws Error if the node does
  // not answer.
  std::vector<Sending::Said> receive(Call& call);
  // Like receive(), but for a call whose verdicts only its quorum uses. Reports errors through complain().
  void receive_or_complain(Call& call);
  // Call it when no caller waits for this call any more.
  void leave(Call call);
  // Reads the answers that have come to such calls.
  void hear_late();

  // Reports trouble with the node.
  void complain(const std::string& trouble);

 private:
  std::unique_ptr<Link> take_line() EXCLUDES(m_mutex);
  std::unique_ptr<Link> start_ask(std::string_view body) EXCLUDES(m_mutex);
  void note(const Reply& reply, Millis asked) EXCLUDES(m_mutex);
  void publish(const NodeReads& reads) EXCLUDES(m_mutex);

  Monitor& m_monitor;
  const std::string m_name;
  mutable Mutex m_mutex;  // no thread sends anything while it holds this mutex
  std::vector<std::unique_ptr<Link>> m_idle GUARDED_BY(m_mutex), m_idle_asks GUARDED_BY(m_mutex);
  std::list<Call> m_late GUARDED_BY(m_mutex);
  std::optional<NodeReads> m_reads GUARDED_BY(m_mutex);  // what this process has published
};

// Continues all these calls until one has its answer, and returns that call; end() if the deadline passes first.
template <typename SomeCall>
typename std::list<SomeCall>::iterator next_answered(std::list<SomeCall>& calls, Monitor::Clock::time_point deadline) {
  constexpr Millis turn{1}, longest{1000};  // with more than one answer to wait for, each call gets a turn
  for (auto now = Monitor::Clock::now(); !calls.empty() && now < deadline; now = Monitor::Clock::now())
    for (auto call = calls.begin(); call != calls.end(); ++call)
      if (call->sending->wait(calls.size() > 1 ? turn : std::min(longest, std::chrono::ceil<Millis>(deadline - now))))
        return call;
  return calls.end();
}

}  // namespace gq
