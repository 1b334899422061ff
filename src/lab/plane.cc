// SPDX-License-Identifier: Apache-2.0
#include "lab/plane.h"

#include <fmt/ranges.h>

namespace lab {
namespace {

using Complaints = std::vector<std::string>;

// Every ping is one packet out and one in at either side.
void judge_link(const char* side, const LinkView& before, const LinkView& after, const PlaneQuestion& question,
                Complaints& wrong) {
  const auto received = after.received_packets - before.received_packets;
  const auto sent = after.sent_packets - before.sent_packets;
  if (received < question.pings || sent < question.pings) {
    wrong.push_back(fmt::format("the {}'s {} moved only {} in and {} out for {} pings", side, after.name, received,
                                sent, question.pings));
  }
  const std::string_view kind = question.local ? "veth" : "vxlan";
  if (after.kind != kind) wrong.push_back(fmt::format("{} is a {}, not a {}", after.name, after.kind, kind));
}

void judge_pair(const LinkView& client, const LinkView& endpoint, Complaints& wrong) {
  const bool mutual = client.peer_index == endpoint.index && endpoint.peer_index == client.index;
  if (!mutual || !client.peer_elsewhere || !endpoint.peer_elsewhere) {
    wrong.push_back(fmt::format("{} and {} are not the two ends of one veth pair", client.name, endpoint.name));
  }
}

// What all ports together saw, and complaints about it.
UnderlayCount judge_underlay(const PlaneQuestion& question, const PlaneSnapshot& before, const PlaneSnapshot& after,
                             Complaints& wrong) {
  UnderlayCount total;
  for (const auto& [port, count] : after.underlay) {
    const auto earlier = before.underlay.find(port);
    const auto delta = count - (earlier == before.underlay.end() ? UnderlayCount{} : earlier->second);
    total = {total.tunnel + delta.tunnel, total.udp + delta.udp, total.echo + delta.echo};
  }
  for (const auto& port : {question.client_node, question.endpoint_node}) {
    const auto now = after.underlay.find(port);
    const auto earlier = before.underlay.find(port);
    if (now == after.underlay.end() || earlier == before.underlay.end()) {
      wrong.push_back(fmt::format("the underlay has no counter of {}", port));
      continue;
    }
    const auto tunnel = now->second.tunnel - earlier->second.tunnel;
    if (!question.local && tunnel < question.pings) {
      wrong.push_back(
          fmt::format("{} put only {} VXLAN packets on the underlay for {} pings", port, tunnel, question.pings));
    }
  }
  if (total.echo != 0) wrong.push_back(fmt::format("{} pings crossed the underlay in clear", total.echo));
  if (question.local && total.tunnel + total.udp != 0) {
    wrong.push_back(fmt::format("{} tunnel packets crossed the underlay", total.tunnel + total.udp));
  }
  return total;
}

}  // namespace

PlaneVerdict judge_plane(const PlaneQuestion& question, const PlaneSnapshot& before, const PlaneSnapshot& after) {
  Complaints wrong;
  if (question.pings == 0) wrong.emplace_back("no ping was sent");
  if (!before.client || !after.client || !before.endpoint || !after.endpoint) {
    return {"none", "", "an interface is missing, so nothing can be said of its packets"};
  }
  judge_link("client", *before.client, *after.client, question, wrong);
  judge_link("endpoint", *before.endpoint, *after.endpoint, question, wrong);
  if (question.local) judge_pair(*after.client, *after.endpoint, wrong);
  const auto total = judge_underlay(question, before, after, wrong);
  if (!wrong.empty()) return {"none", "", fmt::format("{}", fmt::join(wrong, "; "))};
  if (question.local) {
    return {"kernel", "veth",
            fmt::format("a veth pair straight between both namespaces carried {} pings; the underlay saw none",
                        question.pings)};
  }
  return {"kernel", "vxlan",
          fmt::format("VXLAN devices in both namespaces carried {} pings; the underlay saw {} VXLAN packets",
                      question.pings, total.tunnel)};
}

}  // namespace lab
