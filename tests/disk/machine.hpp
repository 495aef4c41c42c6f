// A machine: processes over a simulated disk. They take turns even within calls, and may die at any call, until the
// power is cut. Then new processes continue with what the disk has kept. A history (history.hpp) says what the
// processes do, and what must hold.
#pragma once

#include <memory>
#include <string>

#include "fiber.hpp"
#include "gq/base/short_hold.hpp"
#include "history.hpp"

namespace simulate {

class Machine : protected SimulatedProcess::Kernel {
 public:
  Machine(const Plan& plan, std::string* log);
  Played play();

 protected:
  struct Setting {
    size_t page_size, processes, steps, boots;
    uint64_t segment_size;
    uint64_t disk_size;  // 0: endless
    unsigned turns;      // one call in so many lets another process run
    unsigned runs;       // how often in a row the same process is chosen, on average
    unsigned kills;      // a process dies at one call in so many; 0: never
    bool cleans, fills;
    SimulatedDisk::Faults faults;
  };
  struct Process {
    Process(Machine& machine, uint64_t seed, long own_number)
        : disk(machine.m_disk, machine), random(seed), number(own_number) {}
    virtual ~Process() = default;
    SimulatedProcess disk;
    Random random;
    const long number;
    std::unique_ptr<Fiber> fiber;
    gq::Holds holds;
  };

  virtual std::unique_ptr<Process> make_process(uint64_t seed, long number) = 0;
  // Before the first step of a process, and sometimes later: opens what the process works with, in place of what it
  // had open.
  virtual void open(Process& process) = 0;
  virtual bool is_open(const Process& process) const = 0;
  virtual void close(Process& process) = 0;
  virtual void step(Process& process) = 0;
  // Called after a step that threw.
  virtual void give_up(Process& process) = 0;
  // Called after a boot, when all processes have ended.
  virtual void stop() {}
  // Checks after a boot, when nothing fails any more. `last`: no other boot follows.
  virtual void check(Process& process, bool last) = 0;

  void note(const std::string& line) {
    if (m_log) *m_log += line + "\n";
  }
  void fault(const std::string& what);
  bool may_blame_disk() const { return m_setting.faults.calls > 0 || m_disk.losses() > 0; }

  const Plan m_plan;
  Random m_random;
  const Setting m_setting;
  SimulatedDisk m_disk;
  Played m_played;

 private:
  static Setting setting_of(const Plan& plan, Random& random);
  bool runs(SimulatedProcess&, const char* call, const std::string& what) override;
  void wait(SimulatedProcess&) override;
  void pause();
  void run_boot(bool first);
  void live(Process& process);
  void check_alone(bool last);

  std::string* const m_log;
  Process* m_current = nullptr;
  uint64_t m_boot_calls = 0, m_cut_at = 0;
  bool m_is_cut = false, m_waits = false;
};

}  // namespace simulate
