// SPDX-License-Identifier: Apache-2.0
#include "mesh/chains/serving.h"

#include <google/protobuf/empty.pb.h>

#include <algorithm>

#include "base/log.h"
#include "health.pb.h"
#include "rpc/typed.h"

namespace mesh {

using base::Code;
using base::fail;
using base::Result;
using base::Task;
using google::protobuf::Empty;
using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

namespace {

// What a peer that sets no deadline gets: long enough for anything that will still succeed.
constexpr base::Duration kDefaultAllowance = std::chrono::seconds(60);

CallContext context_of(base::Scheduler& scheduler, rpc::ServerCall& call) {
  const auto deadline = std::min(call.deadline, base::saturating_add(scheduler.now(), kDefaultAllowance));
  CallContext context(scheduler, deadline, call.stop);
  context.metadata = call.metadata;
  context.link = call.link;
  return context;
}

Task<Result<Connection>> request(base::Scheduler& scheduler, const Chain& chain, rpc::ServerCall& call,
                                 NetworkServiceRequest request) {
  CallContext context = context_of(scheduler, call);
  const std::string what = describe(request.connection());
  auto connection = co_await chain.request(context, std::move(request));
  if (!connection) {
    base::log::warning("request of {} failed: {}", what, connection.error().message());
    co_return connection;
  }
  if (call.stop.stopped() && !context.established) {
    CallContext undo(scheduler, base::saturating_add(scheduler.now(), context.allowance), {});
    undo.metadata = call.metadata;
    undo.link = call.link;
    auto closed = co_await chain.close(undo, *connection);
    base::log::info("{}: the caller left before the answer{}", what, closed ? "" : "; " + closed.error().message());
    co_return fail(Code::cancelled, "the caller left before the answer");
  }
  call.reply_descriptors = std::move(context.reply_descriptors);
  co_return connection;
}

Task<Result<Empty>> close(base::Scheduler& scheduler, const Chain& chain, rpc::ServerCall& call,
                          Connection connection) {
  CallContext context = context_of(scheduler, call);
  auto closed = co_await chain.close(context, std::move(connection));
  if (!closed) co_return std::unexpected(closed.error());
  co_return Empty();
}

Task<Result<void>> monitor_stream(const AuthorizeMonitor& monitor, rpc::ServerCall& call, rpc::Bytes bytes,
                                  rpc::ServerStream& stream) {
  auto selector = rpc::parse<MonitorScopeSelector>(bytes, call.method);
  if (!selector) co_return std::unexpected(selector.error());
  co_return co_await monitor.serve(call, std::move(*selector), stream);
}

using HealthNames = std::shared_ptr<const std::vector<std::string>>;

HealthCheckResponse::ServingStatus health_of(const HealthNames& names, const std::string& service) {
  return service.empty() || std::ranges::find(*names, service) != names->end() ? HealthCheckResponse::SERVING
                                                                               : HealthCheckResponse::SERVICE_UNKNOWN;
}

Task<Result<HealthCheckResponse>> health_check(HealthNames names, HealthCheckRequest request) {
  HealthCheckResponse response;
  response.set_status(health_of(names, request.service()));
  if (response.status() != HealthCheckResponse::SERVING) {
    co_return fail(Code::not_found, "service '{}' is not served here", request.service());
  }
  co_return response;
}

Task<Result<void>> health_watch(base::Scheduler& scheduler, HealthNames names, rpc::ServerCall& call, rpc::Bytes bytes,
                                rpc::ServerStream& stream) {
  auto request = rpc::parse<HealthCheckRequest>(bytes, call.method);
  if (!request) co_return std::unexpected(request.error());
  HealthCheckResponse response;
  response.set_status(health_of(names, request->service()));
  auto written = co_await stream.write(response.SerializeAsString(), {});
  if (!written) co_return written;
  co_await base::sleep_until(scheduler, base::kNoDeadline, call.stop);
  co_return Result<void>();
}

}  // namespace

void serve_connections(rpc::Services& services, base::Scheduler& scheduler, const Chain& chain) {
  services[method::kRequest] = rpc::unary_handler<NetworkServiceRequest, Connection>(
      [&scheduler, &chain](rpc::ServerCall& call, NetworkServiceRequest message) {
        return request(scheduler, chain, call, std::move(message));
      });
  services[method::kClose] =
      rpc::unary_handler<Connection, Empty>([&scheduler, &chain](rpc::ServerCall& call, Connection message) {
        return close(scheduler, chain, call, std::move(message));
      });
}

void serve_monitor(rpc::Services& services, AuthorizeMonitor monitor) {
  services[method::kMonitor] = rpc::StreamHandler(
      [monitor = std::move(monitor)](rpc::ServerCall& call, rpc::Bytes bytes, rpc::ServerStream& stream) {
        return monitor_stream(monitor, call, std::move(bytes), stream);
      });
}

void serve_health(rpc::Services& services, base::Scheduler& scheduler, std::vector<std::string> names) {
  const auto shared = std::make_shared<const std::vector<std::string>>(std::move(names));
  services[method::kHealthCheck] = rpc::unary_handler<HealthCheckRequest, HealthCheckResponse>(
      [shared](rpc::ServerCall&, HealthCheckRequest message) { return health_check(shared, std::move(message)); });
  services[method::kHealthWatch] =
      rpc::StreamHandler([shared, &scheduler](rpc::ServerCall& call, rpc::Bytes bytes, rpc::ServerStream& stream) {
        return health_watch(scheduler, shared, call, std::move(bytes), stream);
      });
}

}  // namespace mesh
