// Puts a tag before each line of a stream that arrives in pieces; pure.
#pragma once

#include <string>
#include <string_view>

namespace gq {

class LineTag {
 public:
  // An empty tag passes the stream on unchanged.
  explicit LineTag(std::string tag = {}) : m_tag(std::move(tag)) {}

  // Returns the lines that are complete now, each with the tag. A line longer than longest_line is divided.
  static constexpr size_t longest_line = 65536;
  std::string add(std::string_view data);
  // Returns the last line, which lacks its newline, with one. Call it at the end of the stream.
  std::string end();

 private:
  std::string m_tag, m_line;
};

}  // namespace gq
