// Stores by their names: a directory, or exec:PROGRAM ARG... for one in a database that this program reaches.
#pragma once

#include <memory>
#include <string>

#include "gq/database/keyvalue.hpp"
#include "gq/store/store.hpp"

namespace gq {

// Opens a store; makes it where it is missing and `create` is true. Throws Error: config where it is not a store, of a
// newer format, not private, on a network file system, or where the directory's file `database` names a program and is
// obeyed neither because the directory is the one that gq gives to the store of that name, nor because the file says
// that it is of this directory; usage where no program is named; storage where the disk fails; retry where the database
// does not answer.
Store open_store(const std::string& name, bool create);

// The same in a database of one's own, with `directory` for the copy of it that all processes of this machine share.
Store open_store(const std::string& directory, std::unique_ptr<KeyValue> database, bool create);

// Where the copy of a store is, which may be named exec:PROGRAM ARG... or by its directory: in $GQ_CACHE, or the user's
// cache directory. Throws Error(config) where there is none.
std::string store_directory(const std::string& name);

// The same, opened and checked (directory.hpp). It is made where it is missing and `create` is true, or a program is
// named.
Directory open_store_directory(const std::string& name, bool create);

// Whether a store that is named like that is, or may be, in a database.
bool has_database(const std::string& name);

// Makes the file `database` say that it is of its directory.
void confirm_database(const std::string& name);

}  // namespace gq
