// SPDX-License-Identifier: Apache-2.0
#include "lab/mesh.h"

#include <algorithm>
#include <cstdlib>
#include <ranges>
#include <sstream>

#include "lab/observe.h"
#include "lab/signals.h"

namespace lab {
namespace {

using base::Code;
using base::fail;
using base::Result;
namespace fs = std::filesystem;

constexpr std::uint16_t kRegistryPort = 5002;
constexpr std::uint16_t kManagerPort = 5001;
constexpr unsigned kRegistryHost = 254;
constexpr seconds kStartDeadline{20};
constexpr seconds kStopGrace{10};
constexpr std::size_t kLogLines = 15;

std::string address_of(UnderlayFamily family, unsigned host) {
  return family == UnderlayFamily::v4 ? fmt::format("10.77.0.{}", host) : fmt::format("fd77::{:x}", host);
}

std::string with_length(UnderlayFamily family, const std::string& address) {
  return address + (family == UnderlayFamily::v4 ? "/24" : "/64");
}

std::string url_host(const std::string& address) {
  return address.find(':') == std::string::npos ? address : "[" + address + "]";
}

std::string tcp_url(const std::string& address, std::uint16_t port) {
  return fmt::format("tcp://{}:{}", url_host(address), port);
}

// Runs `ip` once for each line of the script, inside the namespace.
Result<void> ip_script(const fs::path& netns, const std::string& script) {
  std::istringstream lines(script);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::vector<std::string> command{"ip"};
    for (std::string word; words >> word;) command.push_back(word);
    if (command.size() == 1) continue;
    if (auto done = output_of(command, netns); !done) return std::unexpected(done.error());
  }
  return {};
}

std::string log_level() {
  const char* level = std::getenv("NSM_LOG_LEVEL");
  return level == nullptr ? "INFO" : level;
}

}  // namespace

base::Error with_log(base::Error error, const Process& process) {
  const std::string lines = tail(process.log(), kLogLines);
  if (lines.empty()) return error;
  return {error.code(), fmt::format("{}\nlast lines of {}'s log:\n{}", error.message(), process.name(), lines)};
}

Result<std::unique_ptr<Mesh>> Mesh::build(const MeshOptions& options, const Places& places, const std::string& purpose,
                                          const Progress& progress) {
  auto state = LabState::create(places, purpose);
  if (!state) return std::unexpected(state.error());
  std::unique_ptr<Mesh> mesh(new Mesh(options, std::move(*state)));
  progress.step("lab {}: {} nodes on an IPv{} underlay, MTU {}", mesh->state_.id(), options.nodes,
                static_cast<int>(options.underlay), options.underlay_mtu);
  auto built = mesh->build_underlay();
  for (unsigned node = 1; built && node <= options.nodes; ++node) built = mesh->build_node(node);
  if (built) {
    progress.step(
        "starting the registry, and a manager and a forwarder on each node, with identities of the lab's own");
    built = mesh->start_identity();
  }
  if (built) built = mesh->start_registry();
  for (unsigned node = 1; built && node <= options.nodes; ++node) built = mesh->start_node(node);
  if (!built) return std::unexpected(built.error());
  return mesh;
}

Mesh::~Mesh() { take_down(); }

std::string Mesh::underlay_address(unsigned node) const { return address_of(options_.underlay, node); }

fs::path Mesh::node_directory(unsigned node) const { return state_.directory() / fmt::format("node{}", node); }

std::string Mesh::manager_url(unsigned node) const {
  return "unix://" + (node_directory(node) / "nsm.io.sock").string();
}

Result<void> Mesh::build_underlay() {
  if (auto made = state_.add_namespace("underlay"); !made) return made;
  const auto own = with_length(options_.underlay, address_of(options_.underlay, kRegistryHost));
  const std::string nodad = options_.underlay == UnderlayFamily::v6 ? "nodad" : "";
  return ip_script(netns("underlay"),
                   fmt::format("link add name underlay mtu {} type bridge stp_state 0 mcast_snooping 0\n"
                               "address add {} dev underlay {}\n"
                               "link set dev underlay up\n",
                               options_.underlay_mtu, own, nodad));
}

