// SPDX-License-Identifier: Apache-2.0
#include "lab/run_case.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "lab/plane.h"
#include "lab/signals.h"

namespace lab {
namespace {

using base::Code;
using base::fail;
using base::Result;
using nlohmann::json;

constexpr seconds kConnectDeadline{30};
constexpr seconds kCloseDeadline{20};
constexpr seconds kGoneDeadline{5};
constexpr int kPings = 4;
constexpr const char* kClient = "client";
constexpr const char* kEndpoint = "endpoint";
constexpr const char* kInterface = "nsm-1";

std::string without_length(std::string_view address) { return std::string(address.substr(0, address.find('/'))); }

std::string list(const std::set<std::string>& items) {
  return items.empty() ? "none" : fmt::format("{}", fmt::join(items, " "));
}

std::string node_name(unsigned node) { return fmt::format("node{}", node); }

Result<ConnectedEvent> await_connected(Process& client) {
  const Deadline deadline = in(kConnectDeadline);
  while (true) {
    auto line = client.next_line(deadline);
    if (!line && line.error().code() == Code::deadline_exceeded) {
      return fail(Code::deadline_exceeded, "no connection within {} s", kConnectDeadline.count());
    }
    if (!line) return std::unexpected(line.error());
    if (auto event = parse_connected(*line)) return *event;
  }
}

// One run of one case: the state that its steps share.
class CaseRun {
 public:
  CaseRun(Mesh& mesh, const CasePlan& plan, const Progress& progress)
      : mesh_(mesh), plan_(plan), one_(*plan.one), progress_(progress) {
    endpoint_node_ = plan.local() ? 1 : mesh.options().nodes;
    report_.name = one_.name;
    report_.local = plan.local();
  }

  CaseReport run() {
    progress_.step("{}: client on node1, endpoint on {}", one_.name, node_name(endpoint_node_));
    if (plug()) {
      inspect_interfaces();
      watch_pings();
      measure_throughput();
      check_processes();
      unplug();
    }
    if (!report_.passed()) keep_logs();
    end();
    progress_.step("{}: {}", one_.name, report_.passed() ? "passed" : "FAILED");
    return std::move(report_);
  }

  Result<PluggedCase> leave_plugged(CaseReport& report) {
    bool good = plug() && inspect_interfaces();
    if (good) {
      watch_pings();
      good = report_.passed();
    }
    if (!good) keep_logs();
    report = report_;
    if (!good) return fail(Code::unavailable, "{} could not be plugged", one_.name);
    return PluggedCase{std::move(*endpoint_), std::move(*client_)};
  }

 private:
  std::filesystem::path client_netns() const { return mesh_.netns(kClient); }
  std::filesystem::path endpoint_netns() const { return mesh_.netns(kEndpoint); }

  bool fail_check(const std::string& what, const base::Error& error) {
    return report_.check(what, false, error.message());
  }

  bool plug() {
    if (one_.payload == Payload::ip && !report_.local) {
      report_.warnings.emplace_back(
          "payload IP crosses the underlay unencrypted (PATCHBAY_ALLOW_PLAINTEXT_IP=true): the kernel plane has no "
          "WireGuard");
    }
    for (const char* pod : {kClient, kEndpoint}) {
      if (auto made = mesh_.add_pod(pod); !made) return fail_check("namespaces", made.error());
    }
    auto endpoint = mesh_.start_endpoint(one_, kEndpoint, endpoint_node_);
    if (!endpoint) return fail_check("endpoint up", endpoint.error());
    endpoint_.emplace(std::move(*endpoint));
    const auto event = connect();
    if (!event) return fail_check("connected", event.error());
    first_ = *event;
    report_.connect_ms = event->milliseconds;
    report_.path = event->path;
    return report_.check("connected", true,
                         fmt::format("to {} in {:.0f} ms; src {}, dst {}, MTU {}", event->endpoint, event->milliseconds,
                                     fmt::join(event->source, " "), fmt::join(event->destination, " "), event->mtu));
  }

  Result<ConnectedEvent> connect() {
    auto client = mesh_.start_client(one_, kClient, 1);
    if (!client) return std::unexpected(client.error());
    client_.emplace(std::move(*client));
    return await_connected(*client_);
  }

  std::set<std::string> expected(std::string_view AddressPair::* side) const {
    std::set<std::string> addresses;
    for (const auto& pair : one_.addresses) addresses.emplace(pair.*side);
    return addresses;
  }

  std::set<std::string> expected_routes(std::string_view AddressPair::* peer) const {
    std::set<std::string> routes;
    for (const auto& pair : one_.addresses) routes.insert(without_length(pair.*peer));
    return routes;
  }

