// Opens stores by their names. A name is a directory, or exec:PROGRAM ARG... for a store in a database that PROGRAM
// reaches.
#pragma once

#include <memory>
#include <string>

#include "gq/database/keyvalue.hpp"
#include "gq/store/queue.hpp"

namespace gq {

// Opens a store. If `create` is true, creates a missing one. Throws Error: config if the directory is not a store, has
// a newer format, is not private, is on a network file system, or if its file `database` names a program that must not
// be run; usage if exec: names no program; storage if the disk fails; retry if the database does not answer. gq runs
// the program in the file `database` only if gq itself has chosen the directory for the store of that name, or if the
// file says that it belongs to this directory.
Queue open_store(const std::string& name, bool create);

// Opens a store in the caller's own database. All processes of this machine share the copy of it in `directory`.
Queue open_store(const std::string& directory, std::unique_ptr<KeyValue> database, bool create);

// Returns the directory of a store. For a name exec:PROGRAM ARG... this is the directory of the copy, below $GQ_CACHE
// or the user's cache directory. Throws Error(config) if there is no cache directory.
std::string store_directory(const std::string& name);

// Opens and checks that directory (directory.hpp). Creates a missing directory if `create` is true or if the name is
// exec:PROGRAM.
Directory open_store_directory(const std::string& name, bool create);

// Whether a store with this name is, or may be, in a database.
bool has_database(const std::string& name);

// Writes into the file `database` that the file belongs to its directory.
void confirm_database(const std::string& name);

}  // namespace gq
