// SPDX-License-Identifier: Apache-2.0
// The end of a chain of registry elements: keeps what it is given, records the calls, fails when told to.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "mesh/core/registry.h"

namespace fakes {

template <typename Kind>
class FakeRegistry final : public mesh::Registry<Kind> {
 public:
  using Record = typename Kind::Record;
  using Query = typename Kind::Query;
  using Stream = typename mesh::Registry<Kind>::Stream;

  base::Task<base::Result<Record>> enroll(mesh::RegistryCall& call, Record record) override {
    enrolled.push_back(record);
    paths.push_back(call.path);
    if (before_answer) co_await before_answer();
    if (auto failed = failure()) co_return std::unexpected(std::move(*failed));
    if (on_enroll) on_enroll(call, record);
    records.insert_or_assign(record.name(), record);
    co_return record;
  }
  base::Task<base::Result<void>> withdraw(mesh::RegistryCall& call, Record record) override {
    withdrawn.push_back(record);
    paths.push_back(call.path);
    if (auto failed = failure()) co_return std::unexpected(std::move(*failed));
    records.erase(record.name());
    co_return base::Result<void>();
  }
  // All records whose name is the query's, or all; no watching. `deleted` are told of too, after them.
  base::Task<base::Result<Stream>> find(mesh::RegistryCall&, Query query) override {
    queries.push_back(query);
    if (auto failed = failure()) co_return std::unexpected(std::move(*failed));
    std::deque<mesh::Found<Kind>> found;
    const std::string name = Kind::record(query).name();
    for (const auto& [key, record] : records) {
      if (name.empty() || name == key) found.push_back(answer(record, false));
    }
    for (const Record& record : deleted) found.push_back(answer(record, true));
    co_return std::make_unique<Answers>(std::move(found));
  }

  void fail_next(base::Code code, std::string message) { failures_.emplace_back(code, std::move(message)); }

  std::map<std::string, Record> records;
  std::vector<Record> deleted;
  std::vector<Record> enrolled;  // as they came
  std::vector<Record> withdrawn;
  std::vector<Query> queries;
  std::vector<mesh::RegistrationPath> paths;
  std::function<void(mesh::RegistryCall&, Record&)> on_enroll;  // may change what is answered
  std::function<base::Task<void>()> before_answer;              // what enroll waits for

 private:
  class Answers final : public mesh::FindStream<Kind> {
   public:
    explicit Answers(std::deque<mesh::Found<Kind>> found) : found_(std::move(found)) {}
    base::Task<base::Result<std::optional<mesh::Found<Kind>>>> next() override {
      if (found_.empty()) co_return std::optional<mesh::Found<Kind>>();
      std::optional<mesh::Found<Kind>> first(std::move(found_.front()));
      found_.pop_front();
      co_return first;
    }

   private:
    std::deque<mesh::Found<Kind>> found_;
  };

  static mesh::Found<Kind> answer(const Record& record, bool gone) {
    typename Kind::Response response;
    Kind::record(response) = record;
    response.set_deleted(gone);
    return mesh::Found<Kind>(std::move(response));
  }
  std::optional<base::Error> failure() {
    if (failures_.empty()) return std::nullopt;
    base::Error error = std::move(failures_.front());
    failures_.pop_front();
    return error;
  }

  std::deque<base::Error> failures_;
};

}  // namespace fakes
