// Opens stores by their names: a directory, or exec:PROGRAM ARG... for a store in a database that this program reaches.
#pragma once

#include <memory>
#include <string>

#include "gq/database/keyvalue.hpp"
#include "gq/store/queue.hpp"

namespace gq {

// Opens a store, and creates it if it is missing and `create` is true. Throws Error: config if it is not a store, has a
// newer format, is not private, is on a network file system, or if its file `database` names a program that must not be
// run; usage if no program is named; storage if the disk fails; retry if the database does not answer. The program that
// the file `database` names is run only if the directory is the one that gq gives to the store of that name, or if the
// file says that it belongs to this directory.
Queue open_store(const std::string& name, bool create);

// Opens a store in the caller's own database. `directory` holds the copy of it that all processes of this machine
// share.
Queue open_store(const std::string& directory, std::unique_ptr<KeyValue> database, bool create);

// Returns the directory with the copy of a store that is named exec:PROGRAM ARG... or by its directory: below
// $GQ_CACHE, or the user's cache directory. Throws Error(config) if there is neither.
std::string store_directory(const std::string& name);

// Opens and checks that directory (directory.hpp). It is created if it is missing and `create` is true or a program is
// named.
Directory open_store_directory(const std::string& name, bool create);

// Whether a store with this name is, or may be, in a database.
bool has_database(const std::string& name);

// Writes into the file `database` that it belongs to its directory.
void confirm_database(const std::string& name);

}  // namespace gq
