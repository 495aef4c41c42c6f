// Scripts: what happens in a simulation, one action a line, in words. A script is a setting and actions; played again,
// it does the same, and an action that is not possible in that moment is passed over. So a script can be made shorter
// line by line, and stays readable when the code changes.
#pragma once

#include <array>
#include <string>
#include <vector>

namespace simulate {

// What a group is, for the whole of a script.
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
    submit,    // JOB NODE plain|id=N|key=N payload=N: a new client sends a job there
    again,     // JOB NODE: a client that has heard nothing good sends its job again
    raw,       // JOB: a client leaves a job with the server, and does not wait
    grab,      // JOB NODE: the node takes a job of that kind
    step,      // NODE JOB: what it does about the job goes on
    give_up,   // NODE JOB: and waits no longer for a call whose time is over
    deliver,   // FROM TO JOB: a message about the job arrives
    lose,      // FROM TO JOB: never
    twice,     // FROM TO JOB: and will arrive once more
    ask,       // NODE PEER: asks it how it is
    keep,      // NODE: its keeper looks who is gone, takes jobs over, and ends its return
    pay,       // NODE PEER: begins to tell it what it does not know yet
    run,       // NODE: begins to run a job
    time,      // MS: so much time passes
    pause,     // NODE: its process is stopped, and what is for it waits
    resume,    // NODE
    clock,     // NODE MS: its wall clock is so much ahead
    forget,    // NODE PEER: a command begins to take the peer out of its group
    join,      // NODE PEER: and to take it in again
    kill,      // NODE JOB: the short-lived process that adds the job dies, or its runner, or a command
    crash,     // NODE: its process dies
    power,     // NODE: its process dies, and what was not synced is lost
    start,     // NODE
    wipe,      // NODE: its store is lost; it begins anew, under its old name
    bad_sync,  // NODE: its next sync fails
    full,      // NODE: its disk is full
    room,      // NODE: it has room again
  };
  Kind kind;
  unsigned a = 0, b = 0;        // nodes
  unsigned n = 0;               // of the rest
  unsigned job = 0, which = 0;  // JOB is its number, and .N behind it the Nth of several; 0 is none
};
inline constexpr unsigned action_kinds = 27;

// The number of a node's debts to rep_N, in a job's place, is this and N; that of a job that it runs is the second,
// that of its keeper the third, and that of a command that changes its group the fourth.
inline constexpr unsigned debts_number = 1000, run_number = 2000, keep_number = 3000, group_number = 4000;

// The number by which the client, and the server, stands in an action's place for a node.
inline constexpr unsigned client = 100;

struct Script {
  Setting setting;
  std::vector<Action> actions;
};

// What is submitted, as the number of its action.
struct Submit {
  enum class What { plain, id, key };  // plain: a new ID, and no key
  What what = What::plain;
  unsigned which = 0;  // of a few IDs or keys
  unsigned payload = 0;
};
inline constexpr unsigned few = 4, payloads = 2;
unsigned encode(const Submit& submit);
Submit decode_submit(unsigned n);

const char* word_of(Action::Kind kind);
std::string to_text(const Action& action);
std::string to_text(const Script& script);
// Throws std::runtime_error with the line's number where it is none. `#` begins a comment.
Script parse_script(const std::string& text);

}  // namespace simulate
