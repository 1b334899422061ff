// SPDX-License-Identifier: Apache-2.0
#include "registry/memory_registry.h"

#include <deque>

namespace registry {

using base::Code;
using base::fail;
using base::Result;
using base::Task;
using mesh::Found;

namespace {

const google::protobuf::RepeatedPtrField<std::string>* services_of(const mesh::NetworkServiceEndpoint& endpoint) {
  return &endpoint.network_service_names();
}
const google::protobuf::RepeatedPtrField<std::string>* services_of(const mesh::NetworkService&) { return nullptr; }

}  // namespace

template <typename Kind>
void RecordIndex<Kind>::put(const Shared& record) {
  remove(record->name());
  records_.emplace(record->name(), record);
  if (const auto* services = services_of(*record)) {
    for (const std::string& service : *services) by_service_[service].insert(record->name());
  }
}

template <typename Kind>
auto RecordIndex<Kind>::remove(const std::string& name) -> Shared {
  const auto found = records_.find(name);
  if (found == records_.end()) return nullptr;
  const Shared removed = std::move(found->second);
  records_.erase(found);
  if (const auto* services = services_of(*removed)) {
    for (const std::string& service : *services) {
      const auto entry = by_service_.find(service);
      if (entry == by_service_.end()) continue;  // a service named twice
      entry->second.erase(name);
      if (entry->second.empty()) by_service_.erase(entry);
    }
  }
  return removed;
}

template <typename Kind>
auto RecordIndex<Kind>::get(const std::string& name) const -> Shared {
  const auto found = records_.find(name);
  return found == records_.end() ? nullptr : found->second;
}

template <typename Kind>
auto RecordIndex<Kind>::matching(const Record& query) const -> std::vector<Shared> {
  std::vector<Shared> all;
  const auto consider = [&](const Shared& record) {
    if (record && mesh::matches(query, *record)) all.push_back(record);
  };
  if (!query.name().empty()) {
    consider(get(query.name()));
    return all;
  }
  if (const auto* services = services_of(query); services != nullptr && !services->empty()) {
    const auto names = by_service_.find(services->Get(0));
    if (names == by_service_.end()) return all;
    for (const std::string& name : names->second) consider(get(name));
    return all;
  }
  for (const auto& [name, record] : records_) consider(record);
  return all;
}

// All watches of one registry, shared with their streams. Those on one name are kept by that name, since most are:
// every endpoint watches itself.
template <typename Kind>
class Watches {
 public:
  using Record = typename Kind::Record;
  using Shared = std::shared_ptr<const Record>;

  struct Change {
    Change(Shared r, bool d) : record(std::move(r)), deleted(d) {}
    Shared record;
    bool deleted;
  };

  struct Watch {
    Watch(base::Scheduler& scheduler, Record q) : query(std::move(q)), changes(scheduler) {}
    const Record query;
    base::AsyncQueue<Change> changes;
    Result<void> end = fail(Code::unavailable, "the registry ends");  // why changes was closed
    void close(std::unexpected<base::Error> why) {
      if (changes.closed()) return;
      end = std::move(why);
      changes.close();
    }
  };

  std::shared_ptr<Watch> add(base::Scheduler& scheduler, const Record& query) {
    auto watch = std::make_shared<Watch>(scheduler, query);
    by_name_[query.name()].push_back(watch);
    ++count_;
    return watch;
  }

  void drop(const std::shared_ptr<Watch>& watch) {
    const auto entry = by_name_.find(watch->query.name());
    if (entry == by_name_.end() || std::erase(entry->second, watch) == 0) return;
    if (entry->second.empty()) by_name_.erase(entry);
    --count_;
  }

  void tell(const Shared& record, bool deleted) {
    tell_those_on(record->name(), record, deleted);
    tell_those_on({}, record, deleted);
  }

  void close() {
    for (auto& [name, watches] : by_name_) {
      for (const auto& watch : watches) watch->close(fail(Code::unavailable, "the registry ends"));
    }
  }

  std::size_t count() const { return count_; }

