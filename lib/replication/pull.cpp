#include "gq/replication/pull.hpp"

#include <algorithm>

namespace gq {

Pull::Pull(std::vector<Waiting> jobs, Time now) {
  for (auto& job : jobs) {
    for (const auto& store : job.stores) known(store, now);
    m_jobs.push_back({std::move(job)});
  }
}

Pull::Store& Pull::known(const std::string& store, Time now) {
  return m_stores.try_emplace(store, Store{.next = now + first_interval}).first->second;
}

std::optional<Pull::Question> Pull::next() {
  while (m_first < m_jobs.size() && m_jobs[m_first].end) ++m_first;
  std::optional<Question> question;
  std::vector<size_t> open;
  for (size_t i = m_first; i < m_jobs.size() && open.size() < most_asked; ++i)
    if (!m_jobs[i].end) open.push_back(i);
  for (size_t i : open) {
    const Time at = m_stores.at(store(i)).next;
    if (!question || at < question->at) question = {store(i), {}, at};
  }
  for (size_t i : open)
    if (store(i) == question->store) question->jobs.push_back(i);
  return question;
}

// Asks this store next for the job, unless it was silent just now.
void Pull::go_to(One& job, const std::string& store, Time now) {
  auto place = std::find(job.stores.begin(), job.stores.end(), store);
  if (place == job.stores.end()) {
    if (job.stores.size() == most_stores) return;
    place = job.stores.insert(place, store);
  }
  if (known(store, now).avoid_until <= now) job.at = static_cast<size_t>(place - job.stores.begin());
}

// Asks another store next for the job: if possible, one that was not silent just now.
void Pull::go_on(One& job, Time now) {
  const size_t count = job.stores.size(), after = (job.at + 1) % count;
  job.at = after;
  while (known(job.stores[job.at], now).avoid_until > now) {
    job.at = (job.at + 1) % count;
    if (job.at == after) return;
  }
}

void Pull::answered(const Question& question, const std::vector<StoreSays>& says, Time now) {
  using What = StoreSays::What;
  bool any = false, all = true;
  for (size_t i = 0; i < question.jobs.size(); ++i) {
    One& job = m_jobs[question.jobs[i]];
    const StoreSays& said = says[i];
    job.is_over = job.is_over || said.what == What::there || said.what == What::end;
    if (said.what != What::unknown) job.unknown.clear();
    else job.unknown.insert(question.store);
    if (said.what == What::end || job.unknown.size() == job.stores.size()) job.end = said;
    else if (said.what == What::unknown) go_on(job, now);
    else if (!said.store.empty()) go_to(job, said.store, now);
    any = any || job.end;
    all = all && job.end;
  }
  Store& asked = known(question.store, now);
  asked.avoid_until = {};
  asked.interval =
      any ? std::max(asked.interval / 2, first_interval) : std::min(asked.interval * 3 / 2, longest_interval);
  asked.next = all ? now : now + asked.interval;
}

void Pull::silent(const Question& question, Time now) {
  Store& asked = known(question.store, now);
  asked.avoid_until = now + avoided;
  asked.interval = std::min(asked.interval * 2, longest_interval);
  asked.next = now + asked.interval;
  for (size_t i = m_first; i < m_jobs.size(); ++i)
    if (!m_jobs[i].end && store(i) == question.store) go_on(m_jobs[i], now);
}

}  // namespace gq