  bool inspect_interfaces() {
    const auto client = find_link(links(client_netns()), kInterface);
    const auto endpoint = find_link_by_address(links(endpoint_netns()), one_.addresses.front().endpoint);
    if (client) report_.client = Side{kClient, node_name(1), mesh_.underlay_address(1), *client};
    if (endpoint) {
      report_.endpoint = Side{kEndpoint, node_name(endpoint_node_), mesh_.underlay_address(endpoint_node_), *endpoint};
    }
    const bool client_good = inspect_side("client interface", client, client_netns(), expected(&AddressPair::client),
                                          expected_routes(&AddressPair::endpoint));
    const bool endpoint_good = inspect_side("endpoint interface", endpoint, endpoint_netns(),
                                            expected(&AddressPair::endpoint), expected_routes(&AddressPair::client));
    return client_good && endpoint_good;
  }

  std::vector<LinkView> links(const std::filesystem::path& netns) {
    return links_in(netns).value_or(std::vector<LinkView>());
  }

  bool inspect_side(const std::string& what, const std::optional<LinkView>& link, const std::filesystem::path& netns,
                    const std::set<std::string>& addresses, const std::set<std::string>& routes) {
    if (!link) return report_.check(what, false, fmt::format("no interface with address {}", list(addresses)));
    const auto mtu = expected_mtu(report_.local, mesh_.options().underlay, mesh_.options().underlay_mtu);
    auto real_routes = routes_through(netns, link->name);
    if (!real_routes) return fail_check(what, real_routes.error());
    std::vector<std::string> wrong;
    if (!link->up) wrong.emplace_back("it is down");
    if (link->addresses != addresses) wrong.push_back(fmt::format("addresses should be {}", list(addresses)));
    if (!std::ranges::includes(*real_routes, routes)) {
      wrong.push_back(fmt::format("routes should lead to {}", list(routes)));
    }
    if (link->mtu != mtu) wrong.push_back(fmt::format("MTU should be {}", mtu));
    if (first_.mtu != mtu) wrong.push_back(fmt::format("the connection says MTU {}", first_.mtu));
    return report_.check(
        what, wrong.empty(),
        fmt::format("{} ({}), {}, routes {}, MTU {}{}{}", link->name, link->kind, list(link->addresses),
                    list(*real_routes), link->mtu, wrong.empty() ? "" : "; ", fmt::join(wrong, ", ")));
  }

  // Pings between two snapshots of every counter, then judges which way the packets took.
  void watch_pings() {
    if (stop_requested()) return;
    progress_.step("{}: pinging both ways", one_.name);
    const auto before = snapshot();
    int sent = 0;
    for (const auto& pair : one_.addresses) {
      sent += ping_one(kClient, kEndpoint, without_length(pair.endpoint), {.count = kPings});
      sent += ping_one(kEndpoint, kClient, without_length(pair.client), {.count = kPings});
    }
    const auto after = snapshot();
    const auto verdict = judge_plane({.pings = static_cast<std::uint64_t>(sent),
                                      .local = report_.local,
                                      .client_node = node_name(1),
                                      .endpoint_node = node_name(endpoint_node_)},
                                     before, after);
    report_.plane = verdict.plane;
    report_.wire = verdict.wire;
    report_.check("plane", verdict.good(), verdict.detail);
    if (!report_.client) return;
    const PingOptions full{.count = kPings, .packet_bytes = report_.client->link.mtu};
    for (const auto& pair : one_.addresses) {
      ping_one(kClient, kEndpoint, without_length(pair.endpoint), full);
      ping_one(kEndpoint, kClient, without_length(pair.client), full);
    }
  }

  // Returns how many were sent.
  int ping_one(const std::string& from, const std::string& to, const std::string& address, PingOptions options) {
    const std::string what = fmt::format("ping {} > {} {}, {} bytes", from, to, address, options.packet_bytes);
    auto result = ping(mesh_.netns(from), address, options);
    if (!result) return static_cast<int>(fail_check(what, result.error()));
    report_.pings.push_back({from, to, address, options.packet_bytes, *result});
    report_.check(what, result->sent == kPings && result->answered == kPings,
                  fmt::format("{} of {} answered, {:.3f}/{:.3f}/{:.3f} ms min/avg/max", result->answered, result->sent,
                              result->min_ms, result->average_ms, result->max_ms));
    return result->sent;
  }

  PlaneSnapshot snapshot() {
    return {find_link(links(client_netns()), kInterface),
            find_link_by_address(links(endpoint_netns()), one_.addresses.front().endpoint),
            underlay_counts(mesh_.netns("underlay")).value_or(std::map<std::string, UnderlayCount>())};
  }

  void measure_throughput() {
    if (stop_requested()) return;
    progress_.step("{}: measuring TCP throughput for 2 s", one_.name);
    auto mbps = throughput_mbps(client_netns(), endpoint_netns(), without_length(one_.addresses.front().endpoint));
    if (!mbps) {
      fail_check("throughput", mbps.error());
      return;
    }
    report_.throughput_mbps = *mbps;
    report_.check("throughput", *mbps > 0, fmt::format("{:.0f} Mbit/s, TCP, client > endpoint", *mbps));
  }

  void check_processes() {
    std::vector<std::string> dead = mesh_.dead_processes();
    for (auto* process : {&*client_, &*endpoint_}) {
      if (!process->running()) dead.push_back(fmt::format("{}: {}", process->name(), process->state()));
    }
    report_.check("processes up", dead.empty(),
                  dead.empty() ? "client, endpoint, registry, every manager and forwarder"
                               : fmt::format("{}", fmt::join(dead, "; ")));
  }

