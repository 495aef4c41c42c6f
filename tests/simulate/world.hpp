// The world of a simulation: the nodes of a group, the server between them, clients, time, and the invariants.
//
// gq's own code makes the decisions: the answer of a store (answer_to), the verdict on a record (verdict_on), when a
// client is answered (Quorum), what happens to a raw job with an unknown outcome (next_raw_step), what follows from the
// messages between nodes (Replica, Inquiry), and the state of the jobs (Fold). This file adds the world around these
// decisions: a journal whose unsynced end is lost in a power cut; messages that are lost, duplicated and reordered;
// processes that die between any two steps. A node takes one step at a time, and each effect is a separate step.
//
// The functions that check the invariants are called oracles: World::check_answer, ::check_given_back, ::check_start,
// ::heal and ::disagreement.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "gq/replication/quorum.hpp"
#include "gq/replication/replica.hpp"
#include "gq/state/map_table.hpp"
#include "random.hpp"
#include "script.hpp"

namespace simulate {

using gq::Lsn;
using gq::Millis;

// These times are shorter than the real ones, so that a search reaches their ends.
inline constexpr Millis peer_timeout{200}, takeover{2000}, alone_after{3000}, check_interval{5000};

// A record in a message: the add record of a job, with the size and checksum of its workload; or a node's state of a
// job.
struct Record {
  gq::event::Add add{};
  uint64_t size = 0, sum = 0;
  std::optional<gq::event::State> state{};
  std::vector<std::string> parents{};  // submit: what the client says
};

struct Message {
  enum class Kind { submit, answer, take, verdicts, ask, asked };
  Kind kind;
  unsigned from = 0, to = 0;
  unsigned job = 0;                      // the number of the job that it is about; 0: none
  uint64_t call = 0;                     // the call that a verdict answers
  std::vector<Record> records{};         // submit: one record; take: one or more
  std::string identity{}, session{};     // of the sending node, and of its process
  bool bad = false;                      // verdicts and asked: the node refuses the sender of the question
  std::vector<std::string> words{};      // verdicts: one for each record
  gq::Answer answer{};                   // answer
  std::string id{};                      // answer: the ID of the job
  std::vector<std::string> ids{};        // ask: the jobs of the question; asked: the jobs that the node knows
  Lsn here = 0;                          // ask and asked: the end of the asking node's journal
  gq::FailureDetector::Round round = 0;  // ask and asked: the round of the question
  Millis sent_at{0};                     // take, ask, verdicts and asked: when the question was sent
  gq::AskReply reply{};                  // asked
};

// A record in a journal.
struct Entry {
  Lsn lsn, end;
  gq::Event event{};
  gq::RecordHead head{};
  bool synced = false;
  bool doubtful = false;  // a sync that covered it has failed
};

// The state of a node's keeper, which inquires about jobs of other nodes and takes over those that should run on its
// node.
struct Keeping {
  std::deque<gq::Takeover> due{};
  gq::RunHere runs{};
  std::optional<gq::Inquiry> inquiry{};
  std::optional<gq::SendThenAppend> effect{};
  std::vector<gq::Debt> debts{};  // the debts that are being sent to one node
  Millis inquiry_began{0};
  size_t taken = 0;
};

// A task of a node: it queues a job for a client or from a server, takes a job of another node, or does other work
// (Kind). A task dies with its process.
struct Task {
  enum class Kind { add, raw, take, pay, single, run, keep, forget, join };
  // The steps of each kind of task, in their order.
  enum class Step {
    // add, raw; take until judge
    begin,
    append,
    send,
    sync,
    sync_again,
    decide,
    find_known,
    go_on,
    wait,  // all kinds: waits for another node, or until a time
    record,
    record_sync,
    judge,
    reply,
    // pay, single; keep, if it sends a takeover
    look_up,
    tell,
    tell_again,
    note_copies,
    end_walk,
    // keep
    next_inquiry,
    take_over,
    next_tell,
    write,
    write_sync,
    // forget, join
    write_settings,
    write_peer,
    // run
    finish,
    done
  };
  Kind kind;
  Step step = Step::begin;
  uint64_t begun = 0;    // when this node took the client's job
  uint64_t decided = 0;  // when the answer was decided
  unsigned from = 0;     // the sender of the request
  unsigned job = 0;      // the job, by number
  uint64_t call = 0;     // take: the call to answer
  Millis asked_at{0};    // take: when the call was sent
  std::vector<Record> records{};
  std::vector<gq::Answer> answers{};  // one for each record
  std::vector<std::string> words{};   // take: its verdicts
  std::vector<Lsn> entries{};         // the positions of the records
  // add, raw
  std::string id{};        // the ID of the received record
  bool has_ended = false;  // the job that existed before has ended
  std::shared_ptr<gq::Quorum> quorum{};
  gq::Quorum::Append append{};
  std::deque<std::pair<unsigned, size_t>> to_send{};  // the node, and the number of the job
  Step after = Step::go_on;                           // the step after all have been sent
  gq::Quorum::Wait wait{};
  gq::Quorum::Record record{};
  struct Call {
    uint64_t number;
    unsigned to;
    Millis sent;
    size_t job;  // its number in the quorum
    gq::FailureDetector::Round round = 0;
  };
  std::vector<Call> calls{};
  // pay, single
  Lsn location = 0, since = 0;
  std::optional<gq::Walk> walk{};
  std::optional<gq::Debt> debt{};
  std::vector<size_t> sent{};  // for each record that is being sent: the number of its debt
  bool sent_again = false;
  std::string identity{};              // the identity of the node that gave the verdicts
  std::shared_ptr<Keeping> keeping{};  // keep
  // run
  std::string owner{};
  // raw
  bool open = false;
  Millis again_at{0};
};

struct Node {
  std::string name;
  gq::Self self;
  unsigned stores = 0, processes = 0, runners = 0;  // how many stores, processes and runners this node has had
  unsigned losses = 0;                              // the number of power cuts in which its store lost records
  // Durable state:
  std::deque<Entry> journal;
  Lsn end = 0;
  std::unique_ptr<gq::MapTable> table;
  std::unique_ptr<gq::Fold> fold;
  std::set<std::string> settings;  // gq.json: the other nodes of its group
  std::set<std::string> joining;   // the nodes that are in its group according to its journal, but not yet in gq.json
  bool full = false;
  Millis skew{0};  // the error of its wall clock
  // The process:
  bool up = false, next_sync_fails = false;
  bool stopped = false;  // its process is stopped until it is resumed
  bool is_going() const { return up && !stopped; }
  bool has_read_settings = false;
  std::unique_ptr<gq::Replica> replica;
  gq::Beat beat{};         // the content of returned.lock
  bool has_lease = false;  // whether it holds that lock
  std::deque<Task> tasks;
  struct Other {
    std::optional<Task::Call> ask{};  // the question of this second that is under way
    // The truth, which only the oracles use:
    Millis heard{0};                      // when the other node last answered
    std::map<std::string, Millis> ran{};  // when the other node last said that it runs a function
    std::optional<Lsn> first_end{};       // the end of its journal in its first answer since this node is back
    bool tried = false;                   // it was asked since this node is back
  };
  std::vector<Other> others;  // by number; the entry of the node itself is unused
  // The truth, which only the oracles use:
  std::set<std::string> safe;               // jobs with a record that was synced
  Millis back{0}, stopped_at{0}, heard{0};  // when it came back, was stopped, and last received an answer
  std::map<std::string, uint64_t> gone;  // replaced identities of other nodes: the step in which this node learned it
};

std::string text_of(const gq::Job& job);

class World {
 public:
  explicit World(const Setting& setting);

