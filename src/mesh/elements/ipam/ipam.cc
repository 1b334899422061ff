// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/ipam/ipam.h"

namespace mesh {

using base::Result;
using base::Task;

Task<Result<Connection>> Ipam::request(Call& call, NetworkServiceRequest request) {
  auto& held = call.state().get<PointToPointIpam::Lease>();
  auto lease = addresses_.assign(held, *request.mutable_connection()->mutable_context()->mutable_ip_context());
  if (!lease) co_return std::unexpected(lease.error().wrap("addresses for " + describe(request.connection())));

  auto connection = co_await call.next(std::move(request));
  if (connection) held = std::move(*lease);
  co_return connection;
}

Task<Result<void>> Ipam::close(Call& call, Connection connection) {
  auto closed = co_await call.next_close(std::move(connection));
  if (auto* held = call.state().find<PointToPointIpam::Lease>()) *held = {};
  co_return closed;
}

}  // namespace mesh