Result<void> Mesh::build_node(unsigned node) {
  const std::string name = fmt::format("node{}", node);
  std::error_code error;
  fs::create_directory(node_directory(node), error);
  if (error) return fail(Code::internal, "cannot make {}: {}", node_directory(node).string(), error.message());
  if (auto made = state_.add_namespace(name); !made) return made;
  const std::string nodad = options_.underlay == UnderlayFamily::v6 ? "nodad" : "";
  auto linked =
      ip_script(netns("underlay"), fmt::format("link add name {0} mtu {1} type veth peer name eth0 mtu {1} netns {2}\n"
                                               "link set dev {0} master underlay\n"
                                               "link set dev {0} up\n",
                                               name, options_.underlay_mtu, state_.netns_name(name)));
  if (!linked) return linked;
  linked = ip_script(netns(name), fmt::format("address add {} dev eth0 {}\n"
                                              "link set dev eth0 up\n"
                                              "route add default via {} dev eth0\n",
                                              with_length(options_.underlay, underlay_address(node)), nodad,
                                              address_of(options_.underlay, kRegistryHost)));
  if (!linked) return linked;
  auto counted = output_of({"nft", counter_rules(name)}, netns("underlay"));
  if (!counted) return std::unexpected(counted.error());
  return {};
}

Result<Process> Mesh::start(ProcessSpec spec) {
  spec.environment.try_emplace("NSM_LOG_LEVEL", log_level());
  spec.environment.try_emplace("TMPDIR", state_.directory().string());
  spec.environment.try_emplace("SPIFFE_ENDPOINT_SOCKET", "unix://" + identity_socket().string());
  spec.log = state_.directory() / (spec.name + ".log");
  auto process = Process::start(spec);
  if (!process) return process;
  if (auto recorded = state_.record(*process); !recorded) return std::unexpected(recorded.error());
  return process;
}

Result<void> Mesh::wait_for_port(Process& process, std::uint16_t port) {
  const Deadline deadline = in(kStartDeadline);
  while (!listens(process.pid(), port)) {
    const bool may_come = process.running() && pause_until(deadline, milliseconds(10));
    if (stop_requested()) return fail(Code::cancelled, "stopped while {} was starting", process.name());
    if (!may_come) {
      return std::unexpected(with_log({Code::unavailable, fmt::format("{} does not listen on TCP port {}: {}",
                                                                      process.name(), port, process.state())},
                                      process));
    }
  }
  return {};
}

Result<void> Mesh::wait_for_socket(Process& process, const fs::path& socket) {
  const Deadline deadline = in(kStartDeadline);
  std::error_code error;
  while (!fs::is_socket(socket, error)) {
    const bool may_come = process.running() && pause_until(deadline, milliseconds(10));
    if (stop_requested()) return fail(Code::cancelled, "stopped while {} was starting", process.name());
    if (!may_come) {
      return std::unexpected(with_log({Code::unavailable, fmt::format("{} does not listen on {}: {}", process.name(),
                                                                      socket.string(), process.state())},
                                      process));
    }
  }
  return {};
}

fs::path Mesh::identity_socket() const { return state_.directory() / "identity.sock"; }

// One for all nodes: what tells them apart are their namespaces, and its socket is no network's.
Result<void> Mesh::start_identity() {
  auto identity = start({.name = "identity",
                         .command = {"patchbay", "identity"},
                         .environment = {{"PATCHBAY_TRUST_DOMAIN", "patchbay.lab"},
                                         {"PATCHBAY_IDENTITY_SOCKET", "unix://" + identity_socket().string()},
                                         {"PATCHBAY_IDENTITY_DIRECTORY", (state_.directory() / "identity").string()}},
                         .netns = netns("underlay")});
  if (!identity) return std::unexpected(identity.error());
  processes_.push_back(std::move(*identity));
  return wait_for_socket(processes_.back(), identity_socket());
}

Result<void> Mesh::start_registry() {
  auto registry =
      start({.name = "registry",
             .command = {"patchbay", "registry"},
             .environment = {{"NSM_NAME", "registry"},
                             {"NSM_LISTEN_ON", tcp_url(address_of(options_.underlay, kRegistryHost), kRegistryPort)},
                             {"PATCHBAY_REGISTRY_STORE", "memory"}},
             .netns = netns("underlay")});
  if (!registry) return std::unexpected(registry.error());
  processes_.push_back(std::move(*registry));
  return wait_for_port(processes_.back(), kRegistryPort);
}