 private:
  void tell_those_on(const std::string& name, const Shared& record, bool deleted) {
    const auto entry = by_name_.find(name);
    if (entry == by_name_.end()) return;
    for (const auto& watch : entry->second) {
      if (!mesh::matches(watch->query, *record)) continue;
      if (watch->changes.size() < kMaxBacklog) {
        watch->changes.push(Change(record, deleted));
      } else {
        watch->close(fail(Code::resource_exhausted, "the watch lags {} changes behind: read faster, or watch again",
                          kMaxBacklog));
      }
    }
  }

  std::map<std::string, std::vector<std::shared_ptr<Watch>>, std::less<>> by_name_;
  std::size_t count_ = 0;
};

namespace {

template <typename Kind>
class StoredStream final : public mesh::FindStream<Kind> {
 public:
  using Shared = std::shared_ptr<const typename Kind::Record>;
  using Watch = typename Watches<Kind>::Watch;

  // watch: none if only what is there was asked for.
  StoredStream(std::vector<Shared> present, std::shared_ptr<Watches<Kind>> watches, std::shared_ptr<Watch> watch,
               const base::StopToken& stop)
      : present_(present.begin(), present.end()), watches_(std::move(watches)), watch_(std::move(watch)) {
    if (watch_) {
      on_stop_ = stop.on_stop([w = watch_] { w->close(fail(Code::cancelled, "the watch was cancelled")); });
    }
  }
  ~StoredStream() override {
    if (watch_) watches_->drop(watch_);
  }

  Task<Result<std::optional<Found<Kind>>>> next() override {
    if (!present_.empty()) {
      const Shared record = std::move(present_.front());
      present_.pop_front();
      co_return answer(record, false);
    }
    if (!watch_) co_return std::optional<Found<Kind>>();
    auto change = co_await watch_->changes.pop();
    if (!change) co_return std::unexpected(watch_->end.error());
    co_return answer(change->record, change->deleted);
  }

 private:
  static std::optional<Found<Kind>> answer(const Shared& record, bool deleted) {
    typename Kind::Response response;
    Kind::record(response) = *record;
    response.set_deleted(deleted);
    return Found<Kind>(std::move(response));
  }

  std::deque<Shared> present_;
  std::shared_ptr<Watches<Kind>> watches_;
  std::shared_ptr<Watch> watch_;
  base::StopRegistration on_stop_;
};

}  // namespace

template <typename Kind>
MemoryRegistry<Kind>::MemoryRegistry(base::Scheduler& scheduler)
    : scheduler_(scheduler), watches_(std::make_shared<Watches<Kind>>()) {}

template <typename Kind>
MemoryRegistry<Kind>::~MemoryRegistry() {
  watches_->close();
}

template <typename Kind>
Task<Result<typename Kind::Record>> MemoryRegistry<Kind>::enroll(mesh::RegistryCall&, Record record) {
  put(record);
  co_return record;
}

template <typename Kind>
Task<Result<void>> MemoryRegistry<Kind>::withdraw(mesh::RegistryCall&, Record record) {
  remove(record.name());
  co_return Result<void>();
}

template <typename Kind>
auto MemoryRegistry<Kind>::find(mesh::RegistryCall& call, Query query) -> Task<Result<Stream>> {
  auto watch = query.watch() ? watches_->add(scheduler_, Kind::record(query)) : nullptr;
  co_return std::make_unique<StoredStream<Kind>>(index_.matching(Kind::record(query)), watches_, std::move(watch),
                                                 call.stop);
}

template <typename Kind>
void MemoryRegistry<Kind>::put(Record record) {
  const auto shared = std::make_shared<const Record>(std::move(record));
  index_.put(shared);
  watches_->tell(shared, false);
}

template <typename Kind>
void MemoryRegistry<Kind>::remove(const std::string& name) {
  if (const auto removed = index_.remove(name)) watches_->tell(removed, true);
}

template <typename Kind>
std::size_t MemoryRegistry<Kind>::watches() const {
  return watches_->count();
}

template class MemoryRegistry<mesh::Services>;
template class MemoryRegistry<mesh::Endpoints>;

}  // namespace registry
