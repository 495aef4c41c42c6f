// Which shared library a call comes from: for functions that stand before the C library's and change only the calls of
// one library.
#pragma once

namespace gq {

// Where a library's code lies; found when it is made, so make it static.
class CallerRange {
 public:
  // `name` is how the file's name begins, as "libgearman.so".
  explicit CallerRange(const char* name);
  bool contains(const void* return_address) const { return return_address >= m_begin && return_address < m_end; }

 private:
  const char* m_begin = nullptr;
  const char* m_end = nullptr;
};

}  // namespace gq
