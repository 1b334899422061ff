// SPDX-License-Identifier: Apache-2.0
#include "registry/registry_file.h"

#include <sqlite3.h>

#include <filesystem>

namespace registry {

using base::Code;
using base::fail;
using base::Result;

namespace {

constexpr int kApplicationId =
    0x50624367;  // "PbCg": says whose file it is (https://www.sqlite.org/pragma.html#pragma_application_id)
constexpr int kSchema = 1;
constexpr int kBusyTimeoutMs = 1000;  // a predecessor may be on its way out

const char* table_name(Table table) { return table == Table::services ? "services" : "endpoints"; }

struct Statement {
  ~Statement() { sqlite3_finalize(handle); }
  sqlite3_stmt* handle = nullptr;
};

std::string blob(sqlite3_stmt* statement, int column) {
  const void* bytes = sqlite3_column_blob(statement, column);
  const int size = sqlite3_column_bytes(statement, column);
  return bytes == nullptr ? std::string()
                          : std::string(static_cast<const char*>(bytes), static_cast<std::size_t>(size));
}

}  // namespace

Result<std::unique_ptr<RegistryFile>> RegistryFile::open(const std::string& path) {
  std::error_code error;
  const auto folder = std::filesystem::path(path).parent_path();
  if (!folder.empty() && !std::filesystem::create_directories(folder, error) && error) {
    return fail(Code::failed_precondition,
                "registry file {}: its folder cannot be made ({}): choose another with PATCHBAY_REGISTRY_FILE", path,
                error.message());
  }
  sqlite3* database = nullptr;
  const int opened = sqlite3_open_v2(path.c_str(), &database, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, nullptr);
  std::unique_ptr<RegistryFile> file(new RegistryFile(path, database));
  if (opened != SQLITE_OK) {
    return fail(Code::failed_precondition,
                "registry file {} cannot be opened ({}): make it readable and writable, or choose another with "
                "PATCHBAY_REGISTRY_FILE",
                path, database == nullptr ? "no memory" : sqlite3_errmsg(database));
  }
  sqlite3_extended_result_codes(database, 1);
  sqlite3_busy_timeout(database, kBusyTimeoutMs);
  if (auto prepared = file->prepare(); !prepared) return std::unexpected(prepared.error());
  return file;
}

RegistryFile::~RegistryFile() { sqlite3_close(database_); }

base::Error RegistryFile::damaged(std::string_view detail) const {
  return {Code::data_loss,
          fmt::format("registry file {} is damaged ({}): move it away to start empty, endpoints will register again",
                      path_, detail)};
}

std::unexpected<base::Error> RegistryFile::failure(std::string_view doing) {
  const std::string detail = sqlite3_errmsg(database_);
  switch (sqlite3_errcode(database_) & 0xFF) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return std::unexpected(damaged(detail));
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return fail(Code::failed_precondition,
                  "registry file {} is in use by another process: one registry a file; stop the other one, or choose "
                  "another file with PATCHBAY_REGISTRY_FILE",
                  path_);
    case SQLITE_FULL:
      return fail(Code::resource_exhausted, "registry file {}: no room for {}: make room on its disk", path_, doing);
    default:
      return fail(Code::internal, "registry file {}: {} failed ({}): check its disk and permissions", path_, doing,
                  detail);
  }
}

Result<void> RegistryFile::run(const std::string& statement) {
  if (sqlite3_exec(database_, statement.c_str(), nullptr, nullptr, nullptr) != SQLITE_OK) return failure(statement);
  return {};
}

Result<std::string> RegistryFile::ask(const std::string& question) {
  Statement statement;
  if (sqlite3_prepare_v2(database_, question.c_str(), -1, &statement.handle, nullptr) != SQLITE_OK)
    return failure(question);
  if (sqlite3_step(statement.handle) != SQLITE_ROW) return failure(question);
  return blob(statement.handle, 0);
}

