// Scripts: the actions of a simulation in words, one a line. A script has a setting and actions. Played again, it does
// the same. An action that is not possible at that moment is skipped. So a script can be shortened line by line, and
// stays readable when the code changes.
#pragma once

#include <array>
#include <string>
#include <vector>

namespace simulate {

// The properties of a group that stay the same for a whole script.
struct Setting {
  unsigned nodes = 3;                 // rep_1 and so on
  unsigned copies = 2;                // --copies
  bool once = true;                   // --run once, or everywhere
  bool owe = false;                   // --owe
  std::array<unsigned, 10> serves{};  // by node, the functions that do not run there: 1 is f, 2 is g
  bool regroups = false;              // whether a search changes the group
  bool hurries = false;               // whether in a search time passes fast
};

struct Action {
  enum class Kind {
    submit,    // JOB NODE plain|id=N|key=N payload=N: a new client sends a job to the node
    again,     // JOB NODE: a client without a good answer sends its job again
    raw,       // JOB: a client leaves a job with the server, and does not wait
    grab,      // JOB NODE: the node takes a job of that kind
    step,      // NODE JOB: the next step of what the node does about the job
    give_up,   // NODE JOB: the same, but it stops waiting for a call that timed out
    deliver,   // FROM TO JOB: a message about the job arrives
    lose,      // FROM TO JOB: a message about the job is lost
    twice,     // FROM TO JOB: a message about the job will arrive once more
    ask,       // NODE PEER: asks the peer for its state
    keep,      // NODE: its keeper finds nodes that are gone, takes jobs over, and ends the node's return
    pay,       // NODE PEER: begins to tell the peer what it does not know yet
    run,       // NODE: begins to run a job
    time,      // MS: this much time passes
    pause,     // NODE: its process is stopped, and its messages wait
    resume,    // NODE
    clock,     // NODE MS: its wall clock is this much ahead
    forget,    // NODE PEER: a command begins to take the peer out of its group
    join,      // NODE PEER: a command begins to take the peer into its group again
    kill,      // NODE JOB: the short-lived process that adds the job dies, or its runner, or a command
    crash,     // NODE: its process dies
    power,     // NODE: its process dies, and unsynced records are lost
    start,     // NODE
    wipe,      // NODE: its store is lost, and it begins again under its old name
    bad_sync,  // NODE: its next sync fails
    full,      // NODE: its disk is full
    room,      // NODE: it has room again
  };
  Kind kind;
  unsigned a = 0, b = 0;        // nodes
  unsigned n = 0;               // other numbers
  unsigned job = 0, which = 0;  // JOB is the job's number, with .N for the Nth of several tasks or messages; 0: none
};
inline constexpr unsigned action_kinds = 27;

// Some tasks of a node have a number in place of a job's: its debts to rep_N have debts_number + N, a job that it runs
// has run_number, its keeper keep_number, and a command that changes its group group_number.
inline constexpr unsigned debts_number = 1000, run_number = 2000, keep_number = 3000, group_number = 4000;

// The number that stands for the client, or the server, in place of a node's.
inline constexpr unsigned client = 100;

struct Script {
  Setting setting;
  std::vector<Action> actions;
};

// A submission, as the number of its action.
struct Submit {
  enum class What { plain, id, key };  // plain: a new ID, and no key
  What what = What::plain;
  unsigned which = 0;  // which of a few IDs or keys
  unsigned payload = 0;
};
inline constexpr unsigned few = 4, payloads = 2;
unsigned encode(const Submit& submit);
Submit decode_submit(unsigned n);

const char* word_of(Action::Kind kind);
std::string to_text(const Action& action);
std::string to_text(const Script& script);
// Throws std::runtime_error with the line's number if the text is no script. `#` begins a comment.
Script parse_script(const std::string& text);

}  // namespace simulate
