#include "machine.hpp"

#include <vector>

#include "gq/base/error.hpp"

namespace simulate {
namespace {

constexpr uint64_t most_calls = 200'000;  // the limit in one boot: a process that makes more calls does not end

}  // namespace

Machine::Setting Machine::setting_of(const Plan& plan, Random& random) {
  auto any = [&](std::initializer_list<uint64_t> values) { return *(values.begin() + random.below(values.size())); };
  Setting s{};
  s.page_size = any({64, 512, 4096});
  s.segment_size = any({200, 600, 3000, 100'000});
  s.processes = 1 + random.below(3);
  s.steps = plan.is_short ? 1 + random.below(4) : 2 + random.below(30);
  s.boots = plan.is_short ? 2 : 1 + random.below(4);
  s.turns = static_cast<unsigned>(any({1, 2, 5, 40}));
  s.kills = plan.is_short || random.chance(2) ? 0 : 30 + static_cast<unsigned>(random.below(300));
  s.cleans = random.chance(2);
  s.fills = random.chance(4);
  if (random.chance(2)) s.faults.write_backs = static_cast<unsigned>(any({2, 8, 30}));
  if (random.chance(2)) s.faults.losses = static_cast<unsigned>(any({2, 5, 20}));
  if (random.chance(4)) s.faults.rereads = 4;
  // A page of the index that was lost and is read again looks like any other: the index has no checksums.
  if (plan.of != Of::journal) s.faults.rereads = 0;
  if (random.chance(4)) s.faults.calls = static_cast<unsigned>(any({20, 100, 400}));
  if (s.faults.calls && random.chance(2)) s.faults.overwrites = static_cast<unsigned>(any({2, 10}));
  if (plan.of != Of::journal && random.chance(4)) {
    // An empty store needs 3 MiB: two spare segments, one of which is the last segment, and the space of a third one.
    s.disk_size = any({4'000'000, 4'300'000, 4'800'000});
    s.page_size = 4096;
    s.fills = false;
  }
  s.runs = static_cast<unsigned>(any({1, 1, 10, 60}));
  return s;
}

Machine::Machine(const Plan& plan, std::string* log)
    : m_plan(plan),
      m_random(plan.seed),
      m_setting(setting_of(plan, m_random)),
      m_disk(m_setting.page_size, plan.seed ^ (plan.cut_at * 1000003 + plan.turn) << 20),
      m_log(log) {
  // The index is closed between visits, and nobody reads it again before it is sealed.
  m_disk.set_forgets_errors(plan.of == Of::journal);
  if (m_setting.disk_size) m_disk.set_size(m_setting.disk_size);
}

Played Machine::play() {
  for (size_t boot = 0; boot < m_setting.boots && !m_played.fault; ++boot) {
    ++m_played.boots;
    note("boot");
    run_boot(boot == 0);
    m_disk.set_faults({});
    m_disk.set_full(false);
    if (m_is_cut || m_random.chance(2)) {
      m_disk.lose_power();
      note("power cut\n" + m_disk.to_text());
    }
    stop();
    if (!m_played.fault) check_alone(boot + 1 == m_setting.boots);
  }
  m_played.losses = m_disk.losses();
  return m_played;
}

void Machine::fault(const std::string& what) {
  if (!m_played.fault) m_played.fault = what;
  note("FAULT: " + what);
}

// Lets another process run.
void Machine::pause() {
  // The holds are those of this thread, which is every process.
  m_current->holds = gq::exchange_holds({});
  m_current->fiber->yield();
  gq::exchange_holds(m_current->holds);
}

// Called before each call of a process. False: the process dies.
bool Machine::runs(SimulatedProcess&, const char* call, const std::string& what) {
  if (m_log) note("P" + std::to_string(m_current ? m_current->number : 0) + " " + call + " " + what);
  ++m_played.calls;
  if (++m_boot_calls == most_calls) fault("a process does not come to its end");
  if (!m_current) return !m_played.fault || m_boot_calls < most_calls;
  if (m_boot_calls == m_cut_at) {
    m_is_cut = m_played.was_cut = true;
    note("all die");
  }
  if (m_is_cut || m_played.fault) return false;
  // A process dies more often after a call that has failed, before it has cleaned up.
  constexpr unsigned more_often = 20;
  if (m_setting.kills && m_random.chance(m_disk.has_failed() ? m_setting.kills / more_often + 1 : m_setting.kills)) {
    note("killed");
    return false;
  }
  if (m_random.chance(m_setting.turns)) {
    pause();
    if (m_is_cut || m_played.fault) return false;
  }
  if (m_setting.fills && m_random.chance(50)) m_disk.set_full(m_random.chance(2));
  return true;
}

void Machine::wait(SimulatedProcess&) {
  m_waits = true;
  if (m_current) pause();
}

void Machine::run_boot(bool first) {
  m_boot_calls = 0;
  m_is_cut = false;
  m_cut_at = !first || m_plan.is_short ? first ? m_plan.cut_at : 0 : m_random.chance(3) ? 0 : 1 + m_random.below(2000);
  if (!first && !m_plan.is_short && m_random.chance(2)) m_cut_at = 1 + m_random.below(500);
  m_disk.set_faults(m_setting.faults);
  std::vector<std::unique_ptr<Process>> processes;
  for (size_t n = 0; n < m_setting.processes; ++n) {
    auto& p = *processes.emplace_back(make_process(m_random.next(), static_cast<long>(n) + 1));
    p.fiber = std::make_unique<Fiber>([this, &p] { live(p); });
  }
  for (auto left = processes.size(); left > 0;) {
    if (!m_current || m_current->fiber->has_ended() || m_waits || m_random.chance(m_setting.runs)) {
      size_t at = m_random.below(processes.size());
      while (processes[at]->fiber->has_ended()) at = (at + 1) % processes.size();
      m_current = processes[at].get();
      m_waits = false;
    }
    gq::use_disk(&m_current->disk);
    m_current->fiber->resume();
    left -= m_current->fiber->has_ended();
  }
  gq::use_disk(nullptr);
  m_current = nullptr;
}

void Machine::live(Process& p) {
  for (size_t left = m_setting.steps; left > 0 && !p.disk.is_dead(); --left) {
    try {
      if (!is_open(p) || p.random.chance(20)) open(p);
      step(p);
    } catch (const gq::Error& e) {
      note("P" + std::to_string(p.number) + " " + e.what());
      if (e.code() != gq::Exit::storage && e.code() != gq::Exit::retry && !p.disk.is_dead())
        fault(std::string("a process says: ") + e.what());
      give_up(p);
    }
  }
  close(p);
  p.disk.die();
}

void Machine::check_alone(bool last) {
  const auto p = make_process(1, 0);
  m_boot_calls = 0;
  gq::use_disk(&p->disk);
  // Each file may still report that a page was lost before.
  constexpr int most_tries = 5;
  for (int tries = 1;; ++tries) try {
      open(*p);
      check(*p, last);
      break;
    } catch (const gq::Error& e) {
      note(e.what());
      if (tries == most_tries) {
        fault(std::string("nothing fails any more, but a process says: ") + e.what());
        break;
      }
    }
  close(*p);
  p->disk.die();
  gq::use_disk(nullptr);
}

}  // namespace simulate
