#include "gq/work/recorder.hpp"

namespace gq {

void Recorder::add(const Claim& claim, const Conclusion& conclusion) {
  m_records.push_back(conclusion_record(claim, conclusion, now_ms()));
  m_gave_back = m_gave_back || !conclusion.spent;
  if (conclusion.is_attempt()) ++m_unrecorded;
  if (conclusion.what == Conclusion::What::done)
    if (std::string blob = blob_of(claim.id, claim.job); !blob.empty()) m_done_blobs.push_back(blob);
}

void Recorder::append(const std::vector<std::string>& more) {
  if (more.empty()) {
    if (!m_records.empty()) m_store.append(m_records);
  } else {
    std::vector<std::string> records = m_records;
    records.insert(records.end(), more.begin(), more.end());
    m_store.append(records);
  }
  m_records.clear();
  for (auto& owner : m_ended) m_owners.let_go(std::move(owner));
  m_ended.clear();
}

void Recorder::settle() {
  append();
  m_store.settle();
  for (const auto& id : m_done_blobs) m_store.forget_blob(id);
  m_done_blobs.clear();
  m_unrecorded = 0;
  m_gave_back = false;
}

Owner Recorder::take_owner() {
  try {
    return m_owners.take();
  } catch (const Error&) {
    if (m_ended.empty()) throw;
  }
  append();
  return m_owners.take();
}

}  // namespace gq
