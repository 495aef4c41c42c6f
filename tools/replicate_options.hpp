// The command-line options that the replicating programs share.
#pragma once

#include "frame.hpp"
#include "gq/replication/replicator.hpp"

namespace gq {

struct ReplicateOptions {
  Replicator::Config config;

  // `accepts`: the program accepts jobs. `serves`: the program may serve the node.
  void add(CLI::App& app, bool accepts, bool serves) {
    app.option_defaults()->group("Replication");
    add_duration(app, "--peer-timeout", config.peer_timeout, "How long another node may take to answer (default 5s)");
    not_empty(*app.add_option("--auth", config.keyfile, "Sign and check all transfers with the keys in this file")
                   ->type_name("FILE"));
    if (accepts)
      app.add_flag("--owe", config.owe, "Accept jobs while fewer nodes than the group asks for can be reached");
    if (!serves) return;
    add_duration(app, "--takeover", config.takeover,
                 "A node that has not answered for this long is gone (default 30s)");
    add_duration(app, "--alone-after", config.alone_after,
                 "Run own jobs again after this long if no other node answers (default 10m)");
  }

  // Returns the replicator of a store; nullptr if the store belongs to no group.
  std::unique_ptr<Replicator> open(Queue& store, const Common& common) {
    config.servers = common.servers;
    if (!store.group()) {
      if (!config.keyfile.empty() || config.owe)
        throw Error(Exit::usage, "cannot use --auth or --owe: the store belongs to no group (gq-replicate init)");
      return nullptr;
    }
    return std::make_unique<Replicator>(store, config);
  }
};

}  // namespace gq
