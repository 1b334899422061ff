// SPDX-License-Identifier: Apache-2.0
// The measuring side of bench/run: a real client that times its connects, or the kernel plane alone. Runs inside the
// client's network namespace and talks to the script by lines: prints {"event":"ready"} once warm, starts at a line on
// standard input, prints one line of results, and, if it holds connections, closes them at the next line or end of
// input. Exit codes: 0 success, 1 failure (said on standard error), 2 usage.
#include <fmt/format.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>

#include "apps/liveness.h"
#include "apps/process.h"
#include "base/log.h"
#include "base/worker_thread.h"
#include "forwarder/kernel_plane.h"
#include "mesh/chains/client.h"

namespace {

using base::Result;
using base::Task;
using nlohmann::json;

constexpr base::Duration kTimeout = std::chrono::seconds(60);
constexpr base::Duration kTokenLifetime = std::chrono::minutes(10);  // NSM_MAX_TOKEN_LIFETIME's default

struct Options {
  std::string name = "bench";
  std::string connect_to;
  std::string service = "bench";
  std::size_t count = 100;
  std::size_t warmup = 3;
  double seconds = 0;  // if not 0: go on for that long instead of counting
  std::string a;       // files of namespaces, for the plane alone
  std::string b;
};

double milliseconds(base::Duration duration) { return std::chrono::duration<double, std::milli>(duration).count(); }

double cpu_milliseconds() {
  rusage used{};
  ::getrusage(RUSAGE_SELF, &used);
  const auto of = [](const timeval& time) {
    return 1000.0 * static_cast<double>(time.tv_sec) + 0.001 * static_cast<double>(time.tv_usec);
  };
  return of(used.ru_utime) + of(used.ru_stime);
}

void print(const json& line) {
  fmt::print("{}\n", line.dump());
  std::fflush(stdout);
}

// The script's turn.
class Script {
 public:
  explicit Script(base::EventLoop& loop) : thread_(loop, "bench-input") {}

  Task<bool> next_line() {
    auto read = [] { return static_cast<bool>(std::getline(std::cin, ignored())); };
    co_return co_await thread_.run(std::move(read));
  }
  Task<bool> ready() {
    print({{"event", "ready"}});
    co_return co_await next_line();
  }

 private:
  static std::string& ignored() {
    static std::string line;
    return line;
  }
  base::WorkerThread thread_;
};

// What was timed, and for how long in all.
struct Times {
  std::vector<double> connect;
  std::vector<double> close;
  std::size_t failed = 0;
  std::string first_failure;

  void fail(const base::Error& error) {
    if (failed++ == 0) first_failure = error.message();
  }
  json report(base::Duration took, double cpu) const {
    return {{"event", "result"}, {"connect_ms", connect},    {"close_ms", close},
            {"failed", failed},  {"failure", first_failure}, {"seconds", milliseconds(took) / 1000},
            {"cpu_ms", cpu}};
  }
};

mesh::NetworkServiceUrl wanted(const Options& options, std::size_t index) {
  mesh::NetworkServiceUrl url;
  url.mechanism = std::string(mesh::kKernel);
  url.service = options.service;
  url.interface_name = fmt::format("nsm-{}", index);
  return url;
}

enum class CheckLiveness : bool { no, yes };

// A client as `patchbay client` makes it.
struct TimedClient {
  TimedClient(const Options& options, apps::Process& process, rpc::Descriptor network_namespace, CheckLiveness check)
      : liveness(process.loop, network_namespace),
        client({.scheduler = process.loop,
                .random = process.random,
                .transport = process.transport,
                .liveness = liveness,
                .name = options.name,
                .connect_to = options.connect_to,
                .network_namespace = std::move(network_namespace),
                .client_info = {},
                .heal = {.check_liveness = check == CheckLiveness::yes},
                .observer = [this](const std::string&, std::string_view) { ++healed; },
                .awareness_groups = {},
                .authorization = process.security.authorization()}) {}

