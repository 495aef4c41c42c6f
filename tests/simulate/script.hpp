// A script is the record of a simulation: the configuration of the group (Setting), then one action a line, in words. A
// replay of the script does the same again. The replay skips an action that is not possible at that moment. So a script
// can be minimised line by line, and can still be replayed after the code has changed.
#pragma once

#include <array>
#include <string>
#include <vector>

namespace simulate {

// The configuration of a group, which stays the same for a whole script.
struct Setting {
  unsigned nodes = 3;                 // rep_1 and so on
  unsigned copies = 2;                // --copies
  bool once = true;                   // --run once; false: everywhere
  bool owe = false;                   // --owe
  bool after = false;                 // if jobs run once: a plain job is after the two plain jobs before it
  unsigned expires = 0;               // --expire of each job that a client sends, in milliseconds; 0: none
  std::array<unsigned, 10> serves{};  // by node: the functions that do not run there: 1 is f, 2 is g
  bool regroups = false;              // a search may change the group
  bool hurries = false;               // in a search, time passes fast
};

struct Action {
  enum class Kind {
    submit,    // JOB NODE plain|id=N|key=N payload=N: a new client sends a job to the node
    again,     // JOB NODE: a client without a good answer sends its job again
    raw,       // JOB: a client gives a job to the server, and does not wait
    grab,      // JOB NODE: the node takes a job of that kind
    step,      // NODE JOB: the next step of what the node does about the job
    give_up,   // NODE JOB: the same, but it stops waiting for a call that timed out
    deliver,   // FROM TO JOB: a message about the job arrives
    lose,      // FROM TO JOB: a message about the job is lost
    twice,     // FROM TO JOB: a message about the job will arrive once more
    ask,       // NODE PEER: the node asks the peer for its state
    keep,      // NODE: its keeper finds nodes that are gone, takes over jobs, and ends the node's return
    pay,       // NODE PEER: the node begins to send the peer what the peer does not know yet
    run,       // NODE: begins to run a job
    time,      // MS: this many milliseconds pass
    pause,     // NODE: its process is stopped, and messages to it wait
    resume,    // NODE: its process continues
    clock,     // NODE MS: its wall clock is this many milliseconds ahead
    forget,    // NODE PEER: a command begins to remove the peer from the node's group
    join,      // NODE PEER: a command begins to add the peer to the node's group again
    kill,      // NODE JOB: the short-lived process that adds the job dies, or its runner, or a command
    crash,     // NODE: its process dies
    power,     // NODE: its process dies, and unsynced records are lost
    start,     // NODE: a process of it starts again
    wipe,      // NODE: its store is lost, and it starts again with a new store under its old name
    bad_sync,  // NODE: its next sync fails
    full,      // NODE: its disk is full
    room,      // NODE: its disk has room again
  };
  Kind kind;
  unsigned a = 0, b = 0;  // nodes
  unsigned n = 0;         // other numbers
  // JOB is the number of the job, with .N if the action is about the Nth of several tasks or messages; 0: none.
  unsigned job = 0, which = 0;
};
inline constexpr unsigned action_kinds = 27;

// Some tasks of a node have one of these numbers in place of a job's number: debts_number + N for its debts to rep_N,
// run_number for a job that it runs, keep_number for its keeper, and group_number for a command that changes its group.
inline constexpr unsigned debts_number = 1000, run_number = 2000, keep_number = 3000, group_number = 4000;

// The number of the client, or of the server, in place of a node's number.
inline constexpr unsigned client = 100;

struct Script {
  Setting setting;
  std::vector<Action> actions;
};

// A submission, which the number of its action encodes.
struct Submit {
  enum class What { plain, id, key };  // plain: a new ID, and no key
  What what = What::plain;
  unsigned which = 0;  // selects one of a few IDs or keys
  unsigned payload = 0;
};
inline constexpr unsigned few = 4, payloads = 2;
unsigned encode(const Submit& submit);
Submit decode_submit(unsigned n);

const char* word_of(Action::Kind kind);
std::string to_text(const Action& action);
std::string to_text(const Script& script);
// Parses a script. `#` begins a comment. Throws std::runtime_error with the number of the line if the text is not a
// script.
Script parse_script(const std::string& text);

}  // namespace simulate
