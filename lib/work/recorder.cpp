#include "gq/work/recorder.hpp"

#include "gq/base/text.hpp"

namespace gq {

void Recorder::add(const Claim& claim, const Conclusion& conclusion, std::unique_ptr<Capture> output) {
  const Millis now = now_ms();
  if (conclusion.output == Kept::no_room && output) say_lost(claim, output->reason());
  if (conclusion.output == Kept::whole) {
    Conclusion without = conclusion;
    without.output = Kept::no_room;
    m_waiting.push_back({m_records.size(), claim, conclusion, now, std::move(output)});
    m_records.push_back(conclusion_record(claim, without, now));
  } else {
    m_records.push_back(conclusion_record(claim, conclusion, now));
  }
  m_gave_back = m_gave_back || !conclusion.spent;
  if (conclusion.is_attempt()) ++m_unrecorded;
  if (conclusion.what == Conclusion::What::done)
    if (std::string blob = blob_of(claim.id, claim.job); !blob.empty()) m_done_blobs.push_back(blob);
}

void Recorder::say_lost(const Claim& claim, const std::string& why) {
  const std::string what = "its output is not kept";
  if (auto suffix = m_log_limit.admit(printable(claim.job.function) + ": " + what, std::chrono::steady_clock::now()))
    log(Level::warning, claim.id + ": " + what + ": " + printable(why) + *suffix);
}

// Puts the outputs that wait into their records, as far as there is room.
void Recorder::keep_outputs() {
  while (!m_waiting.empty()) {
    try {
      keep_output(m_waiting.back());
    } catch (const Error& e) {
      if (e.code() == Exit::retry) throw;
      say_lost(m_waiting.back().claim, e.what());
    }
    m_waiting.pop_back();
  }
}

void Recorder::keep_output(Waiting& waiting) {
  const std::string output = waiting.output->read();
  if (!m_store.has_output_room(m_kept + output.size())) throw Error(Exit::storage, no_output_room);
  if (output.size() > max_inline_data) {
    Fd held = m_store.put_output(waiting.claim.id, output, &waiting.output->file());
    if (!held) throw Error(Exit::storage, "a snapshot that is being taken needs the output of an earlier run");
    m_held.push_back(std::move(held));
  }
  std::string record = conclusion_record(waiting.claim, waiting.conclusion, waiting.at, output);
  m_without.emplace_back(waiting.record, std::exchange(m_records[waiting.record], std::move(record)));
  m_kept += output.size();
}

void Recorder::append(const std::vector<std::string>& more) {
  keep_outputs();
  auto append = [&] {
    if (more.empty()) {
      if (!m_records.empty()) m_store.append(m_records);
    } else {
      std::vector<std::string> records = m_records;
      records.insert(records.end(), more.begin(), more.end());
      m_store.append(records);
    }
  };
  try {
    append();
  } catch (const Error& e) {
    if (m_without.empty() || !is_disk_full(e.error_number())) throw;
    if (auto suffix = m_log_limit.admit("outputs are not kept", std::chrono::steady_clock::now()))
      log(Level::warning,
          "the output of " + counted(m_without.size(), "job") + " is not kept: " + printable(e.what()) + *suffix);
    for (auto& [record, without] : m_without) m_records[record] = std::move(without);
    m_without.clear();
    append();
  }
  m_without.clear();
  m_kept = 0;
  m_records.clear();
  for (auto& owner : m_ended) m_owners.let_go(std::move(owner));
  m_ended.clear();
}

void Recorder::settle() {
  append();
  m_store.settle();
  for (const auto& id : m_done_blobs) m_store.forget_blob(id);
  m_done_blobs.clear();
  m_held.clear();
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
