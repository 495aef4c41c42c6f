#include "gq/work/outcome.hpp"

#include "gq/base/text.hpp"

namespace gq {

Outcomes::Outcomes() {
  using What = Verdict::What;
  m_rows[0].what = What::done;
  m_rows[99].what = What::discard;
  for (size_t code : {100, 64, 65, 70, 76, 77, 78, 112}) m_rows[code].what = What::dead;
  for (size_t code : {126, 127}) m_rows[code].what = What::broken;
}

bool Outcomes::replace(std::string_view text) {
  size_t equals = text.find('=');
  if (equals == std::string_view::npos) return false;
  auto code = parse_count(text.substr(0, equals));
  std::string_view what = text.substr(equals + 1);
  if (!code || *code > 255) return false;
  Verdict verdict;
  if (what == "done") {
    verdict.what = Verdict::What::done;
  } else if (what == "dead") {
    verdict.what = Verdict::What::dead;
  } else if (what == "keep") {
    verdict.what = Verdict::What::keep;
  } else if (what.substr(0, 6) == "retry:") {
    verdict.delay = parse_duration(what.substr(6));
    if (!verdict.delay) return false;
  } else if (what != "retry") {
    return false;
  }
  m_rows[*code] = verdict;
  return true;
}

}  // namespace gq
