// gq-simulate searches for an order of events in which the decisions of a group's nodes break an invariant.
//
// It simulates groups of nodes (world.hpp) with random events. Each group has a seed, which repeats it exactly. At the
// end it removes all faults, and checks that every job ends and every message arrives. If an order of events breaks an
// invariant, gq-simulate makes the order as short as possible, and prints it as a script (script.hpp), which can be
// kept and replayed. It exits 0 if it found nothing, otherwise 1.
#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <sstream>

#include "world.hpp"

namespace simulate {
namespace {

struct Options {
  uint64_t seed = 1, episodes = UINT64_MAX;
  unsigned seconds = 10;
  std::vector<std::string> scripts;
  bool log = false, keep_long = false;
};

Setting any_setting(Random& random) {
  Setting s;
  s.nodes = 2 + static_cast<unsigned>(random.below(3));
  s.copies = random.chance(3) ? s.nodes : 1 + static_cast<unsigned>(random.below(s.nodes));
  s.once = random.chance(2);
  s.owe = random.chance(4);
  if (random.chance(3))
    for (unsigned n = 0; n < s.nodes; ++n) s.serves[n] = static_cast<unsigned>(random.below(3));
  s.regroups = random.chance(3);
  s.hurries = random.chance(2);
  return s;
}

// Plays a script. Returns the broken invariant, if any. With `mended`, all faults of the world are removed at the end
// of the script.
std::optional<std::string> play(const Script& script, bool mended, std::string* log = nullptr) {
  World world(script.setting);
  if (log) world.want_log();
  for (const auto& action : script.actions) {
    world.act(action);
    if (world.fault()) break;
  }
  if (!world.fault() && mended) world.heal();
  if (log) *log = world.log();
  return world.fault();
}

// Returns a shorter script that also breaks an invariant, and from which no line can be removed.
Script shorten(Script script, bool mended) {
  const size_t before = script.actions.size();
  for (size_t part = before / 2; part > 0; part /= 2) {
    for (size_t at = 0; at < script.actions.size();) {
      Script less = script;
      const auto begin = less.actions.begin() + static_cast<long>(at);
      less.actions.erase(begin, begin + static_cast<long>(std::min(part, script.actions.size() - at)));
      if (play(less, mended)) script = std::move(less);
      else at += part;
    }
  }
  return script.actions.size() < before ? shorten(std::move(script), mended) : script;
}

// Whether the action is one without which nothing happens.
bool is_basic(Action::Kind kind) {
  return kind == Action::Kind::submit || kind == Action::Kind::step || kind == Action::Kind::deliver ||
         kind == Action::Kind::start;
}

struct Sum {
  World::Figures figures;
  uint64_t episodes = 0;

  void add(const World::Figures& f) {
    ++episodes;
    figures.steps += f.steps;
    figures.answers += f.answers;
    figures.good += f.good;
    for (size_t i = 0; i < f.kinds.size(); ++i) figures.kinds[i] += f.kinds[i];
  }

  void print(uint64_t first, double seconds) const {
    std::printf("# %llu steps in %llu groups (seed %llu), %.0f a second; %llu answers, %llu of them good\n",
                static_cast<unsigned long long>(figures.steps), static_cast<unsigned long long>(episodes),
                static_cast<unsigned long long>(first), static_cast<double>(figures.steps) / seconds,
                static_cast<unsigned long long>(figures.answers), static_cast<unsigned long long>(figures.good));
    for (unsigned kind = 0; kind < action_kinds; ++kind)
      std::printf("%s%s %llu", kind ? ", " : "# ", word_of(static_cast<Action::Kind>(kind)),
                  static_cast<unsigned long long>(figures.kinds[kind]));
    std::printf("\n");
  }
};

int search(const Options& options) {
  const auto begun = std::chrono::steady_clock::now();
  auto passed = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count(); };
  Sum sum;
  for (uint64_t n = 0; n < options.episodes && passed() < options.seconds; ++n) {
    Random random(options.seed + n);
    Script script{any_setting(random), {}};
    if ((options.seed + n) % 8 == 7) script.setting.expires = 4000;
    script.setting.after = (options.seed + n) % 4 == 1;
    World world(script.setting);
    // In each group some kinds of actions do not happen, so that the other kinds coincide more often.
    const uint64_t left_out = random.next() & random.next();
    for (uint64_t left = 50 + random.below(1500); left > 0 && !world.fault(); --left) {
      auto any_node = [&] { return static_cast<unsigned>(random.below(script.setting.nodes)); };
      if (script.setting.hurries && random.chance(300)) {
        const unsigned node = any_node();
        world.go_on_without(node, random.chance(2));
      }
      if (script.setting.hurries && random.chance(100)) {
        const unsigned node = any_node();
        world.recreate(node, any_node());
      }
      if (const Action action = world.any(random);
          is_basic(action.kind) || !(left_out >> static_cast<unsigned>(action.kind) & 1))
        world.act(action);
    }
    // Try a power cut after a random part of the events.
    if (random.chance(4))
      for (unsigned node = 0; node < script.setting.nodes; ++node) world.act({.kind = Action::Kind::power, .a = node});
    if (!world.fault()) world.heal();
    script.actions = world.done();
    sum.add(world.figures());
    if (!world.fault()) continue;
    std::printf("# seed %llu: %s\n", static_cast<unsigned long long>(options.seed + n), world.fault()->c_str());
    if (!options.keep_long) {
      // That something does not end shows only after all faults were removed.
      const bool mended = !play(script, false);
      if (mended) script.actions.resize(world.begun_to_heal());
      script = shorten(std::move(script), mended);
    }
    std::printf("%s", to_text(script).c_str());
    sum.print(options.seed, passed());
    return 1;
  }
  sum.print(options.seed, passed());
  return 0;
}

int play_files(const Options& options) {
  int code = 0;
  for (const auto& name : options.scripts) {
    std::ifstream file(name);
    std::stringstream text;
    text << file.rdbuf();
    if (!file) throw std::runtime_error("cannot read " + name);
    std::string log;
    auto fault = play(parse_script(text.str()), true, options.log ? &log : nullptr);
    std::printf("%s", log.c_str());
    if (fault) std::printf("%s: %s\n", name.c_str(), fault->c_str());
    if (fault) code = 1;
  }
  return code;
}

}  // namespace
}  // namespace simulate

int main(int argc, char** argv) try {
  using namespace simulate;
  Options options;
  CLI::App app("Searches the decisions of a group's nodes for orders of events that break a promise.");
  app.add_option("--seed", options.seed, "The first seed; each group takes the next one");
  app.add_option("--seconds", options.seconds, "How long to search")->capture_default_str();
  app.add_option("--groups", options.episodes, "Play at most this many groups");
  app.add_flag("--log", options.log, "Print the events of the scripts");
  app.add_flag("--long", options.keep_long, "Print a script that breaks a promise in full, not shortened");
  app.add_option("SCRIPT", options.scripts, "Play these scripts instead of a search");
  CLI11_PARSE(app, argc, argv);
  return options.scripts.empty() ? search(options) : play_files(options);
} catch (const std::exception& e) {
  std::cerr << "gq-simulate: " << e.what() << "\n";
  return 65;
}
