// gq-replicate: the replication worker alone, for a node without a gq-worker. It stores jobs that other nodes accept,
// and sends other nodes what they miss. It also makes a store join or leave a group, and sends the jobs of a stream to
// a node. It runs no commands.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <set>

#include "frame.hpp"
#include "gq/base/fd.hpp"
#include "gq/base/log.hpp"
#include "gq/base/notify.hpp"
#include "gq/base/text.hpp"
#include "gq/base/ulid.hpp"
#include "gq/database/open_store.hpp"
#include "gq/replication/debts.hpp"
#include "gq/store/cleaner.hpp"
#include "gq/store/exchange.hpp"
#include "gq/store/owners.hpp"
#include "gq/work/runner.hpp"
#include "replicate_options.hpp"
#include "work_options.hpp"

namespace gq {
namespace {

struct Options {
  ReplicateOptions replicate;
  std::string to;
  bool hand_over = false;
  std::string as, group, run;
  uint64_t copies = 0;
  bool renew = false;
  std::string forget;
};

// Ensures that no program uses the store while the node's name or identity changes.
class Unused {
 public:
  explicit Unused(const Directory& store)
      : m_users(store.open(index_users_name, O_RDWR | O_CREAT)),
        m_lock(store.open(replicate_lock_name, O_RDWR | O_CREAT)) {
    if (!try_lock(m_users.get(), FileLock::Mode::exclusive) || !try_lock(m_lock.get(), FileLock::Mode::exclusive))
      throw Error(Exit::retry, "cannot change what the node is: other programs use the store; end them first");
  }

 private:
  Fd m_users, m_lock;
};

Exit init(const Options& o, const Common& common) {
  Settings settings;
  Group group;
  group.self.node = o.as;
  group.members = split(o.group, ',');
  std::set<std::string> names(group.members.begin(), group.members.end());
  for (const auto& name : group.members)
    if (!is_node_name(name))
      throw Error(Exit::usage, "cannot use the node name " + printable(name) +
                                   ": it is not rep_ and 1 to 60 letters, digits, - or _");
  if (names.size() != group.members.size())
    throw Error(Exit::usage, "cannot use the group " + printable(o.group) + ": a node is there twice");
  if (!group.has(o.as))
    throw Error(Exit::usage, "cannot be " + printable(o.as) + ": it is not in the group " + printable(o.group));
  if (group.members.size() > 64) throw Error(Exit::usage, "cannot use a group of more than 64 nodes");
  try {
    // Copy the settings from the database to the directory.
    if (has_database(common.store)) open_store(common.store, false);
  } catch (const Error& e) {
    if (e.code() != Exit::config) throw;  // there may be no store yet
  }
  const bool is_there = file_exists(store_directory(common.store));
  Group old;
  if (is_there)
    if (const Directory before = open_store_directory(common.store, false); before.has(settings_name))
      old = read_settings(before).group;
  // Settings that the user does not give stay unchanged.
  group.copies = static_cast<uint32_t>(
      o.copies ? o.copies : std::min<size_t>(old.members.size() > 1 ? old.copies : 2, group.members.size()));
  if (group.copies > group.members.size())
    throw Error(Exit::usage, "cannot have " + std::to_string(group.copies) + " copies in a group of " +
                                 counted(group.members.size(), "node"));
  group.once = o.run.empty() ? old.once : o.run == "once";
  if (old && old.id() != group.id())
    log(Level::warning, "the group was " + old.id() + " and is now " + group.id() +
                            ", which is another group: run init so on every node, or they refuse this one");
  if (old && old.self.node != o.as)
    log(Level::warning, "the store was " + old.self.node + " and is now " + o.as + ": what other nodes have for " +
                            old.self.node + " does not come here");
  std::unique_ptr<Queue> store(new Queue(open_store(common.store, true)));
  const Directory directory = store->directory();
  settings = read_settings(directory);
  bool same = settings.group && settings.group.self.node == o.as && !o.renew;
  // A node that is in the group from the beginning is owed all jobs; a node that joins later is owed the jobs that are
  // unfinished at that moment.
  auto known = known_peers(*store);
  std::vector<std::string> records;
  for (const auto& name : group.members) {
    if (name == o.as || (known.count(name) && known[name].position != UINT64_MAX)) continue;
    records.push_back(joined_record(name, settings.group ? store->end() : 0));
  }
  for (const auto& [name, peer] : known)
    if (!group.has(name) && peer.position != UINT64_MAX) records.push_back(forgotten_record(name));
  if (!records.empty()) store->commit({records.begin(), records.end()}, Room::completion);
  store.reset();
  std::optional<Unused> unused;
  if (!same) {
    unused.emplace(directory);
    remove_index(directory);  // the index depends on the node's identity
  }
  group.self.store = same ? settings.group.self.store : new_ulid();
  settings.group = group;
  write_settings(directory, settings, true);
  unused.reset();
  open_store(common.store, false);  // copies the settings to the database, if the store has one
  return Exit::ok;
}

// Removes a node from the group, in two steps: removes it from the members in gq.json, and appends a record that
// nothing is owed to it. If the program is killed between the two, the process that serves this node writes the record,
// or the next `forget` of the same node does.
Exit forget(const Options& o, const Common& common) {
  Queue store = open_store(common.store, false);
  Settings settings = read_settings(store.directory());
  Group& g = settings.group;
  auto known = known_peers(store);
  if (!g || (!g.has(o.forget) && !known.count(o.forget)) || o.forget == g.self.node)
    throw Error(Exit::usage, "cannot forget " + printable(o.forget) + ": it is not another node of this store's group");
  if (o.forget == g.members.front())
    throw Error(Exit::usage, "cannot forget " + o.forget +
                                 ": the group is known by its first node; make a new group with gq-replicate init");
  auto member = std::find(g.members.begin(), g.members.end(), o.forget);
  const bool there = member != g.members.end();
  if (there) g.members.erase(member);
  if (g.copies > g.members.size())
    throw Error(Exit::usage, "cannot forget " + o.forget + ": " + std::to_string(g.copies) +
                                 " copies would be more than there are nodes");
  if (there) write_settings(store.directory(), settings, true);
  open_store(common.store, false);  // copies the settings to the database, if the store has one
  if (there || known[o.forget].position != UINT64_MAX) store.commit({forgotten_record(o.forget)}, Room::completion);
  return Exit::ok;
}

class StreamSender {
 public:
  StreamSender(Ledger& ledger, const Options& o, const Common& common)
      : m_ledger(ledger),
        m_options(o),
        m_keys(o.replicate.config.keyfile.empty() ? Keys() : Keys(o.replicate.config.keyfile)),
        m_link(std::make_unique<Link>(common.servers, ledger.group().self, ledger.group().id(), o.to, o.to, m_keys)) {
    m_target = m_link->call("ask", {}, o.replicate.config.peer_timeout).store;
  }

