// SPDX-License-Identifier: Apache-2.0
#include "apps/client_role.h"

#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "apps/client_options.h"
#include "apps/liveness.h"
#include "base/log.h"
#include "mesh/chains/client.h"

namespace apps {

using base::Result;
using base::Task;
using mesh::Connection;

namespace {

constexpr base::Duration kSilence = std::chrono::seconds(10);  // about a failure that stays
constexpr base::Duration kRetry = std::chrono::milliseconds(200);

// One line of JSON an event, for whoever started the client.
class EventLines {
 public:
  explicit EventLines(const base::Environment& environment) : enabled_(environment("PATCHBAY_EVENTS") == "stdout") {}

  void connected(const Connection& connection, double milliseconds) const {
    auto path = nlohmann::ordered_json::array();
    for (const auto& segment : connection.path().path_segments()) path.push_back(segment.name());
    const auto& ip = connection.context().ip_context();
    write({{"event", "connected"},
           {"id", connection.id()},
           {"service", connection.network_service()},
           {"interface", mesh::mechanism_parameter(connection.mechanism(), mesh::parameter::kName)},
           {"src", std::vector<std::string>(ip.src_ip_addrs().begin(), ip.src_ip_addrs().end())},
           {"dst", std::vector<std::string>(ip.dst_ip_addrs().begin(), ip.dst_ip_addrs().end())},
           {"mtu", connection.context().mtu()},
           {"path", path},
           {"endpoint", connection.network_service_endpoint_name()},
           {"ms", milliseconds}});
  }
  void health(const std::string& id, std::string_view what) const {
    write({{"event", "health"}, {"id", id}, {"what", what}});
  }
  void closed(double milliseconds) const { write({{"event", "closed"}, {"ms", milliseconds}}); }

 private:
  void write(const nlohmann::ordered_json& line) const {
    if (!enabled_) return;
    fmt::print("{}\n", line.dump());
    std::fflush(stdout);
  }
  const bool enabled_;
};

double milliseconds_since(const Process& process, base::TimePoint start) {
  return std::chrono::duration<double, std::milli>(process.loop.now() - start).count();
}

// Again and again until it succeeds; false if stopped before.
Task<bool> connect(const ClientOptions& options, Process& process, mesh::Client& client, const EventLines& events,
                   std::size_t index, base::StopToken stop) {
  const mesh::NetworkServiceUrl& url = options.network_services[index];
  auto last_code = base::Code::ok;
  base::TimePoint next_word{};
  while (!stop.stopped()) {
    const auto start = process.loop.now();
    auto connection = co_await client.connect(url, index, options.request_timeout, stop);
    if (connection) {
      base::log::info("connected to {} in {:.1f} ms: {} at endpoint {}", url.service,
                      milliseconds_since(process, start), connection->id(),
                      connection->network_service_endpoint_name());
      events.connected(*connection, milliseconds_since(process, start));
      co_return true;
    }
    if (stop.stopped()) break;
    // The same failure bears another connection's id each time.
    const auto& error = connection.error();
    if (error.code() != last_code || process.loop.now() >= next_word) {
      last_code = error.code();
      next_word = process.loop.now() + kSilence;
      // In gRPC's words, which scripts around NSM's clients look for.
      base::log::warning("connecting to {} failed and is tried again: code = {} desc = {}", url.service,
                         base::name_of(error.code()), error.message());
    }
    const bool slept = co_await base::sleep_for(process.loop, kRetry, stop);
    if (!slept) break;
  }
  co_return false;
}

Task<int> client(const ClientOptions& options, Mode mode, Process& process, base::StopToken stop) {
  const auto environment = base::process_environment();
  const EventLines events(environment);
  for (const auto& url : options.network_services) {
    if (url.mechanism == mesh::kKernel) continue;
    co_return failed(
        {base::Code::invalid_argument,
         fmt::format("NSM_NETWORK_SERVICES asks for service {} by mechanism {}, which this client has not: write "
                     "kernel://{}",
                     url.service, url.mechanism, url.service)});
  }
  auto network_namespace = rpc::Descriptor::open("/proc/self/ns/net");
  if (!network_namespace) co_return failed(network_namespace.error());
  KernelLiveness liveness(process.loop, *network_namespace);

  mesh::HealOptions heal;
  heal.check_liveness = options.liveness_enabled;
  heal.interval = options.liveness_interval;
  heal.timeout = options.liveness_timeout;
  mesh::Client client({.scheduler = process.loop,
                       .random = process.random,
                       .transport = process.transport,
                       .liveness = liveness,
                       .name = options.name,
                       .connect_to = options.connect_to,
                       .network_namespace = *network_namespace,
                       .client_info = mesh::read_client_info(environment),
                       .heal = heal,
                       .observer = [&events](const std::string& id, std::string_view what) { events.health(id, what); },
                       .awareness_groups = options.awareness_groups,
                       .authorization = process.security.authorization()});

  bool connected = true;
  for (std::size_t index = 0; connected && index < options.network_services.size(); ++index) {
    connected = co_await connect(options, process, client, events, index, stop);
  }
  if (connected && mode == Mode::once) {
    co_await client.finish();
    co_return kSuccess;
  }
  if (connected) co_await base::sleep_until(process.loop, base::kNoDeadline, stop);

  const auto start = process.loop.now();
  co_await client.close_all(options.request_timeout);
  events.closed(milliseconds_since(process, start));
  co_await client.finish();
  co_return connected ? kSuccess : kFailure;
}

}  // namespace

int run_client(Mode mode) {
  const auto options = read_client_options(base::process_environment());
  if (!options) {
    fmt::print(stderr, "patchbay client: {}\n", options.error().message());
    return kFailure;
  }
  Process process({options->name, options->log_level, options->max_token_lifetime, options->security});
  if (options->network_services.empty()) {
    base::log::warning(
        "NSM_NETWORK_SERVICES is empty: nothing to connect to; write for example kernel://my-service/nsm-1");
  }
  return process.run([&options, mode](Process& running, base::StopToken stop) {
    return client(*options, mode, running, std::move(stop));
  });
}

}  // namespace apps
