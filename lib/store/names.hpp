// The names of the files in a store's directory. Those of the journal are in journal.hpp.
#pragma once

namespace gq {

inline constexpr const char* settings_name = "gq.json";       // settings.hpp
inline constexpr const char* blobs_name = "blobs";            // blobs.hpp
inline constexpr const char* damaged_name = "damaged";        // segments with damage that were cleaned (cleaner.hpp)
inline constexpr const char* clean_lock_name = "clean.lock";  // cleaner.hpp, snapshot.hpp
inline constexpr const char* owners_name = "owners";          // owners.hpp
inline constexpr const char* index_name = "index.tcb";        // index.hpp, and the four below
inline constexpr const char* index_log_name = "index.tcb.wal";
inline constexpr const char* index_seal_name = "index.seal";
inline constexpr const char* index_lock_name = "index.lock";
inline constexpr const char* index_users_name = "index.users";
inline constexpr const char* database_name = "database";  // names the program of a store in a database (open_store.hpp)
inline constexpr const char* mirror_name = "mirror";      // mirror.hpp
inline constexpr const char* mirror_users_name = "mirror.users";
inline constexpr const char* mirror_cleaning_name = "mirror.cleaning";
inline constexpr const char* replicate_lock_name = "replicate.lock";  // held by the process that serves the node
inline constexpr const char* returned_name = "returned.lock";         // its lease (lease.hpp)
// A directory with a file for each node of the group. The file is touched each time the node answers. NODE.debts is
// written by the process that serves this node: what the node has not received yet; see debts_of() in debts.hpp.
inline constexpr const char* peers_name = "peers";
inline constexpr const char* debts_suffix = ".debts";
inline constexpr const char* reads_suffix = ".reads";  // likewise: which features the node reads (features.hpp)
inline constexpr const char* forward_lock_name = "forward.lock";  // held by the process that forwards spooled jobs

// Files of a snapshot, and of a directory to which a snapshot is being restored (snapshot.hpp).
inline constexpr const char* manifest_name = "manifest";
inline constexpr const char* restoring_name = "tmp.restoring";

}  // namespace gq
