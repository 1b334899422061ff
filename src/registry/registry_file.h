// SPDX-License-Identifier: Apache-2.0
// The registry's SQLite file: names and serialised records, one table a kind. Blocking; SqliteRegistry calls it from a
// thread of its own.
//
// A change is on the disk when apply() returns (WAL, synchronous=FULL; https://www.sqlite.org/wal.html): a kill, a
// crash or a loss of power afterwards loses nothing. One fsync a batch, however many changes are in it. One process a
// file: it is locked for as long as it is open. A damaged or foreign file is refused, never replaced.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

struct sqlite3;

namespace registry {

enum class Table { services, endpoints };

struct Change {
  Change(Table t, std::string n, std::optional<std::string> r) : table(t), name(std::move(n)), record(std::move(r)) {}
  Table table;
  std::string name;
  std::optional<std::string> record;  // nothing: the name is removed
};

class RegistryFile {
 public:
  // Makes the file and its folder if there is none.
  static base::Result<std::unique_ptr<RegistryFile>> open(const std::string& path);
  ~RegistryFile();
  RegistryFile(const RegistryFile&) = delete;
  RegistryFile& operator=(const RegistryFile&) = delete;

  // Every row, ordered by name. An error of the callback ends it.
  base::Result<void> load(Table table,
                          const std::function<base::Result<void>(std::string name, std::string record)>& row);

  // All or none.
  base::Result<void> apply(const std::vector<Change>& changes);

  // The sentence for a row whose record cannot be read.
  base::Error damaged(std::string_view detail) const;

 private:
  RegistryFile(std::string path, sqlite3* database) : path_(std::move(path)), database_(database) {}
  base::Result<void> run(const std::string& statement);
  base::Result<std::string> ask(const std::string& statement);
  base::Result<void> prepare();
  base::Result<void> apply_one(const Change& change);
  std::unexpected<base::Error> failure(std::string_view doing);

  const std::string path_;
  sqlite3* database_;
};

}  // namespace registry
