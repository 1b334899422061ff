// SPDX-License-Identifier: Apache-2.0
// A registry in memory: records by name, and the watches on them. What every store answers finds from.
//
// A find gets all records that match, ordered by name; with watch, then every change to one that matches: registered,
// refreshed (the record again), unregistered (the last record, deleted). Every watch has a queue of its own: a watcher
// that lags kMaxBacklog changes behind is told so and has to watch anew, instead of holding the registry's memory.
//
// Single-threaded. Streams may outlive the registry; their watches then end as unavailable.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "mesh/core/match.h"
#include "mesh/core/registry.h"

namespace registry {

inline constexpr std::size_t kMaxBacklog = 4096;  // more than a registry of thousands changes while one message is sent

// Records by name. Endpoints are indexed by the services they offer: a find by service is what every connect does.
template <typename Kind>
class RecordIndex {
 public:
  using Record = typename Kind::Record;
  using Shared = std::shared_ptr<const Record>;

  void put(const Shared& record);
  Shared remove(const std::string& name);  // what was removed, if anything was
  Shared get(const std::string& name) const;
  std::vector<Shared> matching(const Record& query) const;  // ordered by name
  std::size_t size() const { return records_.size(); }

 private:
  std::map<std::string, Shared, std::less<>> records_;
  std::map<std::string, std::set<std::string>, std::less<>> by_service_;
};

template <typename Kind>
class Watches;

template <typename Kind>
class MemoryRegistry final : public mesh::Registry<Kind> {
 public:
  using Record = typename Kind::Record;
  using Query = typename Kind::Query;
  using Stream = typename mesh::Registry<Kind>::Stream;

  explicit MemoryRegistry(base::Scheduler& scheduler);
  ~MemoryRegistry() override;

  base::Task<base::Result<Record>> enroll(mesh::RegistryCall& call, Record record) override;
  base::Task<base::Result<void>> withdraw(mesh::RegistryCall& call, Record record) override;
  base::Task<base::Result<Stream>> find(mesh::RegistryCall& call, Query query) override;

  // The same without a call, for stores that have made the change durable.
  void put(Record record);
  void remove(const std::string& name);
  bool contains(const std::string& name) const { return index_.get(name) != nullptr; }
  std::size_t size() const { return index_.size(); }
  std::size_t watches() const;

 private:
  base::Scheduler& scheduler_;
  RecordIndex<Kind> index_;
  std::shared_ptr<Watches<Kind>> watches_;
};

extern template class MemoryRegistry<mesh::Services>;
extern template class MemoryRegistry<mesh::Endpoints>;

}  // namespace registry
