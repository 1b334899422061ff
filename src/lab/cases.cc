// SPDX-License-Identifier: Apache-2.0
#include "lab/cases.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cctype>

namespace lab {
namespace {

using enum Attachment;
using enum Payload;
using enum Placement;
using enum Needs;

constexpr std::array kPair4{AddressPair{"172.16.1.101/32", "172.16.1.100/32"}};
constexpr std::array kPair6{AddressPair{"2001:db8::1/128", "2001:db8::/128"}};
constexpr std::array kBoth{kPair4[0], kPair6[0]};
constexpr std::array kWire{AddressPair{"172.16.2.1/24", "172.16.2.2/24"}};

constexpr std::string_view kCidr4 = "172.16.1.100/31";
constexpr std::string_view kCidr6 = "2001:db8::/116";
constexpr std::string_view kCidrBoth = "172.16.1.100/31,2001:db8::/116";
constexpr std::string_view kCidrWire = "172.16.2.0/24";

constexpr std::array kCases{
    Case{"Kernel2Ethernet2Kernel", "Ethernet between two namespaces", kernel, kernel, ethernet, as_asked, any_plane,
         kCidr4, kPair4},
    Case{"Kernel2Ethernet2Kernel_ipv6", "the same, IPv6 addresses", kernel, kernel, ethernet, as_asked, any_plane,
         kCidr6, kPair6},
    Case{"Kernel2IP2Kernel", "IP between two namespaces", kernel, kernel, ip, as_asked, any_plane, kCidr4, kPair4},
    Case{"Kernel2IP2Kernel_ipv6", "the same, IPv6 addresses", kernel, kernel, ip, as_asked, any_plane, kCidr6, kPair6},
    Case{"Kernel2IP2Kernel_dual_stack", "the same, IPv4 and IPv6 at once", kernel, kernel, ip, as_asked, any_plane,
         kCidrBoth, kBoth},
    Case{"Kernel2Kernel", "two namespaces of one node, wired straight together", kernel, kernel, ethernet, always_local,
         any_plane, kCidr4, kPair4},
    Case{"Kernel2Kernel_ipv6", "the same, IPv6 addresses", kernel, kernel, ethernet, always_local, any_plane, kCidr6,
         kPair6},
    Case{"Kernel2Kernel_dual_stack", "the same, IPv4 and IPv6 at once", kernel, kernel, ethernet, always_local,
         any_plane, kCidrBoth, kBoth},
    Case{"Memif2Ethernet2Memif", "Ethernet between two memif interfaces", memif, memif, ethernet, as_asked,
         vector_plane, kCidr4, kPair4},
    Case{"Kernel2Ethernet2Memif", "Ethernet from a namespace to a memif", kernel, memif, ethernet, as_asked,
         vector_plane, kCidr4, kPair4},
    Case{"Memif2Ethernet2Kernel", "Ethernet from a memif to a namespace", memif, kernel, ethernet, as_asked,
         vector_plane, kCidr4, kPair4},
    Case{"Memif2IP2Memif", "IP between two memif interfaces", memif, memif, ip, as_asked, vector_plane, kCidr4, kPair4},
    Case{"Kernel2IP2Memif", "IP from a namespace to a memif", kernel, memif, ip, as_asked, vector_plane, kCidr4,
         kPair4},
    Case{"Memif2IP2Kernel", "IP from a memif to a namespace", memif, kernel, ip, as_asked, vector_plane, kCidr4,
         kPair4},
    Case{"Memif2IP2Memif_ipv6", "IP between two memif interfaces, IPv6 addresses", memif, memif, ip, as_asked,
         vector_plane, kCidr6, kPair6},
    Case{"Memif2Memif", "two memif interfaces of one node", memif, memif, ethernet, always_local, vector_plane, kCidr4,
         kPair4},
    Case{"Kernel2Memif", "a namespace and a memif of one node", kernel, memif, ethernet, always_local, vector_plane,
         kCidr4, kPair4},
    Case{"Memif2Kernel", "a memif and a namespace of one node", memif, kernel, ethernet, always_local, vector_plane,
         kCidr4, kPair4},
    Case{"VirtualWire", "many workloads on one virtual Ethernet segment", kernel, memif, ethernet, as_asked,
         vector_plane, kCidrWire, kWire},
};

}  // namespace

std::span<const Case> all_cases() { return kCases; }

base::Result<std::vector<const Case*>> select_cases(std::span<const std::string> names) {
  std::vector<const Case*> chosen;
  for (const auto& name : names) {
    if (name == "all") {
      for (const auto& one : kCases) {
        if (one.needs == any_plane) chosen.push_back(&one);
      }
      continue;
    }
    const auto found = std::ranges::find(kCases, name, &Case::name);
    if (found == kCases.end()) {
      std::vector<std::string_view> known;
      for (const auto& one : kCases) known.push_back(one.name);
      return base::fail(base::Code::invalid_argument,
                        "unknown case '{}'; the known ones are: {}, or all for those that "
                        "can run",
                        name, fmt::join(known, ", "));
    }
    chosen.push_back(&*found);
  }
  for (const auto* one : chosen) {
    if (one->needs == vector_plane) {
      return base::fail(base::Code::failed_precondition,
                        "case {} needs the vector plane (memif, AF_XDP), which this build does not have; run a kernel "
                        "case, see `patchbay lab list`",
                        one->name);
    }
  }
  return chosen;
}

std::string service_name(const Case& one) {
  std::string name(one.name);
  for (char& letter : name) letter = letter == '_' ? '-' : static_cast<char>(std::tolower(letter));
  return name;
}

std::string_view to_text(Payload payload) { return payload == ip ? "IP" : "ETHERNET"; }
std::string_view to_text(Needs needs) { return needs == vector_plane ? "needs the vector plane" : "runs"; }

}  // namespace lab
