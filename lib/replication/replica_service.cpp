#include "gq/replication/replica_service.hpp"

#include <sys/mman.h>

#include <algorithm>

#include "gq/base/text.hpp"
#include "gq/replication/features.hpp"
#include "gq/store/parts.hpp"

namespace gq {
namespace {

constexpr size_t max_records = 32'000;  // the limit for one transfer
constexpr const char* relays = "it is a relay, which keeps nothing";

// Maps a file of the given size into memory, for reading.
class Mapped {
 public:
  Mapped(int fd, size_t size) : m_size(size), m_data(::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0)) {}
  ~Mapped() {
    if (*this) ::munmap(m_data, m_size);
  }
  Mapped(const Mapped&) = delete;
  Mapped& operator=(const Mapped&) = delete;
  explicit operator bool() const { return m_data != MAP_FAILED; }
  std::string_view data() const { return {static_cast<const char*>(m_data), m_size}; }

 private:
  const size_t m_size;
  void* const m_data;
};

}  // namespace

// The records of a transfer, sorted by type.
struct ReplicaService::Taken {
  struct Item {
    bool add;
    size_t number;  // its index in the list of its type
  };
  std::vector<Item> items;
  std::vector<NewJob> adds;
  std::vector<event::State> states;
  std::vector<std::string> bytes;  // the records of the states
};

std::string ReplicaService::answer(std::string_view payload) {
  std::string reason, kind;
  auto t = parse_transfer(payload, m_monitor.keys(), reason);
  Reply reply{m_monitor.self().node, m_monitor.self().store, {}, {}};
  Replica::Admission admission;
  if (t) admission = m_monitor.step([&](Replica& r) { return r.admit(*t, read_times()); });
  if (admission.refusal) kind = admission.refusal->kind, reason = admission.refusal->reason;
  if (admission.again) reply.body = "again\n";
  else if (reason.empty()) reply.body = body(*t, admission.taking, reason);
  if (!reason.empty()) {
    reply.body = "bad " + printable(reason) + "\n";
    m_monitor.log_limited(Level::warning, kind.empty() ? kind_of(reason) : kind,
                          "refused a transfer" + (t ? " from " + t->node : std::string()) + ": " + printable(reason));
  }
  reply.session = m_monitor.step([](Replica& r) { return r.session(read_times()); });
  return encode_reply(reply, t ? t->line : std::string_view(), m_monitor.keys());
}

std::string ReplicaService::body(const Transfer& transfer, bool taking, std::string& reason) {
  try {
    return transfer.kind == "take"   ? answer_take(transfer, reason)
           : transfer.kind == "part" ? answer_part(transfer, reason)
                                     : answer_ask(transfer, reason, taking);
  } catch (const Error& e) {
    if (e.code() == Exit::config) throw;
    reason = e.what();
  } catch (const std::exception& e) {  // refused: if given back, gearmand would send it again and again
    reason = e.what();
  }
  return {};
}

std::string ReplicaService::answer_take(const Transfer& transfer, std::string& reason) {
  if (m_monitor.config().relay) {
    reason = relays;
    return {};
  }
  Taken taken;
  auto& items = taken.items;
  taken.adds.reserve(std::min(transfer.body.size() / (8 * record_header_size) + 1, size_t{2000}));  // an estimate
  for (std::string_view rest = transfer.body; !rest.empty();) {
    auto read = parse_record(rest);
    auto* add = read ? std::get_if<event::Add>(&read->event) : nullptr;
    auto* state = read ? std::get_if<event::State>(&read->event) : nullptr;
    if (!read || read->data_size > rest.size() - read->head_size) reason = "not a whole record";
    else if (state && (read->data_size != 0 || state->from != transfer.node)) reason = "a state that another told";
    else if ((!add || add->node.empty()) && (!state || state->node.empty())) reason = "a job of no node";
    else if (items.size() == max_records) reason = "too many records";
    if (!reason.empty()) return {};
    std::string_view record = rest.substr(0, read->head_size), data = rest.substr(read->head_size, read->data_size);
    if (sum64(data) != read->data_sum) reason = "a workload with a wrong checksum";
    if (!reason.empty()) return {};
    rest.remove_prefix(record.size() + data.size());
    if (add) {
      items.push_back({true, taken.adds.size()});
      NewJob& job = taken.adds.emplace_back();
      job.add = std::move(*add);
      job.head = record;
      job.data = data;
      job.data_sum = read->data_sum;
    } else {
      items.push_back({false, taken.states.size()});
      taken.bytes.emplace_back(record);
      taken.states.push_back(std::move(*state));
    }
  }
  return take(transfer, std::move(taken), reason);
}

// A transfer of the kind `part`: a part of a workload, and its job.
struct ReplicaService::Part {
  NewJob job;
  uint64_t size, offset;
  std::string_view data;
};

