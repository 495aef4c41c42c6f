#include "gq/work/line_tag.hpp"

#include <algorithm>

namespace gq {

std::string LineTag::add(std::string_view data) {
  if (m_tag.empty()) return std::string(data);
  std::string lines;
  while (!data.empty()) {
    const size_t newline = data.find('\n'), room = longest_line - m_line.size();
    const size_t taken = std::min({newline, data.size(), room});
    m_line += data.substr(0, taken);
    data.remove_prefix(taken);
    if (taken == newline) data.remove_prefix(1);
    else if (m_line.size() < longest_line) break;
    lines += m_tag + m_line + "\n";
    m_line.clear();
  }
  return lines;
}

std::string LineTag::end() {
  if (m_line.empty()) return {};
  const std::string line = m_tag + m_line + "\n";
  m_line.clear();
  return line;
}

}  // namespace gq
