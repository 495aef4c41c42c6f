#include "gq/database/open_store.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <climits>
#include <cstdlib>

#include "gq/base/text.hpp"
#include "gq/database/helper.hpp"
#include "gq/database/mirror.hpp"
#include "gq/journal/local_disk.hpp"

namespace gq {
namespace {

constexpr const char* database_prefix = "exec:";
constexpr size_t longest_database_file = 65536;

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

bool names_program(const std::string& name) { return name.rfind(database_prefix, 0) == 0; }

std::vector<std::string> words_of(const std::string& program) {
  std::vector<std::string> argv;
  if (names_program(program))
    for (auto& word : split(program.substr(std::string_view(database_prefix).size()), ' '))
      if (!word.empty()) argv.push_back(std::move(word));
  if (argv.empty())
    throw Error(Exit::usage, "cannot use the database " + printable(program) + ": it is not exec:PROGRAM ARG...");
  return argv;
}

std::string read_database_file(const Directory& directory) {
  Fd fd = directory.find(database_name, O_RDONLY);
  struct stat st;
  if (fd && directory.lets_in_others() && ::fstat(fd.get(), &st) == 0 && (st.st_mode & (S_IWGRP | S_IWOTH)))
    throw Error(Exit::config, "cannot use " + printable(directory.path_of(database_name)) +
                                  ": others can write to it (chmod 600 it)");
  return fd ? read_all(fd.get(), longest_database_file, directory.path_of(database_name)).value_or("") : "";
}

// Returns the content of the file `database` for this directory. The second line names the directory, so that a copy of
// the file in another directory, or one from an archive, does not match. A file without the second line matches no
// directory.
std::string database_text(const Directory& directory, const std::string& program) {
  const std::string identity = directory.identity();
  return program + "\n" + (identity.empty() ? "" : "directory " + identity + "\n");
}

// Whether this is the directory that gq chooses for the store exec:PROGRAM. Does not follow a link there, because
// another user may have created it.
bool is_own_place(const Directory& directory, const std::string& program) {
  struct stat a, b;
  try {
    return ::lstat(store_directory(program).c_str(), &a) == 0 && ::fstat(directory.fd(), &b) == 0 &&
           a.st_dev == b.st_dev && a.st_ino == b.st_ino;
  } catch (const Error&) {  // there is no cache directory
    return false;
  }
}

// Returns the connection to the database of the store with this name and this directory; nullptr if the store has no
// database.
std::unique_ptr<KeyValue> open_database(const std::string& name, const Directory& directory) {
  const std::string text = read_database_file(directory), program = names_program(name) ? name : first_line(text);
  if (program.empty()) return nullptr;
  auto argv = words_of(program);
  const std::string confirmed = database_text(directory, program);
  if (names_program(name)) {
    if (text != confirmed) directory.publish(database_name, confirmed, true);  // the directory names it now, too
  } else if (directory.identity().empty() || text != confirmed) {
    if (!is_own_place(directory, program))
      throw Error(Exit::config, "cannot open the store " + printable(directory.path()) +
                                    ": its file database names a program that was not confirmed for this directory, " +
                                    printable(program, any_length) + "; if it is to be run: gq-inspect --store " +
                                    printable(directory.path(), PATH_MAX) + " confirm");
  }
  return std::make_unique<Helper>(std::move(argv));
}

// Opens a store whose durable data is in the database, or, without a database, on the directory's disk.
Queue compose(const Directory& opened, std::unique_ptr<KeyValue> database, bool create) {
  const Directory directory = opened.kept_private();
  auto mirror = database ? std::make_shared<Mirror>(directory, std::move(database), create) : nullptr;
  Settings settings = open_settings(directory, create);
  if (mirror) return Queue(directory, std::move(settings), mirror, mirror);
  auto disk = std::make_shared<LocalDisk>(directory, settings.store_id);
  return Queue(directory, std::move(settings), std::move(disk));
}

}  // namespace

std::string store_directory(const std::string& name) {
  if (!names_program(name)) return name;
  std::string cache;
  auto from = [&](const char* variable, const char* rest) {
    const char* value = std::getenv(variable);
    if (cache.empty() && value && *value == '/') cache = std::string(value) + rest;
  };
  from("GQ_CACHE", "");
  from("XDG_CACHE_HOME", "/gq");
  from("HOME", "/.cache/gq");
  if (cache.empty())
    throw Error(Exit::config,
                "cannot tell where the copy of the store is: neither GQ_CACHE, XDG_CACHE_HOME nor HOME is set");
  return cache + "/" + hex64(sum64(name));
}

// If gq chose the name of the directory, it must not be a link: other users may be able to create a link with that name
// in the cache directory.
Directory open_store_directory(const std::string& name, bool create) {
  const bool named = names_program(name);
  return Directory::of_store(store_directory(name), create || named, !named);
}

bool has_database(const std::string& name) {
  struct stat st;
  return names_program(name) || ::lstat((name + "/" + database_name).c_str(), &st) == 0;
}

void confirm_database(const std::string& name) {
  const Directory directory = open_store_directory(name, false);
  const std::string program = names_program(name) ? name : first_line(read_database_file(directory));
  if (program.empty())
    throw Error(Exit::config,
                "cannot confirm the database of " + printable(directory.path()) + ": it has no file database");
  words_of(program);
  if (directory.identity().empty())
    throw Error(Exit::config,
                "cannot confirm the database of " + printable(directory.path()) +
                    ": its file system does not tell when the directory was made; name the store by the program");
  directory.publish(database_name, database_text(directory, program), true);
}

// Opens the directory first, because its content must not be trusted before its owner has been checked.
Queue open_store(const std::string& name, bool create) {
  const Directory directory = open_store_directory(name, create);
  return compose(directory, open_database(name, directory), create);
}

Queue open_store(const std::string& path, std::unique_ptr<KeyValue> database, bool create) {
  if (!create && !file_exists(path) && !(database && Mirror::has_store(*database)))
    throw Error(Exit::config, "cannot open the store: there is none in the database");
  return compose(Directory::of_store(path, true), std::move(database), create);
}

}  // namespace gq