std::optional<ReplicaService::Part> ReplicaService::parse_part(std::string_view body) {
  const auto line = body.substr(0, std::min(body.find('\n'), body.size()));
  const auto offset = parse_count(line);
  body.remove_prefix(std::min(line.size() + 1, body.size()));
  auto head = parse_record(body);
  auto* add = head ? std::get_if<event::Add>(&head->event) : nullptr;
  if (!offset || !add || add->node.empty() || !add->part.source.empty() || head->data_size <= max_inline_data ||
      *offset > head->data_size || body.size() - head->head_size > head->data_size - *offset)
    return std::nullopt;
  Part part{{}, head->data_size, *offset, body.substr(head->head_size)};
  part.job.add = std::move(*add);
  part.job.head = body.substr(0, head->head_size);
  part.job.data_sum = head->data_sum;
  return part;
}

// Stores a part. When the whole workload has arrived, takes the job as if it had come in one piece.
std::string ReplicaService::answer_part(const Transfer& transfer, std::string& reason) {
  Ledger& ledger = m_monitor.ledger();
  auto part = parse_part(transfer.body);
  if (m_monitor.config().relay) reason = relays;
  else if (!part) reason = "it is no part of a job";
  if (!reason.empty()) return {};
  const event::Add& add = part->job.add;
  std::optional<Job> known;
  ledger.look([&](Fold& fold) { known = fold.get(add.id); });
  if (known && knows_workload(*known) && !is_of(*known, add.asked.function, part->size, part->job.data_sum))
    return "conflict\n";
  if (known && known->state == State::finished) {
    ledger.sync_all();
    return "have\n";
  }
  // Check the bytes of an existing blob: a crash, or another job with this ID, may have left other bytes.
  if (Fd there = ledger.open_blob(add.id); there && has_workload(there.get(), part->size, part->job.data_sum))
    return take_whole(transfer, std::move(*part), there.get(), reason);
  auto arrived = std::make_shared<Arrived>();
  try {
    ledger.check_room(part->size - part->offset);
    *arrived = ledger.put_part(add.id, part->job.data_sum, part->offset, part->data);
  } catch (const Error& e) {
    if (e.code() == Exit::config) throw;
    return "refused " + printable(e.what()) + "\n";
  }
  if (const uint64_t so_far = file_size(arrived->file.get()); so_far < part->size)
    return "at " + std::to_string(so_far) + "\n";
  if (sum_part(arrived->file.get(), 0, part->size) != part->job.data_sum) {
    ledger.remove(*arrived);
    return "refused what has come of it is damaged\n";
  }
  part->job.arrived = arrived;
  std::string verdict = take_whole(transfer, std::move(*part), arrived->file.get(), reason);
  if (arrived->file) ledger.remove(*arrived);  // the store did not use the file
  return verdict;
}

// Takes a job whose whole workload is in a file.
std::string ReplicaService::take_whole(const Transfer& transfer, Part part, int fd, std::string& reason) {
  const Mapped data(fd, part.size);
  if (!data) return "refused cannot read what has come of it\n";
  part.job.data = data.data();
  Taken taken;
  taken.items.push_back({true, 0});
  taken.adds.push_back(std::move(part.job));
  return take(transfer, std::move(taken), reason);
}

std::string ReplicaService::take(const Transfer& transfer, Taken taken, std::string& reason) {
  const auto refused = m_monitor.step([&](Replica& r) {
    std::optional<std::string> why;
    for (const auto& job : taken.adds)
      if (auto problem = r.refuse(job.add)) why = std::move(problem);
    return why;
  });
  if (refused) {
    reason = *refused;
    return {};
  }
  const auto added = take_adds(transfer, std::move(taken.adds));
  const auto states = take_states(taken.states, taken.bytes);
  std::string body;
  for (const auto& item : taken.items) body += (item.add ? added : states)[item.number].text() + "\n";
  return body;
}

