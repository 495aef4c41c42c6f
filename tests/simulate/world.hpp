// The world of a simulation: the nodes of a group, the server between them, clients, time, and what must hold.
//
// The decisions are gq's own code: what the store answers (answer_to), what a node says of a record (verdict_on), when
// a client is answered (Quorum), what becomes of a job whose record is in doubt (next_raw_step), what follows from what
// nodes hear of each other (Replica, Inquiry), and which jobs follow from the records (Fold). This file adds the world
// around them: a journal whose unsynced end is lost in a power cut; messages that are lost, doubled and come in any
// order; processes that die between any two steps. A node takes one step at a time, and each effect is a step of its
// own.
//
// What must hold (the oracles): see World::check_answer, ::check_given_back, ::check_start, ::heal and
// ::disagreement.
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

// Smaller than the real ones, so that a search reaches their ends.
inline constexpr Millis peer_timeout{200}, takeover{2000}, alone_after{3000}, check_interval{5000};

// A record in a message: the add of a job with the size and checksum of its workload, or what a node says of a job.
struct Record {
  gq::event::Add add{};
  uint64_t size = 0, sum = 0;
  std::optional<gq::event::State> state{};
};

struct Message {
  enum class Kind { submit, answer, take, verdicts, ask, asked };
  Kind kind;
  unsigned from = 0, to = 0;
  unsigned job = 0;                      // the job that it is about, by number; 0: none
  uint64_t call = 0;                     // the call that a verdict answers
  std::vector<Record> records{};         // submit (one), take
  std::string identity{}, session{};     // of the sending node and its process
  bool bad = false;                      // verdicts, asked: it refuses the sender of the question
  std::vector<std::string> words{};      // verdicts
  gq::Answer answer{};                   // answer
  std::string id{};                      // answer: the job's
  std::vector<std::string> ids{};        // ask, asked: the jobs that it knows
  Lsn here = 0;                          // ask, asked: where the asking node's journal ended
  gq::FailureDetector::Round round = 0;  // ask, asked: the round of the question
  Millis sent_at{0};                     // take, ask, verdicts, asked: when the question was sent
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

// The work of a node's keeper: it inquires about jobs of other nodes, and takes over those that should run here.
struct Keeping {
  std::deque<gq::Takeover> due{};
  gq::RunHere runs{};
  std::optional<gq::Inquiry> inquiry{};
  std::optional<gq::TellThenAppend> effect{};
  std::vector<gq::Debt> debts{};  // debts under way to one node
  Millis inquiry_began{0};
  size_t taken = 0;
};

// Work of a node: it queues a job for a client or a server, or takes one of another node. A task dies with its process.
struct Task {
  enum class Kind { add, raw, take, pay, apart, run, keep, forget, join };
  // In the order in which a task of that kind takes them.
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
    wait,  // any kind: for another node, or until a time
    record,
    record_sync,
    judge,
    reply,
    // pay, apart; keep if it tells of a take-over
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
  std::string id{};        // the ID of the record that came
  bool has_ended = false;  // the job that exists already has ended
  std::shared_ptr<gq::Quorum> quorum{};
  gq::Quorum::Append append{};
  std::deque<std::pair<unsigned, size_t>> to_send{};  // node, and number of the job
  Step after = Step::go_on;                           // the step after all were sent
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
  // pay, apart
  Lsn since = 0;
  std::optional<gq::Walk> walk{};
  std::optional<gq::Debt> debt{};
  std::vector<size_t> told{};  // the debt of each record under way
  bool told_again = false;
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
  unsigned stores = 0, processes = 0, runners = 0;  // how many it has had
  unsigned losses = 0;                              // power cuts in which that store lost records
  // Durable state:
  std::deque<Entry> journal;
  Lsn end = 0;
  std::unique_ptr<gq::MapTable> table;
  std::unique_ptr<gq::Fold> fold;
  std::set<std::string> settings;  // gq.json: the other nodes of its group
  std::set<std::string> joining;   // nodes that are in its group by the journal, and not yet by gq.json
  bool full = false;
  Millis skew{0};  // of its wall clock
  // The process:
  bool up = false, next_sync_fails = false;
  bool stopped = false;  // it is stopped until it is woken
  bool is_going() const { return up && !stopped; }
  bool has_read_settings = false;
  std::unique_ptr<gq::Replica> replica;
  gq::Beat beat{};         // the content of returned.lock
  bool has_lease = false;  // whether it holds that lock
  std::deque<Task> tasks;
  struct Other {
    std::optional<Task::Call> ask{};  // the question of this second, under way
    // The truth, for the oracles:
    Millis heard{0};                      // when it last answered
    std::map<std::string, Millis> ran{};  // when it last said that it runs a function
    std::optional<Lsn> first_end{};       // its journal's end in its first answer since this node is back
    bool tried = false;                   // whether it was asked since then
  };
  std::vector<Other> others;  // by number; the node's own entry is unused
  // The truth, for the oracles:
  std::set<std::string> safe;               // jobs with a record that was synced
  Millis back{0}, stopped_at{0}, heard{0};  // when it came back, was stopped, and last heard another node
  std::map<std::string, uint64_t> gone;     // replaced identities of other nodes: the step in which it learned that
};

std::string text_of(const gq::Job& job);

class World {
 public:
  explicit World(const Setting& setting);