  void add(NewJob job) {
    if (!job.parents.empty()) return skip(job.add.id + ": a job that is after others cannot be sent; import it");
    const Group& group = m_ledger.group();
    if (job.add.node.empty()) {
      job.add.node = group.self.node;
      job.add.store = group.self.store;
      job.add.once = group.once;
      job.encode();
    }
    put(job.add.id, job.head + std::string(job.data), true);
    if (m_body.size() >= batch) flush();
  }

  void add(event::State state) {
    const Self& self = m_ledger.group().self;
    if (state.node.empty()) {
      state.node = self.node;
      state.store = self.store;
    }
    state.from = self.node;
    state.from_store = self.store;
    put(state.id, encode_record(state), false);
    if (m_body.size() >= batch) flush();
  }

  void flush() {
    send();
    if (!m_handed.empty()) hand_over();
    send();
  }

  // Returns 75 if the node has refused some jobs; 65 if it has other jobs with the IDs or keys of some, because it does
  // not help to send these again.
  Exit result() const {
    if (m_not_sent > 0)
      log(Level::error,
          "cannot send all: " + counted(m_not_sent, "record") + (m_not_sent == 1 ? " is" : " are") + " not there");
    return m_refused ? Exit::retry : m_not_sent ? Exit::bad_data : Exit::ok;
  }

  // Reports a record that cannot be sent. The records after it are still sent.
  void skip(const std::string& what) {
    if (m_not_sent++ < most_named) log(Level::error, what);
  }

 private:
  static constexpr size_t batch = 1 << 20;
  static constexpr uint64_t most_named = 100;  // the most records whose failure is reported by a line each

  struct Record {
    std::string id;
    bool add;
  };

  void put(const std::string& id, const std::string& record, bool add) {
    m_body += record;
    m_records.push_back({id, add});
  }

  void send() {
    if (m_records.empty()) return;
    Sending sending(std::move(m_link), m_body, m_options.replicate.config.peer_timeout, [this](const Reply& reply) {
      if (reply.store != m_target) throw Error(Exit::retry, m_options.to + " is another store than before");
    });
    auto lines = sending.finish();
    m_link = sending.take_link();
    for (size_t i = 0; i < lines.size(); ++i) {
      const auto& [id, add] = m_records[i];
      PeerVerdict verdict = parse_verdict(lines[i].line);
      if (verdict.kind == PeerVerdict::Kind::nonsense)
        throw Error(Exit::retry, m_options.to + " sent an invalid answer");
      if (verdict.kind == PeerVerdict::Kind::conflict)
        skip(id + ": " + m_options.to + " has another job with this ID or key");
      if (verdict.kind == PeerVerdict::Kind::refused) skip(id + ": " + m_options.to + " refuses it: " + verdict.reason);
      m_refused = m_refused || verdict.kind == PeerVerdict::Kind::refused;
      if (m_options.hand_over && add && verdict.kind == PeerVerdict::Kind::have) m_handed.push_back(id);
    }
    m_body.clear();
    m_records.clear();
  }