  // Closes the client's connection and connects again: what the first one held must be free.
  void unplug() {
    if (stop_requested()) return;
    progress_.step("{}: closing", one_.name);
    close_client("closed");
    if (stop_requested()) return;
    const auto again = connect();
    if (!again) {
      fail_check("addresses free again", again.error());
      return;
    }
    report_.check("addresses free again", again->source == first_.source && again->destination == first_.destination,
                  fmt::format("a second client got src {}, dst {}", fmt::join(again->source, " "),
                              fmt::join(again->destination, " ")));
    close_client("closed again");
  }

  void close_client(const std::string& what) {
    if (const auto ending = client_->stop(kCloseDeadline); ending != Ending::on_request) {
      report_.check(what, false,
                    ending == Ending::had_ended
                        ? "the client had ended before: " + client_->state()
                        : fmt::format("the client did not end within {} s of SIGTERM", kCloseDeadline.count()));
      return;
    }
    if (client_->state() != "exit status 0") {
      report_.check(what, false, "the client ended with " + client_->state());
      return;
    }
    const Deadline deadline = in(kGoneDeadline);
    std::string left = still_plugged();
    while (!left.empty() && pause_until(deadline, milliseconds(20))) left = still_plugged();
    report_.check(what, left.empty(), left.empty() ? "the interface is gone on both sides" : left);
  }

  std::string still_plugged() {
    std::vector<std::string> left;
    for (const char* pod : {kClient, kEndpoint}) {
      const auto found = links_in(mesh_.netns(pod));
      if (!found) return found.error().message();
      for (const auto& link : *found) {
        if (link.name != "lo") left.push_back(fmt::format("{} is still in the {}'s namespace", link.name, pod));
      }
    }
    return fmt::format("{}", fmt::join(left, "; "));
  }

  void keep_logs() {
    for (auto* process : {&client_, &endpoint_}) {
      if (*process) report_.logs += with_log({Code::unknown, ""}, **process).message();
    }
    report_.logs += mesh_.logs();
  }

  void end() {
    const IgnoreStop ignore;
    if (client_) client_->stop(kCloseDeadline);
    if (endpoint_) {
      const auto ending = endpoint_->stop(kCloseDeadline);
      if (ending == Ending::by_force) {
        report_.check("endpoint ends", false,
                      fmt::format("it did not end within {} s of SIGTERM", kCloseDeadline.count()));
      }
    }
    for (const char* pod : {kClient, kEndpoint}) {
      if (!mesh_.state().namespaces().contains(pod)) continue;
      if (auto gone = mesh_.remove_pod(pod); !gone) fail_check("namespaces removed", gone.error());
    }
  }

  Mesh& mesh_;
  const CasePlan& plan_;
  const Case& one_;
  const Progress& progress_;
  unsigned endpoint_node_ = 1;
  std::optional<Process> client_;
  std::optional<Process> endpoint_;
  ConnectedEvent first_;
  CaseReport report_;
};

}  // namespace

std::uint32_t expected_mtu(bool local, UnderlayFamily underlay, std::uint32_t underlay_mtu) {
  constexpr std::uint32_t kLocal = 9000;
  constexpr std::uint32_t kOverhead4 = 20 + 8 + 8 + 14 + 4;
  constexpr std::uint32_t kOverhead6 = 40 + 8 + 8 + 14 + 4;
  if (local) return kLocal;
  return std::min(kLocal, underlay_mtu - (underlay == UnderlayFamily::v4 ? kOverhead4 : kOverhead6));
}

std::optional<ConnectedEvent> parse_connected(std::string_view line) {
  const auto parsed = json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object() || parsed.value("event", json()) != json("connected")) return std::nullopt;
  const auto texts = [&](const char* key) {
    std::vector<std::string> found;
    for (const auto& entry : parsed.value(key, json::array())) {
      if (entry.is_string()) found.push_back(entry.get<std::string>());
    }
    return found;
  };
  const auto number = [&](const char* key) {
    const auto value = parsed.value(key, json());
    return value.is_number() ? value.get<double>() : 0.0;
  };
  const auto text = [&](const char* key) {
    const auto value = parsed.value(key, json());
    return value.is_string() ? value.get<std::string>() : std::string();
  };
  return ConnectedEvent{.interface = text("interface"),
                        .source = texts("src"),
                        .destination = texts("dst"),
                        .mtu = static_cast<std::uint32_t>(number("mtu")),
                        .path = texts("path"),
                        .endpoint = text("endpoint"),
                        .milliseconds = number("ms")};
}

Result<PluggedCase> plug_case(Mesh& mesh, const CasePlan& plan, CaseReport& report) {
  return CaseRun(mesh, plan, Progress()).leave_plugged(report);
}

CaseReport run_case(Mesh& mesh, const CasePlan& plan, const Progress& progress) {
  return CaseRun(mesh, plan, progress).run();
}

}  // namespace lab
