// SPDX-License-Identifier: Apache-2.0
#include "registry/sqlite_registry.h"

namespace registry {

using base::Result;
using base::Task;

Result<std::unique_ptr<SqliteRegistry>> SqliteRegistry::open(base::EventLoop& loop, const std::string& path) {
  auto file = RegistryFile::open(path);
  if (!file) return std::unexpected(file.error());
  std::unique_ptr<SqliteRegistry> store(new SqliteRegistry(loop, std::move(*file)));
  if (auto loaded = store->services_.load(*store->file_); !loaded) return std::unexpected(loaded.error());
  if (auto loaded = store->endpoints_.load(*store->file_); !loaded) return std::unexpected(loaded.error());
  return store;
}

SqliteRegistry::SqliteRegistry(base::EventLoop& loop, std::unique_ptr<RegistryFile> file)
    : loop_(loop),
      file_(std::move(file)),
      thread_(loop, "registry-file"),
      services_(*this, loop, Table::services),
      endpoints_(*this, loop, Table::endpoints) {}

template <typename Kind>
Result<void> SqliteRegistry::Durable<Kind>::load(RegistryFile& file) {
  return file.load(table_, [&](std::string name, std::string bytes) -> Result<void> {
    Record record;
    if (!record.ParseFromString(bytes) || record.name() != name) {
      return std::unexpected(file.damaged(fmt::format("the record of {} {} cannot be read", Kind::kNoun, name)));
    }
    memory_.put(std::move(record));
    return {};
  });
}

template <typename Kind>
Task<Result<typename Kind::Record>> SqliteRegistry::Durable<Kind>::enroll(mesh::RegistryCall&, Record record) {
  Change change(table_, record.name(), record.SerializeAsString());
  auto written = co_await store_.write(std::move(change));
  if (!written) co_return std::unexpected(written.error());
  memory_.put(record);
  co_return record;
}

template <typename Kind>
Task<Result<void>> SqliteRegistry::Durable<Kind>::withdraw(mesh::RegistryCall&, Record record) {
  Change change(table_, record.name(), std::nullopt);
  auto written = co_await store_.write(std::move(change));
  if (written) memory_.remove(record.name());
  co_return written;
}

Task<Result<void>> SqliteRegistry::write(Change change) {
  base::OneShot<Result<void>> done(loop_);
  pending_.emplace_back(std::move(change), done);
  if (!std::exchange(writing_, true)) base::spawn_detached(write_batches());
  co_return co_await done;
}

Task<void> SqliteRegistry::write_batches() {
  while (!pending_.empty()) {
    auto batch = std::make_shared<std::vector<Pending>>(std::exchange(pending_, {}));
    auto changes = std::make_shared<std::vector<Change>>();
    for (const Pending& pending : *batch) changes->push_back(pending.change);
    auto* file = file_.get();
    auto job = [file, changes] { return file->apply(*changes); };
    const Result<void> written = co_await thread_.run(std::move(job));
    ++batches_;
    for (const Pending& pending : *batch) pending.done.set(written);
  }
  writing_ = false;
}

}  // namespace registry
