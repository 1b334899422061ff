// SPDX-License-Identifier: Apache-2.0
// A registry that survives its process: finds and watches are answered from memory, and a registration is acknowledged,
// found and told of only when it is in the file. Writing happens on a thread of its own; what arrives while a batch is
// being written forms the next one, so that a burst of registrations costs few fsyncs.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/worker_thread.h"
#include "registry/memory_registry.h"
#include "registry/registry_file.h"

namespace registry {

class SqliteRegistry {
 public:
  // Reads the file; blocks, so before the loop runs. Errors are sentences for the operator.
  static base::Result<std::unique_ptr<SqliteRegistry>> open(base::EventLoop& loop, const std::string& path);

  mesh::ServiceRegistry& services() { return services_; }
  mesh::EndpointRegistry& endpoints() { return endpoints_; }
  std::uint64_t batches() const { return batches_; }  // written so far

 private:
  template <typename Kind>
  class Durable final : public mesh::Registry<Kind> {
   public:
    using Record = typename Kind::Record;
    using Query = typename Kind::Query;
    using Stream = typename mesh::Registry<Kind>::Stream;

    Durable(SqliteRegistry& store, base::Scheduler& scheduler, Table table)
        : store_(store), memory_(scheduler), table_(table) {}

    base::Result<void> load(RegistryFile& file);
    base::Task<base::Result<Record>> enroll(mesh::RegistryCall& call, Record record) override;
    base::Task<base::Result<void>> withdraw(mesh::RegistryCall& call, Record record) override;
    base::Task<base::Result<Stream>> find(mesh::RegistryCall& call, Query query) override {
      return memory_.find(call, std::move(query));
    }

   private:
    SqliteRegistry& store_;
    MemoryRegistry<Kind> memory_;
    const Table table_;
  };

  struct Pending {
    Pending(Change c, base::OneShot<base::Result<void>> d) : change(std::move(c)), done(std::move(d)) {}
    Change change;
    base::OneShot<base::Result<void>> done;
  };

  SqliteRegistry(base::EventLoop& loop, std::unique_ptr<RegistryFile> file);

  // Returns when the change is in the file.
  base::Task<base::Result<void>> write(Change change);
  base::Task<void> write_batches();

  base::EventLoop& loop_;
  std::unique_ptr<RegistryFile> file_;
  base::WorkerThread thread_;  // joined before the file is closed
  std::vector<Pending> pending_;
  bool writing_ = false;
  std::uint64_t batches_ = 0;
  Durable<mesh::Services> services_;
  Durable<mesh::Endpoints> endpoints_;
};

}  // namespace registry
