// The world of a simulation: the nodes of a group, the server between them, clients, time, and what must hold.
//
// The decisions are gq's own code: what the store answers (answer_to), what a node says of a record (verdict_on), when
// a client is answered (Quorum), what becomes of a job whose record is in doubt (next_raw_step), what follows from what
// nodes hear of each other (Replica, Inquiry), and what the records make of the jobs (Fold). What this file adds is the
// world around them: a journal whose end is lost in a power cut where it was not synced, messages that are lost,
// doubled and come in any order, processes that die between any two steps. A node does one step at a time, and each
// effect is a step of its own.
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

// Smaller than the real ones, so that a search meets their ends.
inline constexpr Millis peer_timeout{200}, takeover{2000}, alone_after{3000}, check_interval{5000};

// A record on its way: the add of a job and what stands for its workload, or what a node says of one.
struct Record {
  gq::event::Add add{};
  uint64_t size = 0, sum = 0;
  std::optional<gq::event::State> state{};
};

struct Message {
  enum class Kind { submit, answer, take, verdicts, ask, asked };
  Kind kind;
  unsigned from = 0, to = 0;
  unsigned job = 0;                      // whose job it is about, by number; 0: none
  uint64_t call = 0;                     // what a verdict is for
  std::vector<Record> records{};         // submit (one), take
  std::string identity{}, session{};     // of the node that speaks, and of its process
  bool bad = false;                      // verdicts, asked: it does not listen to who has sent that
  std::vector<std::string> words{};      // verdicts
  gq::Answer answer{};                   // answer
  std::string id{};                      // answer: the job's
  std::vector<std::string> ids{};        // ask, asked: which it knows
  Lsn here = 0;                          // ask, asked: where the journal of the one that asks ended
  gq::FailureDetector::Round round = 0;  // ask, asked: in which it was asked
  Millis sent_at{0};                     // take, ask, verdicts, asked: when it was asked
  gq::AskReply reply{};                  // asked
};

// What stands in a journal.
struct Entry {
  Lsn lsn, end;
  gq::Event event{};
  gq::RecordHead head{};
  bool synced = false;
  bool doubtful = false;  // a sync that had to make it safe has failed
};

// What the keeper of a node does: looks at the jobs of other nodes, and takes over those that are its own to run.
struct Keeping {
  std::deque<gq::Takeover> due{};
  gq::RunHere runs{};
  std::optional<gq::Inquiry> inquiry{};
  std::optional<gq::TellThenAppend> effect{};
  std::vector<gq::Debt> debts{};  // on their way to one node
  Millis inquiry_began{0};
  size_t taken = 0;
};

// What a node is doing: queueing a job for a client or a server, or taking another node's. It is lost with the process.
struct Task {
  enum class Kind { add, raw, take, pay, apart, run, keep, forget, join };
  // In the order in which a task of that kind goes through them.
  enum class Step {
    // add, raw; take as far as judge
    begin,
    append,
    send,
    sync,
    sync_again,
    decide,
    find_known,
    go_on,
    wait,  // for another node, or for time to pass: of any kind
    record,
    record_sync,
    judge,
    reply,
    // pay, apart; keep, where it tells of a take-over
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
  uint64_t begun = 0;    // of the client's job: when this node took it
  uint64_t decided = 0;  // what the answer is
  unsigned from = 0;     // who asked
  unsigned job = 0;      // which, by number
  uint64_t call = 0;     // take: what to answer
  Millis asked_at{0};    // take: when that was sent
  std::vector<Record> records{};
  std::vector<gq::Answer> answers{};  // to each
  std::vector<std::string> words{};   // take: its verdicts
  std::vector<Lsn> entries{};         // where they stand
  // add, raw
  std::string id{};        // of the record that came
  bool has_ended = false;  // the job that is here already
  std::shared_ptr<gq::Quorum> quorum{};
  gq::Quorum::Append append{};
  std::deque<std::pair<unsigned, size_t>> to_send{};  // to which node, which of the jobs
  Step after = Step::go_on;                           // how it goes on then
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
  std::vector<size_t> told{};  // by record under way, the debt
  bool told_again = false;
  std::string identity{};              // of the one that gave the verdicts
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
  unsigned stores = 0, processes = 0, runners = 0;  // that it has had
  unsigned losses = 0;                              // of that store: power cuts in which it has lost something
  // What lasts:
  std::deque<Entry> journal;
  Lsn end = 0;
  std::unique_ptr<gq::MapTable> table;
  std::unique_ptr<gq::Fold> fold;
  std::set<std::string> settings;  // gq.json: the other nodes of its group
  std::set<std::string> joining;   // nodes of which the journal says that they are in it, and gq.json does not yet
  bool full = false;
  Millis skew{0};  // of its wall clock
  // The process:
  bool up = false, next_sync_fails = false;
  bool stopped = false;  // it does not go on, until it is woken
  bool is_going() const { return up && !stopped; }
  bool has_read_settings = false;
  std::unique_ptr<gq::Replica> replica;
  gq::Beat beat{};         // what returned.lock says
  bool has_lease = false;  // and whether it is held
  std::deque<Task> tasks;
  struct Other {
    std::optional<Task::Call> ask{};  // under way, once a second
    // What really was, for the oracles:
    Millis heard{0};                      // when it last answered
    std::map<std::string, Millis> ran{};  // when it last said that it runs a function
    std::optional<Lsn> first_end{};       // what it answered since this node is back, and whether it was tried since
    bool tried = false;
  };
  std::vector<Other> others;  // by number; its own is not used
  // What really was, for the oracles:
  std::set<std::string> safe;               // jobs of which a record was synced
  Millis back{0}, stopped_at{0}, heard{0};  // when it came back, was stopped, and heard of any other
  std::map<std::string, uint64_t> gone;     // identities of others that are no more: the step at which it heard of that
};

std::string text_of(const gq::Job& job);

class World {
 public:
  explicit World(const Setting& setting);

