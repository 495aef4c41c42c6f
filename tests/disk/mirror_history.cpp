#include "simulated_database.hpp"
#include "storage.hpp"

namespace simulate {
namespace {

class MirrorStorage final : public Storage {
 public:
  explicit MirrorStorage(const Plan& plan)
      : m_random(~plan.seed),
        m_faults(m_random.chance(3) ? 0 : 5 + static_cast<unsigned>(m_random.below(60))),
        m_database(~(plan.seed ^ (plan.cut_at * 1000003 + plan.turn) << 20)) {}

  std::shared_ptr<gq::Mirror> open(const gq::Directory& directory, SimulatedProcess& process, long number) override {
    m_database.set_faults(number ? m_faults : 0);
    return std::make_shared<gq::Mirror>(directory, m_database.connect(process), true);
  }
  Event stop(SimulatedDisk& disk) override {
    const bool loses = m_random.chance(4);
    // It takes longer to replace the disk than a request can be late.
    if (loses || m_random.chance(3)) m_database.restart();
    if (loses) disk.lose_all();
    if (m_database.has("settings") && m_random.chance(3)) {
      m_database.save();
      return Event::saved;
    }
    if (!m_random.chance(3) || !m_database.set_back()) return Event::none;
    disk.lose_all();  // who sets the database back has to remove the copy
    return Event::set_back;
  }
  void mark_done(const std::string& id) override { m_database.put("e" + id, ""); }

 private:
  Random m_random;
  const unsigned m_faults;
  SimulatedDatabase m_database;
};

}  // namespace

Played play_mirror(const Plan& plan, std::string* log) {
  MirrorStorage storage(plan);
  return play_store(plan, log, &storage);
}

}  // namespace simulate