  apps::KernelLiveness liveness;
  std::size_t healed = 0;
  mesh::Client client;
};

Task<void> one_connect(const Options& options, apps::Process& process, TimedClient& timed, std::size_t index,
                       Times& times) {
  const mesh::NetworkServiceUrl url = wanted(options, index);
  const auto start = process.loop.now();
  auto connection = co_await timed.client.connect(url, index, kTimeout, {});
  if (connection) {
    times.connect.push_back(milliseconds(process.loop.now() - start));
  } else {
    times.fail(connection.error());
  }
}

Task<void> close(apps::Process& process, TimedClient& timed, Times& times) {
  const auto start = process.loop.now();
  co_await timed.client.close_all(kTimeout);
  times.close.push_back(milliseconds(process.loop.now() - start));
}

// One after the other, each closed before the next.
Task<int> sequence(const Options& options, apps::Process& process, rpc::Descriptor network_namespace) {
  Script script(process.loop);
  TimedClient timed(options, process, std::move(network_namespace), CheckLiveness::yes);
  Times warm;
  for (std::size_t i = 0; i < options.warmup; ++i) {
    co_await one_connect(options, process, timed, 0, warm);
    co_await close(process, timed, warm);
  }
  const bool go = co_await script.ready();
  if (!go) co_return apps::kFailure;

  Times times;
  const auto start = process.loop.now();
  const double cpu = cpu_milliseconds();
  const auto more = [&](std::size_t done) {
    if (options.seconds > 0) return milliseconds(process.loop.now() - start) < 1000 * options.seconds;
    return done < options.count;
  };
  for (std::size_t i = 0; more(i); ++i) {
    co_await one_connect(options, process, timed, 0, times);
    co_await close(process, timed, times);
  }
  print(times.report(process.loop.now() - start, cpu_milliseconds() - cpu));
  co_await timed.client.finish();
  co_return apps::kSuccess;
}

// All at once; open until the script's next line.
Task<int> burst(const Options& options, apps::Process& process, rpc::Descriptor network_namespace) {
  Script script(process.loop);
  // Hundreds of echoes a second from one process would measure themselves: real clients are one a workload.
  TimedClient timed(options, process, std::move(network_namespace), CheckLiveness::no);
  const bool go = co_await script.ready();
  if (!go) co_return apps::kFailure;

  Times times;
  const auto start = process.loop.now();
  const double cpu = cpu_milliseconds();
  base::TaskScope connecting(process.loop);
  for (std::size_t i = 0; i < options.count; ++i) {
    connecting.spawn(one_connect(options, process, timed, i, times));
  }
  co_await connecting.finish();
  print(times.report(process.loop.now() - start, cpu_milliseconds() - cpu));
  co_await script.next_line();

  const auto closing = process.loop.now();
  co_await timed.client.close_all(kTimeout);
  print(
      {{"event", "closed"}, {"seconds", milliseconds(process.loop.now() - closing) / 1000}, {"healed", timed.healed}});
  co_await timed.client.finish();
  co_return apps::kSuccess;
}

// The same wire as a local connection's, made and removed without a mesh: what a connect cannot be faster than.
Task<int> plane_alone(const Options& options, apps::Process& process) {
  Script script(process.loop);
  auto a = rpc::Descriptor::open(options.a);
  if (!a) co_return apps::failed(a.error());
  auto b = rpc::Descriptor::open(options.b);
  if (!b) co_return apps::failed(b.error());
  forwarder::KernelPlane plane(process.loop, options.name);
  const bool go = co_await script.ready();
  if (!go) co_return apps::kFailure;

  Times times;
  const auto start = process.loop.now();
  const double cpu = cpu_milliseconds();
  for (std::size_t i = 0; i < options.count; ++i) {
    forwarder::WireSpec wire(fmt::format("plane-{}", i), forwarder::KernelEnd(*a, "alone-0"),
                             forwarder::KernelEnd(*b, "alone-1"));
    wire.payload = std::string(mesh::kPayloadEthernet);
    wire.context.set_mtu(9000);
    auto& ip = *wire.context.mutable_ip_context();
    ip.add_src_ip_addrs("172.30.0.1/32");
    ip.add_dst_ip_addrs("172.30.0.0/32");
    ip.add_src_routes()->set_prefix("172.30.0.0/32");
    ip.add_dst_routes()->set_prefix("172.30.0.1/32");
    const std::string id = wire.id;
    const auto begin = process.loop.now();
    auto plugged = co_await plane.plug(std::move(wire));
    if (plugged) {
      times.connect.push_back(milliseconds(process.loop.now() - begin));
    } else {
      times.fail(plugged.error());
    }
    const auto closing = process.loop.now();
    auto unplugged = co_await plane.unplug(id);
    times.close.push_back(milliseconds(process.loop.now() - closing));
    if (!unplugged) times.fail(unplugged.error());
  }
  print(times.report(process.loop.now() - start, cpu_milliseconds() - cpu));
  co_return apps::kSuccess;
}

enum class What { sequence, burst, plane };

Task<int> run(const Options& options, What what, apps::Process& process) {
  if (what == What::plane) co_return co_await plane_alone(options, process);
  auto network_namespace = rpc::Descriptor::open("/proc/self/ns/net");
  if (!network_namespace) co_return apps::failed(network_namespace.error());
  if (what == What::burst) co_return co_await burst(options, process, *network_namespace);
  co_return co_await sequence(options, process, *network_namespace);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("The measuring side of bench/run.", "patchbay_bench");
  app.require_subcommand(1);
  Options options;
  std::optional<What> what;
  const auto mode = [&](const char* name, const char* help, What chosen) {
    auto* command = app.add_subcommand(name, help);
    command->callback([&what, chosen] { what = chosen; });
    command->add_option("--name", options.name, "prefix of the connections' ids, or the owner of the wires");
    command->add_option("--count", options.count, "how many connects");
    return command;
  };
  for (auto* command : {mode("sequence", "connect and close, one after the other", What::sequence),
                        mode("burst", "connect all at once, and hold them", What::burst)}) {
    command->add_option("--connect-to", options.connect_to, "the manager's URL")->required();
    command->add_option("--service", options.service, "the network service");
    command->add_option("--seconds", options.seconds, "go on for that long instead of counting");
    command->add_option("--warmup", options.warmup, "connects that are not timed");
  }
  auto* plane = mode("plane", "plug and unplug the same wire without a mesh", What::plane);
  plane->add_option("--a", options.a, "file of the client's namespace")->required();
  plane->add_option("--b", options.b, "file of the endpoint's namespace")->required();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  apps::CommonOptions common{options.name, base::log::Level::warning, kTokenLifetime, {}};
  if (!apps::read_options(apps::security_options(common.security))) return 1;
  apps::Process process(common);
  return process.run([&](apps::Process& running, const base::StopToken&) { return run(options, *what, running); });
}