Result<void> Mesh::start_node(unsigned node) {
  const std::string name = fmt::format("node{}", node);
  auto manager = start(
      {.name = name + "-manager",
       .command = {"patchbay", "manager"},
       .environment = {{"NSM_NAME", "nsmgr-" + name},
                       {"NODE_NAME", name},
                       {"NSM_LISTEN_ON", manager_url(node) + "," + tcp_url(underlay_address(node), kManagerPort)},
                       {"NSM_REGISTRY_URL", tcp_url(address_of(options_.underlay, kRegistryHost), kRegistryPort)}},
       .netns = netns(name)});
  if (!manager) return std::unexpected(manager.error());
  processes_.push_back(std::move(*manager));
  if (auto ready = wait_for_port(processes_.back(), kManagerPort); !ready) return ready;

  const auto socket = node_directory(node) / "forwarder.sock";
  std::map<std::string, std::string> environment{{"NSM_NAME", "forwarder-" + name},
                                                 {"NODE_NAME", name},
                                                 {"NSM_LISTEN_ON", "unix://" + socket.string()},
                                                 {"NSM_CONNECT_TO", manager_url(node)},
                                                 {"NSM_TUNNEL_IP", underlay_address(node)},
                                                 {"FORWARDING_PLANE", options_.plane}};
  if (options_.plaintext_ip == PlaintextIp::allowed) environment["PATCHBAY_ALLOW_PLAINTEXT_IP"] = "true";
  auto forwarder = start({.name = name + "-forwarder",
                          .command = {"patchbay", "forwarder"},
                          .environment = std::move(environment),
                          .netns = netns(name)});
  if (!forwarder) return std::unexpected(forwarder.error());
  processes_.push_back(std::move(*forwarder));
  return wait_for_socket(processes_.back(), socket);
}

Result<void> Mesh::add_pod(const std::string& name) { return state_.add_namespace(name); }
Result<void> Mesh::remove_pod(const std::string& name) { return state_.remove_namespace(name); }

Result<Process> Mesh::start_client(const Case& one, const std::string& pod, unsigned node) {
  return start(
      {.name = pod,
       .command = {"patchbay", "client"},
       .environment = {{"NSM_NAME", pod},
                       {"POD_NAME", pod},
                       {"NODE_NAME", fmt::format("node{}", node)},
                       {"NSM_CONNECT_TO", manager_url(node)},
                       {"NSM_NETWORK_SERVICES", fmt::format("kernel://{}/nsm-1", service_name(one))},
                       {"NSM_LOCAL_DNS_SERVER_ENABLED", "false"},  // pods of the lab share the machine's resolv.conf
                       {"PATCHBAY_EVENTS", "stdout"}},
       .netns = netns(pod),
       .read_output = true});
}

Result<Process> Mesh::start_endpoint(const Case& one, const std::string& pod, unsigned node) {
  return start({.name = pod,
                .command = {"patchbay", "endpoint", "icmp-responder"},
                .environment = {{"NSM_NAME", pod},
                                {"POD_NAME", pod},
                                {"NODE_NAME", fmt::format("node{}", node)},
                                {"NSM_CONNECT_TO", manager_url(node)},
                                {"NSM_SERVICE_NAMES", service_name(one)},
                                {"NSM_CIDR_PREFIX", std::string(one.cidr_prefix)},
                                {"NSM_PAYLOAD", std::string(to_text(one.payload))},
                                {"NSM_UNREGISTER_ITSELF", "true"}},
                .netns = netns(pod)});
}

std::vector<std::string> Mesh::dead_processes() {
  std::vector<std::string> dead;
  for (auto& process : processes_) {
    if (!process.running()) dead.push_back(fmt::format("{}: {}", process.name(), process.state()));
  }
  return dead;
}

std::string Mesh::logs() const {
  std::string text;
  for (const auto& process : processes_) text += with_log({Code::unknown, ""}, process).message();
  return text;
}

std::vector<std::string> Mesh::take_down() {
  if (std::exchange(down_, true)) return {};
  std::vector<std::string> problems;
  for (auto& process : processes_ | std::views::reverse) {  // whoever serves others ends after them
    switch (process.stop(kStopGrace)) {
      case Ending::on_request:
        break;
      case Ending::had_ended:
        problems.push_back(fmt::format("{} had ended before it was asked to ({})", process.name(), process.state()));
        break;
      case Ending::by_force:
        problems.push_back(fmt::format("{} did not end within {} s of SIGTERM", process.name(), kStopGrace.count()));
        break;
    }
  }
  processes_.clear();
  auto left = state_.remove_all();
  problems.insert(problems.end(), left.begin(), left.end());
  return problems;
}

}  // namespace lab