  // Does one action. Returns false if the action is not possible now.
  bool act(const Action& action);
  // Returns a random action that may be possible now.
  Action any(Random& random) const;
  Action any_of_group(Random& random) const;

  // A node gets a job and then dies or is stopped. The other nodes continue for as long as they need to take over its
  // jobs. Then the node is back.
  void go_on_without(unsigned node, bool crashes);
  // A node gets a new store, and one other node learns this at once.
  void recreate(unsigned node, unsigned asks);

  // Removes all faults, and continues until nothing is left to do. Then checks that each client was answered, and that
  // each answer is true.
  void heal();

  // All actions so far, and how many there were when heal() began.
  const std::vector<Action>& done() const { return m_done; }
  size_t begun_to_heal() const { return m_healing; }

  // The invariant that was broken, if any.
  const std::optional<std::string>& fault() const { return m_fault; }

  // A log of the events, for users. It is empty unless want_log() was called.
  void want_log() { m_wants_log = true; }
  const std::string& log() const { return m_log; }

  struct Figures {
    uint64_t steps = 0, answers = 0, good = 0;
    std::array<uint64_t, action_kinds> kinds{};  // the number of possible actions of each kind
  };
  const Figures& figures() const { return m_figures; }

 private:
  struct Client {
    Record record;
    bool done = false;  // the client has a good answer, or one that will not change
  };
  struct Raw {
    enum class Place { server, node, gone } place = Place::server;
    unsigned times = 0;  // how often the job was taken
  };

  Record make(const Submit& submit, unsigned job, const std::string& id) const;
  void say(const std::string& text);
  void fail(const std::string& text);
  std::string name(unsigned number) const;

  void set_up(Node& node);
  void start(Node& node);
  void stop(Node& node);
  void lose_unsynced(Node& node);
  void refold(Node& node);
  Lsn append(Node& node, const gq::Event& event, const gq::RecordHead& head);
  bool sync(Node& node);
  void count(const Node& node, const std::string& id);

