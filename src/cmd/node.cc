// SPDX-License-Identifier: Apache-2.0
// patchbay node: all roles of a node with one command, each a process of its own that ends with this one.
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <filesystem>
#include <map>
#include <ranges>
#include <vector>

#include "base/environment.h"
#include "cmd/commands.h"
#include "identity/workload_api_client.h"
#include "lab/process.h"
#include "lab/signals.h"

extern char** environ;

namespace cmd {
namespace {

using Variables = std::map<std::string, std::string>;

constexpr std::string_view kFolder = "/var/lib/networkservicemesh";
constexpr std::string_view kOwnRegistry = "tcp://127.0.0.1:5002";
constexpr lab::seconds kGrace{10};
constexpr std::chrono::seconds kLeastLife{3};  // a role that ends sooner will not do better the next time

constexpr const char* kTable =
    "Starts a manager and a forwarder; a registry, unless NSM_REGISTRY_URL names one; and patchbay identity, unless\n"
    "SPIFFE_ENDPOINT_SOCKET names a SPIFFE Workload API or PATCHBAY_INSECURE is set.\n"
    "Variables are handed to all of them; what they default to here:\n"
    "  NSM_NAME          the host's name; each role puts its own in front\n"
    "  NSM_LISTEN_ON     unix:///var/lib/networkservicemesh/nsm.io.sock,tcp://:5001 (the manager's)\n"
    "  NSM_REGISTRY_URL  unset: a registry of its own on tcp://127.0.0.1:5002\n"
    "  NSM_CONNECT_TO    the first of NSM_LISTEN_ON (the forwarder's)\n";

// Ours, as the roles may be meant by them.
Variables variables() {
  Variables found;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const auto equals = text.find('=');
    if (equals != std::string_view::npos) found.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  return found;
}

std::string host_name() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "node";
}

// What to start, in order.
std::vector<lab::ProcessSpec> roles() {
  auto given = variables();
  const auto or_else = [&](const char* name, std::string fallback) {
    const auto found = given.find(name);
    return found == given.end() ? fallback : found->second;
  };
  const auto name = or_else("NSM_NAME", host_name());
  const auto listen_on = or_else("NSM_LISTEN_ON", fmt::format("unix://{}/nsm.io.sock,tcp://:5001", kFolder));
  const auto spec = [&](const std::string& role, const std::string& own_name, const Variables& more) {
    Variables all = given;
    for (const auto& [key, value] : more) all[key] = value;
    all["NSM_NAME"] = own_name + "-" + name;
    return lab::ProcessSpec{
        .name = role, .command = {"patchbay", role}, .environment = std::move(all), .same_streams = true};
  };
  std::vector<lab::ProcessSpec> wanted;
  const bool insecure = base::parse_bool(or_else("PATCHBAY_INSECURE", "false")).value_or(false);
  if (!given.contains("SPIFFE_ENDPOINT_SOCKET") && !insecure) {
    const auto socket = or_else("PATCHBAY_IDENTITY_SOCKET", std::string(identity::kDefaultSocket));
    given["SPIFFE_ENDPOINT_SOCKET"] = socket;  // the roles wait for it
    wanted.push_back(spec("identity", "identity", {}));
  }
  const bool own_registry = !given.contains("NSM_REGISTRY_URL");
  if (own_registry) {
    wanted.push_back(spec("registry", "registry", {{"NSM_LISTEN_ON", std::string(kOwnRegistry)}}));
  }
  wanted.push_back(spec(
      "manager", "nsmgr",
      {{"NSM_LISTEN_ON", listen_on}, {"NSM_REGISTRY_URL", or_else("NSM_REGISTRY_URL", std::string(kOwnRegistry))}}));
  wanted.push_back(spec("forwarder", "forwarder",
                        {{"NSM_LISTEN_ON", fmt::format("unix://{}/forwarder.sock", kFolder)},
                         {"NSM_CONNECT_TO", or_else("NSM_CONNECT_TO", listen_on.substr(0, listen_on.find(',')))}}));
  return wanted;
}

struct Role {
  lab::Process process;
  std::chrono::steady_clock::time_point started;
};

// A role that worked for a while and ended is started again: its peers find it as they left it. One that ends at once
// would only end again. Returns why the node has to end; empty if it goes on.
std::string restart_if_ended(Role& role, const lab::ProcessSpec& spec) {
  if (role.process.running()) return {};
  const std::string how = fmt::format("the {} ended with {}", role.process.name(), role.process.state());
  const auto now = std::chrono::steady_clock::now();
  if (now - role.started < kLeastLife) return how;
  fmt::print(stderr, "patchbay node: {}; starting it again\n", how);
  auto process = lab::Process::start(spec);
  if (!process) return process.error().message();
  role = Role{std::move(*process), now};
  return {};
}

int run_node() {
  lab::catch_stop_signals();
  const auto specs = roles();
  std::vector<Role> running;
  std::string ended;
  for (const auto& spec : specs) {
    auto process = lab::Process::start(spec);
    if (!process) {
      ended = process.error().message();
      break;
    }
    running.push_back({std::move(*process), std::chrono::steady_clock::now()});
  }
  while (ended.empty() && !lab::stop_requested()) {
    lab::pause_until(lab::in(lab::milliseconds(200)), lab::milliseconds(100));
    for (std::size_t i = 0; ended.empty() && !lab::stop_requested() && i < running.size(); ++i) {
      ended = restart_if_ended(running[i], specs[i]);
    }
  }
  for (auto& role : running | std::views::reverse) role.process.stop(kGrace);
  if (ended.empty() || lab::stop_requested()) return 0;
  fmt::print(stderr, "patchbay node: {}\n", ended);
  return 1;
}

}  // namespace

void add_node(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("node", "all roles of a node with one command: the whole mesh on a laptop");
  command->footer(kTable);
  command->callback([&action] { action = &run_node; });
}

}  // namespace cmd
