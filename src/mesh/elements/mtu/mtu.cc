// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/mtu/mtu.h"

namespace mesh {

using base::Result;
using base::Task;

void Mtu::lower(Connection& connection) const {
  const std::uint32_t agreed = lower_mtu(connection.context().mtu(), limit_(connection));
  if (agreed != 0) connection.mutable_context()->set_mtu(agreed);
}

Task<Result<Connection>> Mtu::request(Call& call, NetworkServiceRequest request) {
  lower(*request.mutable_connection());
  auto connection = co_await call.next(std::move(request));
  if (connection) lower(*connection);
  co_return connection;
}

}  // namespace mesh
