// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/connect/connect.h"

#include <google/protobuf/empty.pb.h>

#include "base/log.h"
#include "mesh/elements/descriptors/descriptor_kind.h"
#include "mesh/elements/descriptors/held_descriptors.h"
#include "rpc/typed.h"

namespace mesh {

using base::Code;
using base::fail;
using base::Result;
using base::Task;

namespace {

// Where the connection was last answered. Holding the channel keeps its transport connection open for the next call.
struct ConnectedHop {
  NextHop hop;
  std::shared_ptr<rpc::Channel> channel;
};

void collect(const HeldDescriptors& held, const Mechanism& mechanism, std::vector<rpc::Descriptor>& into) {
  if (auto descriptor = held.find(mechanism_parameter(mechanism, parameter::kInodeUrl))) into.push_back(*descriptor);
}

rpc::CallOptions options_for(CallContext& context) {
  rpc::CallOptions options;
  options.deadline = context.deadline;
  options.stop = context.stop;
  return options;
}

Task<Result<void>> close_at_hop(rpc::Transport& transport, CallContext& context, NextHop hop, Connection connection) {
  auto channel = transport.channel(hop.url, hop.socket);
  if (!channel) co_return std::unexpected(channel.error());
  rpc::CallOptions options = options_for(context);
  if (const auto* held = context.state->find<HeldDescriptors>())
    collect(*held, connection.mechanism(), options.descriptors);
  auto reply = co_await rpc::unary<google::protobuf::Empty>(*channel, method::kClose, connection, std::move(options));
  if (!reply) co_return std::unexpected(reply.error());
  co_return Result<void>();
}

// Its id and its place on the path are what a process finds the connection by again, so the peer has no say in them:
// they become what was asked with. Refuses an answer on whose path this process has lost its place.
Result<void> take_own_place(const Connection& asked, Connection& answer) {
  const auto own = static_cast<int>(asked.path().index());
  const bool lost = own >= answer.path().path_segments_size() || answer.path().path_segments(own).id() != asked.id();
  if (lost) *answer.mutable_path() = asked.path();
  answer.mutable_path()->set_index(asked.path().index());
  answer.set_id(asked.id());
  if (!lost) return {};
  return fail(Code::invalid_argument,
              "its path has lost segment {}, which is {}: it must keep all segments before its own", own, asked.id());
}

// Holds the file that the answer's mechanism names, if it names one.
Task<Result<void>> take_file(CallContext& context, std::shared_ptr<rpc::Link> link, const Mechanism& mechanism,
                             HeldDescriptors& held) {
  const auto named = rpc::parse_inode_url(mechanism_parameter(mechanism, parameter::kInodeUrl));
  if (!named || held.find(*named) || !link) co_return Result<void>();
  auto descriptor = co_await link->descriptor(*named, context.deadline, context.stop);
  Result<void> fit;
  if (!descriptor) {
    fit = std::unexpected(descriptor.error().wrap("it did not pass that file"));
  } else if (mechanism.type() == kKernel) {
    fit = check_network_namespace(*descriptor);
  }
  if (!fit) co_return std::unexpected(fit.error().wrap(rpc::inode_url(*named)));
  held.hold(std::move(*descriptor));
  co_return fit;
}

}  // namespace

Task<Result<Connection>> Connect::request(Call& call, NetworkServiceRequest request) {
  CallContext& context = call.context();
  const NextHop hop = call.state().get<NextHop>();
  if (hop.url.empty()) co_return fail(Code::internal, "{} has no next hop", describe(request.connection()));

  if (auto* connected = call.state().find<ConnectedHop>(); connected != nullptr && connected->hop.url != hop.url) {
    const NextHop old = connected->hop;
    Connection stale = request.connection();
    auto closed = co_await close_at_hop(transport_, context, old, std::move(stale));
    if (!closed) base::log::info("closing {} at {}: {}", request.connection().id(), old.url, closed.error().message());
  }

  auto channel = transport_.channel(hop.url, hop.socket);
  if (!channel) co_return std::unexpected(channel.error());
  rpc::CallOptions options = options_for(context);
  auto& held = call.state().get<HeldDescriptors>();
  collect(held, request.connection().mechanism(), options.descriptors);
  for (const Mechanism& preference : request.mechanism_preferences()) collect(held, preference, options.descriptors);

  auto reply = co_await rpc::unary<Connection>(*channel, method::kRequest, request, std::move(options));
  if (!reply) co_return std::unexpected(reply.error());
  context.answered_below = true;
  call.state().get<AnsweredBy>().peer = rpc::peer_of(reply->link);
  auto& connected = call.state().get<ConnectedHop>();
  connected.hop = hop;
  connected.channel = *channel;

  Result<void> fit = take_own_place(request.connection(), reply->message);
  if (fit) fit = co_await take_file(context, reply->link, reply->message.mechanism(), held);
  if (!fit) {
    const base::Error error = fit.error().wrap("the answer of " + hop.url);
    if (!context.established) {
      CallContext undo(context.scheduler, base::saturating_add(context.scheduler.now(), context.allowance), {});
      undo.state = context.state;
      auto closed = co_await close_at_hop(transport_, undo, hop, reply->message);
      if (!closed) base::log::info("undo at {}: {}", hop.url, closed.error().message());
    }
    co_return std::unexpected(error);
  }
  co_return std::move(reply->message);
}

Task<Result<void>> Connect::close(Call& call, Connection connection) {
  const auto* connected = call.state().find<ConnectedHop>();
  if (connected == nullptr) co_return Result<void>();  // never answered: nobody to tell
  co_return co_await close_at_hop(transport_, call.context(), connected->hop, std::move(connection));
}

}  // namespace mesh