// Looks at the jobs whose workloads are parts of other jobs' workloads. Returns for each job the verdict if its part
// cannot be taken from this store: need, if the store lacks the other workload or has other bytes under its ID.
std::vector<std::optional<PeerVerdict>> ReplicaService::lacking(const std::vector<NewJob>& adds) {
  using Kind = PeerVerdict::Kind;
  std::vector<std::optional<PeerVerdict>> verdicts(adds.size());
  std::vector<size_t> numbers;
  for (size_t i = 0; i < adds.size(); ++i)
    if (!adds[i].add.part.source.empty()) numbers.push_back(i);
  if (numbers.empty()) return verdicts;
  Ledger& ledger = m_monitor.ledger();
  std::vector<bool> is_whole(adds.size());  // the part is all of that workload, whose sum is known
  ledger.look([&](Fold& fold) {
    for (size_t i : numbers) {
      const auto& part = adds[i].add.part;
      const auto job = fold.get(part.source);
      verdicts[i].reset();
      if (!ledger.needs_blob(fold, part.source)) verdicts[i] = PeerVerdict{Kind::need};
      is_whole[i] = job && job->source.empty() && part.offset == 0 && part.length == job->size && part.sum == job->sum;
    }
  });
  PartsCost cost;
  for (size_t i : numbers) {
    const auto& part = adds[i].add.part;
    if (verdicts[i]) continue;
    const Fd blob = ledger.open_blob(part.source);
    if (!cost.add(0, is_whole[i] ? 0 : part.length))
      verdicts[i] = PeerVerdict{Kind::refused, "the parts of large workloads that came with it are more than 256 MiB"};
    else if (!blob || (!is_whole[i] && sum_part(blob.get(), part.offset, part.length) != part.sum))
      verdicts[i] = PeerVerdict{Kind::need};
  }
  return verdicts;
}

std::vector<PeerVerdict> ReplicaService::take_adds(const Transfer& transfer, std::vector<NewJob> adds) {
  // If the transfer has only small jobs that the sender has accepted itself, the outbox for the sender can skip this
  // range of the journal.
  const bool from_there = std::all_of(adds.begin(), adds.end(), [&](const NewJob& job) {
    return job.add.node == transfer.node && job.add.store == transfer.store && job.data.size() <= max_inline_data;
  });
  const auto lacks = lacking(adds);
  std::vector<PeerVerdict> verdicts(adds.size());
  std::vector<size_t> numbers;
  std::vector<NewJob> here;
  for (size_t i = 0; i < adds.size(); ++i) {
    if (lacks[i]) {
      verdicts[i] = *lacks[i];
      continue;
    }
    numbers.push_back(i);
    here.push_back(std::move(adds[i]));
  }
  if (here.empty()) return verdicts;
  const auto answers = m_queue.add(here, [&](const std::vector<size_t>&, Lsn from, Lsn end) {
    if (from_there) m_monitor.step([&](Replica& r) { r.came_from(transfer.node, transfer.store, from, end); });
  });
  for (size_t i = 0; i < answers.size(); ++i) verdicts[numbers[i]] = verdict_on(answers[i]);
  return verdicts;
}

std::vector<PeerVerdict> ReplicaService::take_states(const std::vector<event::State>& states,
                                                     const std::vector<std::string>& bytes) {
  std::vector<PeerVerdict> verdicts(states.size());
  if (states.empty()) return verdicts;
  using What = StateVerdict::Record;
  std::vector<std::string> finished, own;
  std::vector<RecordBytes> news;
  m_monitor.ledger().look([&](Fold& fold) {
    news.clear(), own.clear(), finished.clear();
    for (size_t i = 0; i < states.size(); ++i) {
      auto job = fold.get(states[i].id);
      const auto [kind, record] = verdict_on(states[i], job, m_monitor.self());
      verdicts[i] = {kind};
      if (record == What::received) news.emplace_back(bytes[i]);
      if (record == What::received_as_own) own.push_back(encode_record(passed_on(states[i], m_monitor.self())));
      if (record == What::known) own.push_back(record_to_send(states[i].id, *job, m_monitor.self()));
      if (std::string blob = job && states[i].state == "finished" ? blob_of(states[i].id, *job) : ""; !blob.empty())
        finished.push_back(blob);
    }
  });
  news.insert(news.end(), own.begin(), own.end());
  if (!news.empty()) m_monitor.ledger().commit(news, Room::completion);
  m_monitor.ledger().remove_blobs_of(finished);
  return verdicts;
}

std::string ReplicaService::answer_ask(const Transfer& transfer, std::string& reason, bool taking) {
  auto ids = parse_ask(transfer.body);
  if (!ids) {
    reason = "it asks for something that is not a job ID";
    return {};
  }
  Ledger& ledger = m_monitor.ledger();
  AskReply reply;
  reply.taking = taking;
  reply.relay = m_monitor.config().relay;
  try {
    ledger.check_room(0);
  } catch (const Error&) {
    reply.room = false;
  }
  RunHere here = running_here(ledger.owners_directory());
  reply.end = ledger.end();
  reply.reads = features_read();
  reply.runner = here.any;
  if (here.any && !here.all) reply.functions.emplace(here.functions.begin(), here.functions.end());
  reply.sent = m_monitor.step([](Replica& r) { return r.sent(); });
  if (!ids->empty())
    ledger.look([&](Fold& fold) {
      reply.known.clear(), reply.yours.clear(), reply.others.clear(), reply.ended.clear();
      for (const auto& id : *ids) reply.say_of(id, fold.get(id), {transfer.node, transfer.store}, m_monitor.self());
    });
  return encode_ask_reply(reply, *ids);
}

}  // namespace gq
