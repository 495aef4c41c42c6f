// A table of an index on a simulated disk. It stands in for Tokyo Cabinet's: a commit survives the death of its
// process, it may fail when the disk is full, and the file survives a power cut like any file that nobody synced. Then
// any entries may be missing, or old, without a sign of that.
//
// The file has a record for each entry that was written, on sectors of its own, and a record at the end of each commit.
#pragma once

#include "gq/store/index_table.hpp"

namespace simulate {

std::unique_ptr<gq::IndexTable> open_simulated_table(const gq::Directory& directory, const std::string& name,
                                                     gq::IndexTable::Use use, std::function<void()> before_write);

}  // namespace simulate