  // Hands the collected jobs over: the new node owns them from now on. Records this on this node before it sends the
  // jobs, so that no job runs on this node after it was sent.
  void hand_over() {
    std::vector<std::pair<std::string, std::string>> states;
    auto decide = [&](Fold& fold) {
      states.clear();
      std::vector<std::string> records;
      for (const auto& id : m_handed) {
        auto job = fold.get(id);
        const Self& self = m_ledger.group().self;
        if (!job || !job->once || job->node != self.node || job->store != self.store || job->state == State::finished ||
            job->state == State::dead || !can_change_owner(*job))
          continue;
        if (!job->owner.empty() && owner_alive(m_ledger.owners_directory(), job->owner)) continue;
        job->node = m_options.to;
        job->store = m_target;
        ++job->term;
        ++job->version;
        job->changed_at = now_ms();
        event::State state = state_of(id, *job);
        records.push_back(encode_record(state));
        state.from = self.node;
        state.from_store = self.store;
        states.push_back({id, encode_record(state)});
      }
      return records;
    };
    m_ledger.commit(decide, Room::completion);
    m_handed.clear();
    for (const auto& [id, record] : states) put(id, record, false);
  }

  Ledger& m_ledger;
  const Options& m_options;
  const Keys m_keys;
  std::unique_ptr<Link> m_link;
  std::string m_target;
  std::string m_body;
  std::vector<Record> m_records;
  bool m_refused = false;
  uint64_t m_not_sent = 0;
  std::vector<std::string> m_handed;
};

Exit send_stream(const Options& o, Ledger& ledger, const Common& common) {
  if (!ledger.group().has(o.to) || o.to == ledger.group().self.node)
    throw Error(Exit::usage, "cannot send to " + printable(o.to) + ": it is not another node of this store's group");
  StreamSender sender(ledger, o, common);
  StreamReader stream(STDIN_FILENO, UINT64_MAX, [&](const std::string& what) { sender.skip(what); });
  try {
    while (auto item = stream.next()) std::visit([&](auto& said) { sender.add(std::move(said)); }, *item);
  } catch (const Error& e) {
    if (e.code() == Exit::bad_data) sender.flush();  // the records before the error are good
    throw;
  }
  sender.flush();
  return sender.result();
}

Exit serve(Options& o, const Common& common) {
  Queue store = open_store(common.store, false);
  if (!store.group()) throw Error(Exit::config, "cannot replicate: the store belongs to no group (gq-replicate init)");
  if (!o.to.empty()) return send_stream(o, store, common);
  if (o.hand_over) throw Error(Exit::usage, "cannot use --hand-over without --to");
  block_signals();
  set_patience(worker_patience);
  auto replicator = o.replicate.open(store, common);
  replicator->start();
  Cleaner cleaner(store);
  cleaner.start();
  notify("READY=1");
  sigset_t set = stop_signals();
  int signal = 0;
  ::sigwait(&set, &signal);
  stop_waiting();
  notify("STOPPING=1");
  replicator->leave(o.replicate.config.peer_timeout, stop_signal_waits);
  return Exit::ok;
}

}  // namespace
}  // namespace gq

int main(int argc, char** argv) {
  gq::Options o;
  gq::Program program;
  std::function<gq::Exit(gq::Options&, const gq::Common&)> action = gq::serve;
  program.name = "gq-replicate";
  program.purpose = "Serves a node of a replication group; sets up a group; updates a node.";
  program.usage = {"[OPTIONS]", "[OPTIONS] --to NODE <records", "SUBCOMMAND [OPTIONS]"};
  program.example = "gq-replicate init --as rep_1 --group rep_1,rep_2,rep_3 --copies 2";
  program.options = [&](CLI::App& app) {
    o.replicate.add(app, false, true);
    gq::not_empty(*app.add_option("--to", o.to, "Send the records on standard input to this node")->type_name("NODE"));
    app.add_flag("--hand-over", o.hand_over, "With --to: the node owns those jobs from then on");
    auto* init = app.add_subcommand("init", "Make the store a node of a group, or change the group");
    init->add_option("--as", o.as, "The name of this node, rep_...")->type_name("NAME")->required();
    init->add_option("--group", o.group, "The names of all nodes, separated by commas, the same on each")
        ->type_name("LIST")
        ->required();
    gq::add_count(*init, "--copies", o.copies,
                  "Nodes that have a job before its client is answered (default of a new group: 2)", 1, 64);
    init->add_option("--run", o.run, "all: every node runs each job (default of a new group); once: one does")
        ->type_name("MODE")
        ->check(CLI::IsMember({"all", "once"}));
    init->add_flag("--renew", o.renew,
                   "The store is a copy, or was restored from one: the others tell it what it has missed");
    init->final_callback([&] { action = gq::init; });
    auto* forget = app.add_subcommand(
        "forget", "Take a node that will not return out of the group, as far as this one is concerned");
    forget->add_option("NODE", o.forget, "Its name")->required();
    forget->final_callback([&] { action = gq::forget; });
  };
  program.body = [&](const gq::Common& common) { return action(o, common); };
  return gq::run_program(argc, argv, program);
}
