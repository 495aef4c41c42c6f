#include "gq/replication/inquiry.hpp"

namespace gq {

Inquiry::Question Inquiry::ask(const std::string& node, std::vector<std::string> ids) {
  m_asked = std::move(ids);
  return {node, m_asked};
}

Inquiry::Question Inquiry::ask_next(std::vector<std::string> ids) {
  const std::string node = std::move(m_nodes.front());
  m_nodes.pop_front();
  return ask(node, std::move(ids));
}

std::optional<Inquiry::Question> Inquiry::next(const Ownership& ownership, const Membership& members,
                                               const FailureDetector& detector, Millis remember, Times now) {
  using Cause = Takeover::Cause;
  if (m_stage == Stage::begun) {
    m_stage = Stage::owner;
    if (m_what.cause != Cause::lost) Ownership::leave_others(m_jobs, m_what, m_here, detector, now.boot);
    else if (!m_jobs.empty()) return ask(m_what.node, Ownership::ids_of(m_jobs));
  }
  if (m_stage == Stage::owner) {
    const auto before = ownership.before(m_what, members, detector);
    m_nodes.assign(before.begin(), before.end());
    m_stage = Stage::before;
  }
  if (m_stage == Stage::before) {
    for (; !m_nodes.empty(); m_nodes.pop_front())
      if (auto ids = ownership.to_ask(m_jobs, m_nodes.front(), m_here, members, detector, now.boot); !ids.empty())
        return ask_next(std::move(ids));
    // The questions took time. An owner that lives may run these functions again by now, so ask it once more. If it
    // begins a job between its answer and the notice of the takeover, the job can run twice.
    m_stage = Stage::once_more;
    if (m_what.cause == Cause::idle && !m_jobs.empty()) return ask(m_what.node, {});
  }
  if (m_stage == Stage::once_more) {
    m_stage = Stage::everybody;
    const auto ids = m_what.node == members.group().self.node ? Ownership::maybe_stale(m_jobs, remember, now.wall)
                                                              : std::vector<std::string>();
    // Only if all other nodes can be asked can it be known that a job is stale.
    const auto others = Ownership::all_others(members, detector);
    if (!ids.empty() && others) m_nodes.assign(others->begin(), others->end());
    if (!m_nodes.empty()) m_stale.insert(ids.begin(), ids.end());
  }
  if (m_stage == Stage::everybody && !m_nodes.empty() && !m_stale.empty())
    return ask_next({m_stale.begin(), m_stale.end()});
  m_stage = Stage::done;
  return std::nullopt;
}

std::vector<event::State> Inquiry::answered(AskReply reply, const Ownership& ownership, const Membership& members,
                                            const FailureDetector& detector, Times now) {
  const auto ids = std::exchange(m_asked, {});
  // A stranger may have queued another job with the ID of one of these jobs, at a node that lacks the job. That must
  // not prevent the job of this node from running.
  for (const auto& [id, job] : m_jobs) reply.leave_out_another(id, job, ids);
  auto doubted = ownership.leave_ended(m_jobs, reply);
  switch (m_stage) {
    case Stage::owner:
      for (auto& state : ownership.leave_to_owner(m_jobs, ids, reply, m_what.node, members))
        doubted.push_back(std::move(state));
      break;
    case Stage::before:
      Ownership::leave_to_those_before(m_jobs, ids, reply);
      break;
    case Stage::once_more:
      Ownership::leave_others(m_jobs, m_what, m_here, detector, now.boot);
      break;
    case Stage::everybody:
      for (size_t i = 0; i < ids.size(); ++i)
        if (reply.known[i]) m_stale.erase(ids[i]);
      break;
    case Stage::begun:
    case Stage::done:
      break;
  }
  if (!m_what.tells) doubted.clear();
  return doubted;
}

}  // namespace gq
