// SPDX-License-Identifier: Apache-2.0
// Runs one use case on a mesh: starts endpoint and client, checks what NSM promises, closes, checks that nothing stays.
#pragma once

#include "lab/cases.h"
#include "lab/mesh.h"
#include "lab/progress.h"
#include "lab/report.h"

namespace lab {

enum class WherePods : bool { on_two_nodes, on_one_node };

struct CasePlan {
  const Case* one = nullptr;
  WherePods where = WherePods::on_two_nodes;

  bool local() const { return where == WherePods::on_one_node || one->placement == Placement::always_local; }
};

// What the connection's MTU must come out as: NSM's 9000 within a node; between nodes the underlay's less the outer IP,
// UDP and VXLAN headers, the inner Ethernet header and room for one VLAN tag.
std::uint32_t expected_mtu(bool local, UnderlayFamily underlay, std::uint32_t underlay_mtu);

// A case plugged in and left so, for `up`.
struct PluggedCase {
  Process endpoint;
  Process client;
};
base::Result<PluggedCase> plug_case(Mesh& mesh, const CasePlan& plan, CaseReport& report);

CaseReport run_case(Mesh& mesh, const CasePlan& plan, const Progress& progress);

// The client's event, one line of JSON on its standard output; see README.md.
struct ConnectedEvent {
  std::string interface;
  std::vector<std::string> source;
  std::vector<std::string> destination;
  std::uint32_t mtu = 0;
  std::vector<std::string> path;
  std::string endpoint;
  double milliseconds = 0;
};
// Nothing for lines that are not this event.
std::optional<ConnectedEvent> parse_connected(std::string_view line);

}  // namespace lab
