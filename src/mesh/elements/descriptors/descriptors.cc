// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/descriptors/descriptors.h"

#include "mesh/elements/descriptors/descriptor_kind.h"
#include "mesh/elements/descriptors/held_descriptors.h"

namespace mesh {

using base::Code;
using base::fail;
using base::Result;
using base::Task;

namespace {

Task<Result<void>> take_in(CallContext& context, const Mechanism& mechanism) {
  const std::string url = mechanism_parameter(mechanism, parameter::kInodeUrl);
  if (url.starts_with("file:")) {
    co_return fail(
        Code::invalid_argument,
        "mechanism {} names its namespace as {}: a path means nothing here; send the file itself over the unix "
        "socket and name it inode://device/inode",
        mechanism.type(), url);
  }
  const auto key = rpc::parse_inode_url(url);
  if (!key) co_return Result<void>();
  auto& held = context.state->get<HeldDescriptors>();
  if (held.find(*key)) co_return Result<void>();
  if (!context.link)
    co_return fail(Code::failed_precondition, "mechanism {} names {}, which nobody brought", mechanism.type(), url);
  auto descriptor = co_await context.link->descriptor(*key, context.deadline, context.stop);
  if (!descriptor) {
    co_return std::unexpected(descriptor.error().wrap(
        fmt::format("mechanism {} names {}, but that file did not come over this connection", mechanism.type(), url)));
  }
  if (mechanism.type() == kKernel) {
    if (auto fit = check_network_namespace(*descriptor); !fit) co_return fit;
  }
  held.hold(std::move(*descriptor));
  co_return Result<void>();
}

}  // namespace

Task<Result<Connection>> Descriptors::request(Call& call, NetworkServiceRequest request) {
  CallContext& context = call.context();
  for (const Mechanism& preference : request.mechanism_preferences()) {
    auto taken = co_await take_in(context, preference);
    if (!taken) co_return std::unexpected(taken.error());
  }
  if (request.connection().has_mechanism()) {
    auto taken = co_await take_in(context, request.connection().mechanism());
    if (!taken) co_return std::unexpected(taken.error());
  }

  auto connection = co_await call.next(std::move(request));

  if (connection) {
    const std::string url = mechanism_parameter(connection->mechanism(), parameter::kInodeUrl);
    if (auto descriptor = call.state().get<HeldDescriptors>().find(url)) {
      context.reply_descriptors.push_back(std::move(*descriptor));
    }
  }
  co_return connection;
}

}  // namespace mesh
