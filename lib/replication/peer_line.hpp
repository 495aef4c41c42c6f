// The connections to one other node of the group. They carry questions, and records that the node answers with a
// verdict each. Thread-safe; a Call is used by one thread at a time.
//
// A Link carries one transfer at a time, so there is one for each transfer under way; idle links are kept. An answer
// that no caller waits for any more still says what the node knows, so it is heard when it comes (hear_late()).
#pragma once

#include <list>
#include <memory>
#include <string>
#include <vector>

#include "gq/base/mutex.hpp"
#include "gq/replication/monitor.hpp"
#include "gq/replication/transfer.hpp"

namespace gq {

class PeerLine;

// Records on their way to nodes.
struct Batch {
  std::string records{};
  size_t count = 0;               // of records
  std::vector<size_t> numbers{};  // if a client waits for the records: the number in the quorum of each record's job
};

// A batch on its way to one node.
struct Call {
  PeerLine* line;
  std::shared_ptr<const Batch> batch;
  std::unique_ptr<Sending> sending{};  // of the batch's records
  std::shared_ptr<Quorum> quorum{};    // if a client waits for them
  // Where the records stand in the journal; `end` is 0 if the walk must not skip them.
  Lsn from = 0, end = 0;
};

// The function on which a node answers questions.
inline std::string ask_function(const std::string& node) { return node + ".ask"; }

class PeerLine {
 public:
  PeerLine(Monitor& monitor, std::string name) : m_monitor(monitor), m_name(std::move(name)) {}

  const std::string& name() const { return m_name; }

  // Asks the node how it is, and which of these jobs it knows. Throws Error if it does not answer, or if its answer
  // does not count.
  AskReply ask(const std::vector<std::string>& ids);

  // Whether more may be sent: not too many transfers are unanswered.
  bool is_free() const;
  // Begins to send records. Throws Error if that is not possible.
  Call start(std::shared_ptr<const Batch> batch, std::shared_ptr<Quorum> quorum = {});
  // Waits for the verdicts, one for each record; fewer if the call was cut short. Throws Error if the node does not
  // answer.
  std::vector<Sending::Said> hear(Call& call);
  // Like hear(), for a call whose verdicts matter to its quorum only; reports errors by complain().
  void hear_or_complain(Call& call);
  // The caller does not wait for this call any more.
  void leave(Call call);
  // Hears the answers that have come to such calls.
  void hear_late();

  // Reports that the node does not do what it should.
  void complain(const std::string& trouble);

 private:
  std::unique_ptr<Link> take_line() EXCLUDES(m_mutex);
  std::unique_ptr<Link> start_ask(std::string_view body) EXCLUDES(m_mutex);
  void note(const Reply& reply, Millis asked) EXCLUDES(m_mutex);

  Monitor& m_monitor;
  const std::string m_name;
  mutable Mutex m_mutex;  // nothing is sent under it
  std::vector<std::unique_ptr<Link>> m_idle GUARDED_BY(m_mutex), m_idle_asks GUARDED_BY(m_mutex);
  std::list<Call> m_late GUARDED_BY(m_mutex);
};

// Advances all these calls until one has its answer, and returns that one; end() if the deadline passes first.
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
