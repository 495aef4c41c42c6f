#include "gq/base/caller.hpp"

#include <link.h>

#include <string>

namespace gq {

CallerRange::CallerRange(const char* name) {
  struct Search {
    std::string name;
    CallerRange& range;
  } search{std::string("/") + name, *this};
  ::dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* context) {
        auto& s = *static_cast<Search*>(context);
        if (std::string(info->dlpi_name).find(s.name) == std::string::npos) return 0;
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const auto& p = info->dlpi_phdr[i];
          if (p.p_type != PT_LOAD || !(p.p_flags & PF_X)) continue;
          s.range.m_begin = reinterpret_cast<const char*>(info->dlpi_addr + p.p_vaddr);
          s.range.m_end = s.range.m_begin + p.p_memsz;
        }
        return 1;
      },
      &search);
}

}  // namespace gq