  // Does one action. False: the action is not possible now.
  bool act(const Action& action);
  // An action that may be possible now.
  Action any(Random& random) const;
  Action any_of_group(Random& random) const;

  // A node gets a job and then dies or is stopped. The other nodes go on for as long as they need to take its jobs
  // over. Then the node is back.
  void go_on_without(unsigned node, bool crashes);
  // A node becomes another store, and one other node hears of that at once.
  void recreate(unsigned node, unsigned asks);

  // Removes all faults, and goes on until nothing is left to do. Then each client must have been answered, and must
  // have what it was promised.
  void heal();

  // All actions so far, and how many there were when heal() began.
  const std::vector<Action>& done() const { return m_done; }
  size_t begun_to_heal() const { return m_healing; }

  // The promise that was broken, if any.
  const std::optional<std::string>& fault() const { return m_fault; }

  // A log of the events, for people. It is empty unless want_log() was called.
  void want_log() { m_wants_log = true; }
  const std::string& log() const { return m_log; }

  struct Figures {
    uint64_t steps = 0, answers = 0, good = 0;
    std::array<uint64_t, action_kinds> kinds{};  // counts the possible actions
  };
  const Figures& figures() const { return m_figures; }

 private:
  struct Client {
    Record record;
    bool done = false;  // it has a good answer, or one that will not change
  };
  struct Raw {
    enum class Place { server, node, gone } place = Place::server;
    unsigned times = 0;  // how often it was taken
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
  std::string left_to_run() const;
  std::string states_of(const std::string& id) const;
  bool pay(Node& node, unsigned to);
  void read_on(Node& node, gq::Walk& walk);
  Task::Call& call(Node& node, Task& task, Message message);
  void go_on_paying(Node& node, Task& task);
  void tell(Node& node, Task& task, Task::Step next);
  void begin_apart(Node& node, Task& task);
  void end_apart(Node& node, Task& task);
  void not_told(Node& node, Task& task);
  void hear_verdicts(Task& task, const Message& message);
  void judge(Node& node, Task& task);
  bool run(Node& node);
  static Record told(const Entry& entry, const gq::Job& job);
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
  std::map<unsigned, Raw> m_raws;        // likewise
  struct Lost {
    uint64_t step;
    std::string identity;
    std::set<std::string> ids;
  };
  std::vector<Lost> m_lost;  // stores that are gone, and their jobs
  // The identities that have accepted each job. An identity that may have lost its record, and has accepted the job
  // again, counts as another one.
  std::map<std::string, std::set<std::string>> m_accepted;
  std::set<std::string> m_complete;                           // jobs that were on enough nodes
  std::map<std::string, std::set<std::string>> m_ran;         // the identities that have started each job
  std::map<std::string, std::set<std::string>> m_taken_over;  // the identities that took each job over
  std::set<std::string> m_excused;                            // jobs that two nodes may run
  std::set<std::string> m_regrouped;  // jobs from a time when nodes had different groups, or in doubt
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
