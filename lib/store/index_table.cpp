#include "gq/store/index_table.hpp"

#include <utility>

#include "gq/base/text.hpp"
#include "gq/store/tokyo_table.hpp"

namespace gq {
namespace {

OpenTable other_tables;

}  // namespace

TableFull::TableFull(int error_number)
    : Error(Exit::storage, "cannot update the index: " + errno_text(error_number), error_number) {}

std::unique_ptr<IndexTable> open_table(const Directory& directory, const std::string& name, IndexTable::Use use,
                                       std::function<void()> before_write) {
  if (other_tables) return other_tables(directory, name, use, std::move(before_write));
  return std::make_unique<TokyoTable>(directory, name, use, std::move(before_write));
}

void use_tables(OpenTable other) { other_tables = std::move(other); }

}  // namespace gq
