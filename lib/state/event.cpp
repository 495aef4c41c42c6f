#include "gq/state/event.hpp"

#include <algorithm>

#include "gq/base/text.hpp"
#include "gq/base/ulid.hpp"
#include "gq/state/rate.hpp"
#include "gq/state/tally.hpp"

namespace gq {
namespace {

bool is_node(const std::string& node, const std::string& store) { return is_node_name(node) && is_ulid(store); }

// An owner's name must not contain NUL, because NUL ends it in a key of the index (fold.hpp). It is bounded, so that
// each record with which a job's owner lets the job go has room for it.
constexpr size_t longest_owner = 255;
bool is_owner(const std::string& owner) {
  return !owner.empty() && owner.size() <= longest_owner && !has_control(owner);
}

bool are_parents(const std::vector<std::string>& ids) {
  return ids.size() <= parents_in_record &&
         std::all_of(ids.begin(), ids.end(), [](const std::string& id) { return is_ulid(id); });
}

// Whether the event has all members that its type needs, and they are valid.
bool fits(const event::Add& e) {
  const Submission& asked = e.asked;
  return is_ulid(e.id) && !function_name_problem(asked.function) && asked.priority <= low_priority &&
         (asked.key.empty() || !key_problem(asked.key)) && (asked.serial.empty() || !key_problem(asked.serial)) &&
         (asked.name.empty() || !name_problem(asked.name)) && (e.node.empty() || is_node(e.node, e.store)) &&
         asked.after <= most_parents && are_parents(e.parents) && are_parents(e.met) &&
         (e.part.source.empty() || is_ulid(e.part.source)) && (e.letter.empty() || is_ulid(e.letter)) &&
         (!e.spooled || (e.node.empty() && e.descent.parent.empty())) &&
         (e.descent.parent.empty() ? e.descent.start == 0
                                   : is_ulid(e.descent.parent) && e.descent.start > 0 && e.asked.after == 0);
}
bool fits(const event::State& e) {
  return is_ulid(e.id) && !function_name_problem(e.function) &&
         (e.node.empty() ? e.store.empty() : is_node(e.node, e.store)) &&
         (e.state == "queued" || e.state == "dead" || e.state == "kept" || e.state == "finished");
}
bool fits(const event::Peer& e) { return is_node_name(e.node) && (e.store.empty() || is_ulid(e.store)); }
bool fits(const event::After& e) {
  return is_ulid(e.id) && !e.ids.empty() && e.ids.size() <= parents_in_record && e.first <= most_parents;
}
bool fits(const event::Wake& e) { return is_ulid(e.id) && !e.ids.empty(); }
bool fits(const event::Letter& e) {
  return !function_name_problem(e.function) && (e.to.empty() || !function_name_problem(e.to));
}
bool fits(const event::Rate& e) {
  return !function_name_problem(e.function) && e.starts <= most_rate && (e.starts == 0 || is_rate_period(e.period));
}
bool fits(const event::Claim& e) { return is_owner(e.owner) && !e.ids.empty(); }
bool fits(const event::Copied& e) { return !e.ids.empty(); }
bool fits(const event::Counts& e) { return is_valid(e); }
template <typename E>
bool fits(const E& e) {
  if constexpr (requires { e.output; }) {
    if (e.output >= kept_values) return false;
  }
  if constexpr (requires { e.function; }) return !function_name_problem(e.function);
  else if constexpr (requires { e.spent; } || std::is_same_v<E, event::Start>)
    return is_ulid(e.id) && is_owner(e.owner);
  else if constexpr (requires { e.id; }) return is_ulid(e.id);
  else return true;
}

// Decodes the event as the first type with this name, of the types from `number` on. Returns false if there is none.
template <size_t number = 0>
bool read_as(std::string_view type, std::string_view meta, Event& event) {
  if constexpr (number == std::variant_size_v<Event>) {
    return false;
  } else {
    using E = std::variant_alternative_t<number, Event>;
    bool is_type = type == E::type;
    if constexpr (std::is_same_v<E, event::Add>) is_type = is_type || type == E::child_type || type == E::spool_type;
    if (!is_type) return read_as<number + 1>(type, meta, event);
    E& e = event.emplace<number>();
    if (!read_fields(meta, e) || type != written_type(e)) return false;
    if constexpr (requires { e.ids; }) {
      if (!std::all_of(e.ids.begin(), e.ids.end(), [](const std::string& id) { return is_ulid(id); })) return false;
    }
    if constexpr (std::is_same_v<E, event::Forget>) {
      if (e.ids.empty()) return read_as<number + 1>(type, meta, event);
    }
    if constexpr (std::is_same_v<E, event::Stream>) {
      if (e.version == 0) return read_as<number + 1>(type, meta, event);
    }
    return fits(e);
  }
}

}  // namespace

const char* priority_name(uint32_t priority) {
  static constexpr const char* names[] = {"high", "normal", "low"};
  return names[priority];
}

std::optional<std::string> key_problem(std::string_view text) {
  if (text.empty()) return "it is empty";
  if (text.size() > max_key_size) return "it is longer than " + std::to_string(max_key_size) + " bytes";
  if (has_control(text) || !is_utf8(text)) return "it has control characters, or is not UTF-8";
  return std::nullopt;
}

std::optional<std::string> name_problem(std::string_view text) {
  if (auto problem = key_problem(text)) return problem;
  if (text == "." || text == ".." || text.find('/') != std::string_view::npos)
    return "it cannot be the name of a file in a directory";
  return std::nullopt;
}

void limit_reason(std::string& text) {
  if (text.size() <= max_reason_size) return;
  size_t size = max_reason_size;
  while (size > 0 && (static_cast<unsigned char>(text[size]) & 0xc0) == 0x80) --size;  // do not cut within a character
  text.resize(size);
}

std::vector<std::pair<std::string, std::string>> event::Copied::copies() const {
  std::vector<std::pair<std::string, std::string>> copies;
  const auto nodes = split(peers, ','), identities = split(stores, ',');
  for (size_t i = 0; i < nodes.size(); ++i)
    if (!nodes[i].empty())
      copies.emplace_back(nodes[i], identities.size() == nodes.size() ? identities[i] : std::string());
  return copies;
}

bool event::Copied::says(const std::string& node, const std::string& store) const {
  const auto all = copies();
  return std::any_of(all.begin(), all.end(), [&](const auto& copy) {
    return copy.first == node && (copy.second.empty() || copy.second == store);
  });
}

std::string_view type_of(const Event& event) {
  return std::visit([](const auto& e) { return e.type; }, event);
}

Millis at_of(const Event& event) {
  return std::visit([](const auto& e) { return e.at; }, event);
}

const std::string& id_of(const Event& event) {
  static const std::string none;
  return std::visit(
      [](const auto& e) -> const std::string& {
        if constexpr (requires { e.id; }) return e.id;
        else return none;
      },
      event);
}

std::string encode_record(const Event& event) {
  return std::visit([](const auto& e) { return encode_record(e); }, event);
}

bool parse_event(std::string_view meta, uint64_t data_size, Event& event) {
  auto type = type_of(meta);
  if (!type || !read_as(*type, meta, event)) return false;
  if (auto* state = std::get_if<event::State>(&event)) limit_reason(state->why);
  auto* add = std::get_if<event::Add>(&event);
  return !add || add->part.source.empty() || data_size == 0;
}

std::optional<Record> parse_record(std::string_view bytes) {
  std::optional<Record> record;
  auto head = parse_record_head(bytes);
  if (!head) return record;
  static_cast<RecordHead&>(record.emplace()) = *head;
  if (!parse_event(meta_of(*head, bytes), head->data_size, record->event)) record.reset();
  return record;
}

}  // namespace gq
