// SPDX-License-Identifier: Apache-2.0
// A bench to put an element on: the real begin above it, an end below it that records calls and answers as told, and a
// scheduler driven by hand.
//
//   fakes::ChainBench bench(std::make_shared<mesh::Mtu>(limit));
//   bench.below->fail_next(base::Code::unavailable, "no route");
//   auto connection = bench.request(bench.asking("c1"));
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fakes/manual_scheduler.h"
#include "mesh/elements/begin/begin.h"

namespace fakes {

// What stands for the rest of the world.
class Below final : public mesh::Element {
 public:
  base::Task<base::Result<mesh::Connection>> request(mesh::Call& call, mesh::NetworkServiceRequest request) override {
    requests.push_back(request);
    if (on_request) on_request(call, request);
    if (!failures_.empty()) {
      base::Error error = std::move(failures_.front());
      failures_.pop_front();
      co_return std::unexpected(std::move(error));
    }
    co_return std::move(*request.mutable_connection());
  }
  base::Task<base::Result<void>> close(mesh::Call&, mesh::Connection connection) override {
    if (on_close) on_close(connection);
    closes.push_back(std::move(connection));
    co_return base::Result<void>();
  }

  void fail_next(base::Code code, std::string message) { failures_.emplace_back(code, std::move(message)); }

  std::vector<mesh::NetworkServiceRequest> requests;
  std::vector<mesh::Connection> closes;
  // May change the request, whose connection becomes the answer.
  std::function<void(mesh::Call&, mesh::NetworkServiceRequest&)> on_request;
  std::function<void(const mesh::Connection&)> on_close;

 private:
  std::deque<base::Error> failures_;
};

class ChainBench {
  struct Top final : mesh::Element {
    using Gives = mesh::Types<mesh::Identified, mesh::NextHop>;
  };

 public:
  template <typename... T>
  explicit ChainBench(std::shared_ptr<T>... elements) {
    build(mesh::Begin::Side::server, std::move(elements)...);
  }
  template <typename... T>
  explicit ChainBench(mesh::Begin::Side side, std::shared_ptr<T>... elements) {
    build(side, std::move(elements)...);
  }

  static mesh::NetworkServiceRequest asking(const std::string& id, const std::string& service = "icmp-responder") {
    mesh::NetworkServiceRequest request;
    request.mutable_connection()->set_id(id);
    request.mutable_connection()->set_network_service(service);
    return request;
  }
  // What a client sends to refresh: what it was answered.
  static mesh::NetworkServiceRequest refreshing(mesh::Connection connection) {
    mesh::NetworkServiceRequest request;
    *request.mutable_connection() = std::move(connection);
    return request;
  }

  // The answer; the files that came with it are in reply_descriptors.
  base::Result<mesh::Connection> request(mesh::NetworkServiceRequest request) {
    mesh::CallContext context(scheduler, base::kNoDeadline, stop.token());
    auto answer = scheduler.run(chain_->request(context, std::move(request)));
    reply_descriptors = std::move(context.reply_descriptors);
    if (!answer) return base::fail(base::Code::internal, "the request never ended");
    return std::move(*answer);
  }
  base::Result<void> close(mesh::Connection connection) {
    mesh::CallContext context(scheduler, base::kNoDeadline, {});
    auto answer = scheduler.run(chain_->close(context, std::move(connection)));
    if (!answer) return base::fail(base::Code::internal, "the close never ended");
    return std::move(*answer);
  }

  ManualScheduler scheduler;
  base::StopSource stop;
  std::shared_ptr<Below> below = std::make_shared<Below>();
  std::shared_ptr<mesh::Begin> begin;
  std::vector<rpc::Descriptor> reply_descriptors;

 private:
  template <typename... T>
  void build(mesh::Begin::Side side, std::shared_ptr<T>... elements) {
    begin = std::make_shared<mesh::Begin>(side, scheduler);
    mesh::ChainBuilder builder;
    builder.add("top", std::make_shared<Top>()).add("begin", begin);
    int position = 0;
    (builder.add("element " + std::to_string(++position), std::move(elements)), ...);
    builder.add("below", below);
    chain_.emplace(std::move(builder).build());
  }

  std::optional<mesh::Chain> chain_;
};

}  // namespace fakes
