// gq-simulate-disk: searches for a moment at which a crash or a failing disk makes the store break its guarantees.
//
// It plays histories (history.hpp). A seed repeats a history exactly. In short histories it cuts the power at each
// call; in long histories any fault may happen at any time. When a history breaks an invariant, it prints the options
// that play this history again, and which invariant. Exit status: 0 if it found nothing, else 1.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iostream>

#include "history.hpp"

namespace simulate {
namespace {

struct Options {
  uint64_t seed = 1, histories = UINT64_MAX;
  unsigned seconds = 10;
  std::string plan, of;
  bool log = false;
};

const std::vector<std::string> kinds{"journal", "store", "mirror"};  // as in Of

// As text: seed:history:kind:call:turn.
std::string to_text(const Plan& plan) {
  return std::to_string(plan.seed) + ":" + kinds[static_cast<size_t>(plan.of)] +
         (plan.is_short ? ":short:" : ":long:") + std::to_string(plan.cut_at) + ":" + std::to_string(plan.turn);
}

Plan parse_plan(const std::string& text) {
  char of[8] = "", length[6] = "";
  unsigned long long seed = 0, cut_at = 0, turn = 0;
  const int found = std::sscanf(text.c_str(), "%llu:%7[a-z]:%5[a-z]:%llu:%llu", &seed, of, length, &cut_at, &turn);
  const auto kind = std::find(kinds.begin(), kinds.end(), of);
  const bool is_short = std::string(length) == "short";
  if (found != 5 || kind == kinds.end() || (!is_short && std::string(length) != "long"))
    throw std::runtime_error("a plan is SEED:journal|store|mirror:short|long:CALL:TURN");
  return {seed, static_cast<Of>(kind - kinds.begin()), is_short, cut_at, turn};
}

struct Sum {
  uint64_t plays = 0, histories = 0, calls = 0, acknowledged = 0, losses = 0, cuts = 0;
  void add(const Played& p) {
    ++plays;
    calls += p.calls;
    acknowledged += p.acknowledged;
    losses += p.losses;
    cuts += p.was_cut;
  }
};

class Search {
 public:
  explicit Search(const Options& options) : m_options(options) {}

  int run() {
    struct Share {
      Of of;
      bool is_short;
      uint64_t calls = 0;
    };
    std::vector<Share> shares;
    for (size_t kind = 0; kind < kinds.size(); ++kind)
      if (m_options.of.empty() || m_options.of == kinds[kind])
        for (const bool is_short : {true, false}) shares.push_back({static_cast<Of>(kind), is_short});
    for (uint64_t n = 0; n < m_options.histories && passed() < m_options.seconds && !m_found; ++n) {
      ++m_sum.histories;
      // A short history is played hundreds of times. So choose the kind that has made the fewest calls.
      Share& next = *std::min_element(shares.begin(), shares.end(),
                                      [](const Share& a, const Share& b) { return a.calls < b.calls; });
      const uint64_t before = m_sum.calls;
      if (next.is_short) search_short({m_options.seed + n, next.of});
      else search_long({m_options.seed + n, next.of});
      next.calls += m_sum.calls - before;
    }
    auto number = [](uint64_t n) { return static_cast<unsigned long long>(n); };
    std::printf(
        "# %llu histories (seed %llu) played %llu times, %llu calls of the disk, %.0f a second; %llu records "
        "acknowledged, power cut at %llu calls, %llu pages lost\n",
        number(m_sum.histories), number(m_options.seed), number(m_sum.plays), number(m_sum.calls),
        static_cast<double>(m_sum.calls) / passed(), number(m_sum.acknowledged), number(m_sum.cuts),
        number(m_sum.losses));
    return m_found ? 1 : 0;
  }

 private:
  double passed() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - m_begun).count(); }

  bool goes_on(const Plan& plan, Played* played = nullptr) {
    const Played p = play(plan);
    m_sum.add(p);
    if (played) *played = p;
    if (!p.fault) return true;
    std::printf("# --play %s: %s\n", to_text(plan).c_str(), p.fault->c_str());
    m_found = true;
    return false;
  }

  // Cuts the power at each call. At each call it tries several choices of what the disk keeps.
  void search_short(Plan plan) {
    constexpr uint64_t turns = 3;
    Played last;
    plan.is_short = true;
    for (plan.cut_at = 1; plan.cut_at == 1 || last.was_cut; ++plan.cut_at)
      for (plan.turn = 0; plan.turn < turns; ++plan.turn)
        if (!goes_on(plan, &last)) return;
  }

  void search_long(Plan plan) {
    constexpr uint64_t turns = 10;
    for (plan.turn = 0; plan.turn < turns; ++plan.turn)
      if (!goes_on(plan)) return;
  }

  const Options m_options;
  const std::chrono::steady_clock::time_point m_begun = std::chrono::steady_clock::now();
  Sum m_sum;
  bool m_found = false;
};

int play_again(const Options& options) {
  std::string log;
  const Played played = play(parse_plan(options.plan), options.log ? &log : nullptr);
  std::printf("%s", log.c_str());
  if (played.fault) std::printf("%s\n", played.fault->c_str());
  return played.fault ? 1 : 0;
}

}  // namespace
}  // namespace simulate

int main(int argc, char** argv) try {
  using namespace simulate;
  Options options;
  CLI::App app("Searches for a moment at which a crash or a failing disk makes the store break its promise.");
  app.add_option("--seed", options.seed, "The first seed; each history takes the next one");
  app.add_option("--seconds", options.seconds, "How long to search")->capture_default_str();
  app.add_option("--histories", options.histories, "Play no more than so many");
  app.add_option("--of", options.of, "Play only histories of one kind")->check(CLI::IsMember(kinds));
  app.add_option("--play", options.plan,
                 "Play this one again: SEED:journal|store|mirror:short|long:CALL:TURN, as it was printed");
  app.add_flag("--log", options.log, "With --play: print each call");
  CLI11_PARSE(app, argc, argv);
  return options.plan.empty() ? Search(options).run() : play_again(options);
} catch (const std::exception& e) {
  std::cerr << "gq-simulate-disk: " << e.what() << "\n";
  return 65;
}