  // Does one thing; false where it is not possible now.
  bool act(const Action& action);
  // Something that may be possible now.
  Action any(Random& random) const;
  Action any_of_group(Random& random) const;

  // One node is given a job, and dies, or is stopped, and the others go on for as long as they need to take its jobs
  // over; then it is back.
  void go_on_without(unsigned node, bool crashes);
  // One node is another store from now on, and another one hears of that at once.
  void set_up_anew(unsigned node, unsigned asks);

  // All is mended, and goes on until nothing is left to do: then each client has been answered, and holds what it was
  // promised.
  void heal();

  // All that was done so far, and how much of that when heal() began.
  const std::vector<Action>& done() const { return m_done; }
  size_t begun_to_heal() const { return m_healing; }

  // What has not held, if anything.
  const std::optional<std::string>& fault() const { return m_fault; }

  // What happened, for people; empty unless `wanted`.
  void want_log() { m_wants_log = true; }
  const std::string& log() const { return m_log; }

  struct Figures {
    uint64_t steps = 0, answers = 0, good = 0;
    std::array<uint64_t, action_kinds> kinds{};  // of actions that were possible
  };
  const Figures& figures() const { return m_figures; }

 private:
  struct Client {
    Record record;
    bool done = false;  // it has had a good answer, or one that will not change
  };
  struct Raw {
    enum class Place { server, node, gone } place = Place::server;
    unsigned times = 0;  // that it was taken
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
  bool is_even() const;
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
  std::string what_is_owed() const;
  std::string disagreement() const;
  bool is_up(const Node& node, unsigned other) const;

  bool holds(const Node& node, const std::string& id) const;
  std::set<std::string> holders(const std::string& id) const;
  void check_answer(const Node& node, const Task& task, const std::string& id, const gq::Answer& answer);
  void check_given_back(const Task& task);

  const Setting m_setting;
  std::vector<Node> m_nodes;
  std::vector<Message> m_messages;
  std::map<unsigned, Client> m_clients;  // by the number of their job
  std::map<unsigned, Raw> m_raws;        // likewise
  struct Lost {
    uint64_t step;
    std::string identity;
    std::set<std::string> ids;
  };
  std::vector<Lost> m_lost;  // stores that are gone, and what they held
  // By job, the identities that have accepted it; one that may have lost that, and has accepted it again, is another.
  std::map<std::string, std::set<std::string>> m_accepted;
  std::set<std::string> m_complete;                           // jobs that as many nodes have had as have to
  std::map<std::string, std::set<std::string>> m_ran;         // by job, the identities that have started it
  std::map<std::string, std::set<std::string>> m_taken_over;  // by job, the identities that took it over
  std::set<std::string> m_excused;                            // jobs that two nodes may run
  std::set<std::string> m_regrouped;  // jobs that were there while the groups of nodes differed, or are in doubt
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