Result<void> RegistryFile::prepare() {
  // Exclusive: the lock is taken with the first access and kept, and the WAL needs no shared memory beside the file.
  for (const char* statement : {"PRAGMA locking_mode=EXCLUSIVE", "PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL",
                                "PRAGMA journal_size_limit=16777216", "BEGIN EXCLUSIVE", "COMMIT"}) {
    if (auto done = run(statement); !done) return done;
  }
  const auto check = ask("PRAGMA quick_check(1)");
  if (!check) return std::unexpected(check.error());
  if (*check != "ok") return std::unexpected(damaged(*check));

  const auto owner = ask("PRAGMA application_id");
  const auto schema = ask("PRAGMA user_version");
  const auto tables = ask("SELECT count(*) FROM sqlite_schema");
  for (const auto* answer : {&owner, &schema, &tables}) {
    if (!*answer) return std::unexpected(answer->error());
  }
  if (*owner == "0" && *tables == "0") {
    return run(
        fmt::format("BEGIN; CREATE TABLE services(name TEXT PRIMARY KEY NOT NULL, record BLOB NOT NULL) WITHOUT ROWID;"
                    "CREATE TABLE endpoints(name TEXT PRIMARY KEY NOT NULL, record BLOB NOT NULL) WITHOUT ROWID;"
                    "PRAGMA application_id={}; PRAGMA user_version={}; COMMIT",
                    kApplicationId, kSchema));
  }
  if (*owner != std::to_string(kApplicationId)) {
    return fail(Code::failed_precondition,
                "{} is a database, but not a registry's: choose another file with PATCHBAY_REGISTRY_FILE", path_);
  }
  if (*schema != std::to_string(kSchema)) {
    return fail(Code::failed_precondition,
                "registry file {} has layout {}, this version reads {}: run the version that wrote it, or move the "
                "file away to start empty",
                path_, *schema, kSchema);
  }
  return {};
}

Result<void> RegistryFile::load(Table table, const std::function<Result<void>(std::string, std::string)>& row) {
  const std::string question = fmt::format("SELECT name, record FROM {} ORDER BY name", table_name(table));
  Statement statement;
  if (sqlite3_prepare_v2(database_, question.c_str(), -1, &statement.handle, nullptr) != SQLITE_OK) {
    return std::unexpected(damaged(sqlite3_errmsg(database_)));
  }
  for (;;) {
    switch (sqlite3_step(statement.handle)) {
      case SQLITE_DONE:
        return {};
      case SQLITE_ROW:
        if (auto taken = row(blob(statement.handle, 0), blob(statement.handle, 1)); !taken) return taken;
        break;
      default:
        return failure(question);
    }
  }
}

Result<void> RegistryFile::apply_one(const Change& change) {
  const std::string text = change.record
                               ? fmt::format("INSERT INTO {} VALUES(?1, ?2) ON CONFLICT(name) DO UPDATE SET record=?2",
                                             table_name(change.table))
                               : fmt::format("DELETE FROM {} WHERE name=?1", table_name(change.table));
  Statement statement;
  if (sqlite3_prepare_v2(database_, text.c_str(), -1, &statement.handle, nullptr) != SQLITE_OK)
    return failure("writing " + change.name);
  sqlite3_bind_text(statement.handle, 1, change.name.data(), static_cast<int>(change.name.size()), SQLITE_STATIC);
  if (change.record) {
    sqlite3_bind_blob(statement.handle, 2, change.record->data(), static_cast<int>(change.record->size()),
                      SQLITE_STATIC);
  }
  if (sqlite3_step(statement.handle) != SQLITE_DONE) return failure("writing " + change.name);
  return {};
}

Result<void> RegistryFile::apply(const std::vector<Change>& changes) {
  if (auto begun = run("BEGIN IMMEDIATE"); !begun) return begun;
  for (const Change& change : changes) {
    if (auto done = apply_one(change); !done) {
      (void)run("ROLLBACK");
      return done;
    }
  }
  auto done = run("COMMIT");
  if (!done) (void)run("ROLLBACK");
  return done;
}

}  // namespace registry