  void play_round();
  void play_second();
  void send(Message message);
  bool deliver(const Action& action);
  void arrive(Message message);
  bool carry_out(const Action& action);
  void send_job(unsigned job, unsigned node);
  unsigned number_of(const Node& node) const;
  bool step(Node& node, const Action& action);
  bool give_up(Node& node, const Action& action);
  bool kill(Node& node, const Action& action);
  bool is_ready(const Node& node, const Task& task) const;
  void go_on(Node& node, Task& task);
  void begin(Node& node, Task& task);
  void next_effect(Node& node, Task& task);
  void hand_out(Node& node, Task& task, const gq::Quorum::Send& send);
  void put(Node& node, Task& task);
  bool is_safe(const Node& node, const Task& task) const;
  void stored(Node& node, Task& task, const std::vector<std::optional<gq::Quorum::Known>>& known);
  void refused(Node& node, Task& task, gq::Outcome outcome);
  void decide(Node& node, Task& task);
  void reply(Node& node, Task& task);
  void reply_raw(Task& task, const gq::Answer& answer);
  gq::Times times(const Node& node) const { return {m_now, m_now + node.skew}; }
  Millis wall(const Node& node) const { return m_now + node.skew; }
  gq::Group group_of(const Node& node) const;
  gq::RunHere runs(const Node& node) const;
  void pass(Millis duration);
  void renew_lease(Node& node);
  bool wake(Node& node);
  bool note(Node& node, const Message& message);
  void record_peers(Node& node);
  void speak(const Node& node, Message& message);
  std::optional<gq::Replica::Admission> admit(Node& node, const Message& message);
  bool ask(Node& node, unsigned to);
  void answer_ask(Node& node, const Message& message);
  void hear_ask(Node& node, Message& message);
  bool change_group(Node& node, const Action& action);
  void go_on_changing(Node& node, Task& task);
  void reload(Node& node);
  void regroup();
  bool groups_agree() const;
  void check_forgotten();
  bool keep(Node& node);
  void come_back(Node& node);
  void go_on_keeping(Node& node, Task& task);
  void next_inquiry(Node& node, Task& task);
  void end_inquiry(Node& node, Task& task);
  void fail_inquiry(Node& node, Task& task);
  void hear_inquiry(Node& node, Task& task, const gq::AskReply& reply);
  void next_question(Node& node, Task& task);
  void take_over(Node& node, Task& task);
  void next_tell(Node& node, Task& task);
  void check_take(const Node& node, const gq::Takeover& what, const std::vector<gq::HeldJob>& jobs);
  void check_start(const Node& node, const std::string& id);
  bool are_done(const std::vector<std::string>& ids) const;
  std::string left_to_wake() const;
  std::string left_to_run() const;
  std::string states_of(const std::string& id) const;
  bool pay(Node& node, unsigned to);
  void read_on(Node& node, gq::Walk& walk);
  Task::Call& call(Node& node, Task& task, Message message);
  void go_on_paying(Node& node, Task& task);
  void tell(Node& node, Task& task, Task::Step next);
  void start_single(Node& node, Task& task);
  void end_single(Node& node, Task& task);
  void not_sent(Node& node, Task& task);
  void hear_verdicts(Task& task, const Message& message);
  void judge(Node& node, Task& task);
  bool run(Node& node);
  static Record add_record_to_send(Node& node, const Entry& entry, const gq::Job& job);
  const Entry* find_add(const Node& node, const std::string& id, std::initializer_list<Lsn> places) const;
  std::string owed_text() const;
  std::string disagreement() const;
  bool is_up(const Node& node, unsigned other) const;

  bool holds(const Node& node, const std::string& id) const;
  std::set<std::string> holders(const std::string& id) const;
  void check_answer(const Node& node, const Task& task, const std::string& id, const gq::Answer& answer);
  void check_given_back(const Task& task);

  const Setting m_setting;
  std::vector<Node> m_nodes;
  std::vector<Message> m_messages;
  std::map<unsigned, Client> m_clients;  // by the number of its job
  std::map<unsigned, Raw> m_raws;        // by the number of its job
  struct Lost {
    uint64_t step;
    std::string identity;
    std::set<std::string> ids;
  };
  std::vector<Lost> m_lost;  // lost stores, and their jobs
  // The identities that have accepted each job. If an identity may have lost its record and has accepted the job again,
  // it is in the set a second time under another name.
  std::map<std::string, std::set<std::string>> m_accepted;
  std::set<std::string> m_complete;                           // jobs that were on enough nodes
  std::map<std::string, std::set<std::string>> m_ran;         // the identities that have started each job
  std::map<std::string, std::set<std::string>> m_taken_over;  // the identities that took each job over
  std::set<std::string> m_excused;                            // jobs that two nodes may run without an error
  std::set<std::string> m_done_jobs;                          // jobs that have ended on some node
  std::map<std::string, std::vector<std::string>> m_parents;  // of each job that is after others
  std::set<std::string> m_regrouped;  // jobs from a time when nodes had different groups or were changing them
  Millis m_now{1'000'000};
  uint64_t m_next_call = 0;
  std::optional<std::string> m_fault;
  std::vector<Action> m_done;
  size_t m_healing = 0;
  bool m_wants_log = false;
  std::string m_log;
  Figures m_figures;
};

}  // namespace simulate
