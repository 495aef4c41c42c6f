// What goes to one other node of the group, and what it answers: questions, and records for which it gives a verdict
// each. Thread-safe; a Call is used by one thread at a time.
//
// A line carries one transfer at a time, so there are as many as are under way; those that are free are kept. An answer
// for which nobody waits any more still says what the node knows, so it is heard when it comes (hear_late()).
#pragma once

#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "gq/replication/monitor.hpp"
#include "gq/replication/transfer.hpp"

namespace gq {

class PeerLine;

// Records on their way to nodes.
struct Batch {
  std::string records{};
  size_t count = 0;               // of records
  std::vector<size_t> numbers{};  // where a client waits for them: by record, the number of its job in the quorum
};

// A transfer of them to one node, under way.
struct Call {
  PeerLine* line;
  std::shared_ptr<const Batch> batch;
  std::unique_ptr<Sending> sending{};  // of the batch's records
  std::shared_ptr<Quorum> quorum{};    // where a client waits for them
  Lsn from = 0, end = 0;               // where they stand in the journal; end is 0 where that is not to be passed over
};

// The function on which a node answers what it is asked.
inline std::string ask_function(const std::string& node) { return node + ".ask"; }

class PeerLine {
 public:
  PeerLine(Monitor& monitor, std::string name) : m_monitor(monitor), m_name(std::move(name)) {}

  const std::string& name() const { return m_name; }

  // Asks the node how it is, and which of these jobs it knows. Throws Error where it does not answer, or where its
  // answer does not count.
  AskReply ask(const std::vector<std::string>& ids);

  // Whether more may be sent: not too much is there that it has not answered.
  bool is_free() const;
  // Begins to send records. Throws Error where that cannot be.
  Call start(std::shared_ptr<const Batch> batch, std::shared_ptr<Quorum> quorum = {});
  // Waits for the verdicts, one for each record; fewer where it was cut short. Throws Error where there are none.
  std::vector<Sending::Said> hear(Call& call);
  // The same, where nobody waits for the verdicts but the quorum.
  void hear_or_complain(Call& call);
  // Nobody waits for it any more.
  void leave(Call call);
  // Hears what has come for those.
  void hear_late();

  // It does not do what it should.
  void complain(const std::string& trouble);

 private:
  std::unique_ptr<Link> take_line();
  std::unique_ptr<Link> start_ask(std::string_view body);
  void note(const Reply& reply, Millis asked);

  Monitor& m_monitor;
  const std::string m_name;
  mutable std::mutex m_mutex;  // for what follows; nothing is sent under it
  std::vector<std::unique_ptr<Link>> m_idle, m_idle_asks;
  std::list<Call> m_late;
};

// Goes on with all of these until one has its answer, which is returned; end(), when the time is over before.
template <typename SomeCall>
typename std::list<SomeCall>::iterator next_answered(std::list<SomeCall>& calls, Monitor::Clock::time_point deadline) {
  constexpr Millis turn{1}, longest{1000};  // with more than one answer to wait for, a turn for each
  for (auto now = Monitor::Clock::now(); !calls.empty() && now < deadline; now = Monitor::Clock::now())
    for (auto call = calls.begin(); call != calls.end(); ++call)
      if (call->sending->wait(calls.size() > 1 ? turn : std::min(longest, std::chrono::ceil<Millis>(deadline - now))))
        return call;
  return calls.end();
}

}  // namespace gq
