// SPDX-License-Identifier: Apache-2.0
// What registry elements are made of: a registry with a next one behind it, and streams that change what passes
// through.
#pragma once

#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <utility>

#include "mesh/core/registry.h"

namespace mesh {

// Passes on what it does not override. Elements outlive the streams they return; a stream does not refer to the call it
// came from once find() has returned.
template <typename Kind>
class RegistryElement : public Registry<Kind> {
 public:
  using Record = typename Kind::Record;
  using Query = typename Kind::Query;
  using Stream = typename Registry<Kind>::Stream;

  base::Task<base::Result<Record>> enroll(RegistryCall& call, Record record) override {
    return next_->enroll(call, std::move(record));
  }
  base::Task<base::Result<void>> withdraw(RegistryCall& call, Record record) override {
    return next_->withdraw(call, std::move(record));
  }
  base::Task<base::Result<Stream>> find(RegistryCall& call, Query query) override {
    return next_->find(call, std::move(query));
  }

  void set_next(Registry<Kind>& next) { next_ = &next; }

 protected:
  Registry<Kind>& next() const { return *next_; }

 private:
  Registry<Kind>* next_ = nullptr;
};

// Ties elements together in the order a call meets them, and returns the first.
template <typename Kind>
Registry<Kind>& link_registry(std::initializer_list<RegistryElement<Kind>*> elements, Registry<Kind>& end) {
  Registry<Kind>* next = &end;
  for (auto element = std::rbegin(elements); element != std::rend(elements); ++element) {
    (*element)->set_next(*next);
    next = *element;
  }
  return *next;
}

// Each answer as the function returns it; those it returns nothing for are left out.
template <typename Kind>
class MappedStream final : public FindStream<Kind> {
 public:
  using Map = std::function<std::optional<Found<Kind>>(Found<Kind>)>;

  MappedStream(std::unique_ptr<FindStream<Kind>> inner, Map map) : inner_(std::move(inner)), map_(std::move(map)) {}

  base::Task<base::Result<std::optional<Found<Kind>>>> next() override {
    for (;;) {
      auto found = co_await inner_->next();
      if (!found || !*found) co_return found;
      if (auto mapped = map_(std::move(**found))) co_return mapped;
    }
  }

 private:
  std::unique_ptr<FindStream<Kind>> inner_;
  Map map_;
};

}  // namespace mesh
