// SPDX-License-Identifier: Apache-2.0
#include "kernel/underlay.h"

#include <algorithm>

#include "kernel/interface.h"
#include "kernel/link.h"
#include "kernel/route.h"

namespace kernel {

base::Result<Underlay> default_underlay(Netns& netns, std::optional<wire::Family> family) {
  if (!family) {
    auto v4 = default_underlay(netns, wire::Family::v4);
    if (v4 || v4.error().code() != base::Code::failed_precondition) return v4;
    auto v6 = default_underlay(netns, wire::Family::v6);
    return v6 ? v6 : v4;
  }
  const auto shown = *family == wire::Family::v4 ? "IPv4" : "IPv6";
  auto routes = list_routes(netns);
  if (!routes) return std::unexpected(routes.error());
  std::erase_if(*routes, [family](const KernelRoute& route) {
    return !route.destination.is_default() || route.destination.family() != *family || route.table != RT_TABLE_MAIN ||
           route.link == 0;
  });
  const auto best = std::ranges::min_element(*routes, {}, &KernelRoute::metric);
  if (best == routes->end()) {
    return base::fail(base::Code::failed_precondition,
                      "{} has no {} default route to tell the tunnel address by: add one, or set NSM_TUNNEL_IP",
                      netns.name(), shown);
  }
  auto link = find_link(netns, best->link);
  if (!link) return std::unexpected(link.error());
  auto addresses = list_addresses(netns, best->link);
  if (!addresses) return std::unexpected(addresses.error());
  const auto own = std::ranges::find_if(*addresses, [family](const wire::Prefix& address) {
    return address.family() == *family && !address.address().is_link_local();
  });
  if (!*link || own == addresses->end()) {
    return base::fail(
        base::Code::failed_precondition,
        "interface {} with the {} default route of {} has no global address: add one, or set NSM_TUNNEL_IP",
        *link ? (*link)->name : "?", shown, netns.name());
  }
  return Underlay{.address = own->address(), .interface = (*link)->name, .mtu = (*link)->mtu};
}

base::Result<Underlay> find_underlay(Netns& netns, const wire::IpAddress& address) {
  auto links = list_links(netns);
  if (!links) return std::unexpected(links.error());
  for (const auto& link : *links) {
    auto addresses = list_addresses(netns, link.index);
    if (!addresses) return std::unexpected(addresses.error());
    const auto is_it = [&address](const wire::Prefix& own) { return own.address() == address; };
    if (std::ranges::any_of(*addresses, is_it))
      return Underlay{.address = address, .interface = link.name, .mtu = link.mtu};
  }
  return base::fail(
      base::Code::not_found,
      "{} is on no interface of {}: give a tunnel address of this node in NSM_TUNNEL_IP, or leave it unset",
      address.to_string(), netns.name());
}

}  // namespace kernel
