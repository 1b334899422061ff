// SPDX-License-Identifier: Apache-2.0
// The registry behind a URL, as a registry: the end of a chain, and what endpoints and forwarders register with.
//
// Sends call.path as the "path" metadata and takes the peer's answer for it; sends call.descriptors along. An endpoint
// found with an inode URL comes with the descriptor its peer sent; if that does not come, it comes without, which
// whoever dials it will say.
//
// With an Authorization the peer's answers to registrations must pass it; a first one that does not is unregistered.
#pragma once

#include <set>
#include <string>

#include "base/log.h"
#include "mesh/elements/authorize/authorization.h"
#include "mesh/elements/registry_element/registry_element.h"
#include "rpc/typed.h"

namespace mesh {

inline constexpr base::Duration kFoundSocketTimeout = std::chrono::seconds(2);  // it is sent just before the message

// For a record that names its socket by inode.
inline std::optional<rpc::InodeKey> socket_of(const NetworkServiceEndpoint& endpoint) {
  return rpc::parse_inode_url(endpoint.url());
}
inline std::optional<rpc::InodeKey> socket_of(const NetworkService&) { return std::nullopt; }

template <typename Kind>
class RemoteFindStream final : public FindStream<Kind> {
 public:
  RemoteFindStream(std::unique_ptr<rpc::ClientStream> stream, base::Scheduler& scheduler, base::StopToken stop,
                   std::string url)
      : stream_(std::move(stream)), scheduler_(scheduler), stop_(std::move(stop)), url_(std::move(url)) {}

  base::Task<base::Result<std::optional<Found<Kind>>>> next() override {
    auto bytes = co_await stream_->read();
    if (!bytes) co_return std::unexpected(bytes.error().wrap("registry " + url_));
    if (!*bytes) co_return std::optional<Found<Kind>>();
    auto response = rpc::parse<typename Kind::Response>(**bytes, Kind::kFind);
    if (!response) co_return std::unexpected(response.error().wrap("registry " + url_));
    std::optional<Found<Kind>> found(std::in_place, std::move(*response));
    const auto key = socket_of(Kind::record(std::as_const(found->response)));
    if (const auto link = stream_->link(); key && link && !found->response.deleted()) {
      auto socket = co_await link->descriptor(*key, base::saturating_add(scheduler_.now(), kFoundSocketTimeout), stop_);
      if (socket) found->socket = std::move(*socket);
    }
    co_return found;
  }

 private:
  std::unique_ptr<rpc::ClientStream> stream_;
  base::Scheduler& scheduler_;
  base::StopToken stop_;
  std::string url_;
};

template <typename Kind>
class RegistryRemote final : public Registry<Kind> {
 public:
  using Record = typename Kind::Record;
  using Query = typename Kind::Query;
  using Stream = typename Registry<Kind>::Stream;

  // The transport and the authorization outlive the registry. Nothing is dialled before the first call.
  RegistryRemote(rpc::Transport& transport, std::string url, Authorization* authorization = nullptr)
      : transport_(transport), url_(std::move(url)), authorization_(authorization) {}

  base::Task<base::Result<Record>> enroll(RegistryCall& call, Record record) override {
    auto connected = channel();
    if (!connected) co_return std::unexpected(connected.error());
    auto options = with_path(call);
    auto reply = co_await rpc::unary<Record>(*connected, Kind::kRegister, record, std::move(options));
    if (!reply) co_return std::unexpected(reply.error().wrap("registry " + url_));
    if (auto taken = take_path(call, reply->metadata); !taken) co_return std::unexpected(taken.error());
    const std::string name = reply->message.name();
    auto trusted = co_await check_answer(call, name, reply->link);
    if (!trusted) {
      if (!trusted_.contains(name)) {
        Record untrusted = reply->message;
        auto options_again = with_path(call);
        auto undone = co_await rpc::unary<google::protobuf::Empty>(*connected, Kind::kUnregister, untrusted,
                                                                   std::move(options_again));
        if (!undone) base::log::info("unregistering {} {} again: {}", Kind::kNoun, name, undone.error().message());
      }
      co_return std::unexpected(trusted.error());
    }
    if (authorization_ != nullptr) trusted_.insert(name);
    co_return std::move(reply->message);
  }

  base::Task<base::Result<void>> withdraw(RegistryCall& call, Record record) override {
    auto connected = channel();
    if (!connected) co_return std::unexpected(connected.error());
    auto options = with_path(call);
    auto reply =
        co_await rpc::unary<google::protobuf::Empty>(*connected, Kind::kUnregister, record, std::move(options));
    if (!reply) co_return std::unexpected(reply.error().wrap("registry " + url_));
    if (auto taken = take_path(call, reply->metadata); !taken) co_return taken;
    trusted_.erase(record.name());
    co_return co_await check_answer(call, record.name(), reply->link);
  }

  base::Task<base::Result<Stream>> find(RegistryCall& call, Query query) override {
    auto connected = channel();
    if (!connected) co_return std::unexpected(connected.error());
    rpc::CallOptions options;
    options.deadline = call.deadline;
    options.stop = call.stop;
    auto stream = co_await (*connected)->stream(Kind::kFind, query.SerializeAsString(), std::move(options));
    if (!stream) co_return std::unexpected(stream.error().wrap("registry " + url_));
    co_return std::make_unique<RemoteFindStream<Kind>>(std::move(*stream), call.scheduler, call.stop, url_);
  }

 private:
  base::Task<base::Result<void>> check_answer(const RegistryCall& call, const std::string& name,
                                              const std::shared_ptr<rpc::Link>& link) {
    if (authorization_ == nullptr) co_return base::Result<void>();
    Authorization::Registration registration;
    registration.noun = Kind::kNoun;
    registration.name = name;
    co_return co_await authorization_->check_registration_answer(call.path, rpc::peer_of(link), registration);
  }

  base::Result<std::shared_ptr<rpc::Channel>> channel() {
    if (!channel_) {
      auto made = transport_.channel(url_);
      if (!made) return std::unexpected(made.error().wrap("registry " + url_));
      channel_ = std::move(*made);
    }
    return channel_;
  }

  static rpc::CallOptions with_path(const RegistryCall& call) {
    rpc::CallOptions options;
    options.deadline = call.deadline;
    options.stop = call.stop;
    options.metadata.emplace("path", format_path(call.path));
    options.descriptors = call.descriptors;
    return options;
  }

  // A peer that returns no path leaves ours as it is.
  base::Result<void> take_path(RegistryCall& call, const rpc::Metadata& metadata) const {
    const auto [first, last] = metadata.equal_range("path");
    if (first == last) return {};
    auto path = parse_path(std::prev(last)->second);
    if (!path) return std::unexpected(path.error().wrap("registry " + url_));
    path->index = call.path.index;  // our own hop, whatever the peer says
    if (path->tokens.size() > path->index) call.path = std::move(*path);
    return {};
  }

  rpc::Transport& transport_;
  const std::string url_;
  Authorization* const authorization_;
  std::shared_ptr<rpc::Channel> channel_;
  std::set<std::string> trusted_;  // names registered by an answer that passed
};

}  // namespace mesh
