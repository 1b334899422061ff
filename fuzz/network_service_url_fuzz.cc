// SPDX-License-Identifier: Apache-2.0
// The annotation's grammar: whatever is accepted names a mechanism, a service, and an interface that Linux takes; and
// the groups of prefixes, which share the way such values reach us.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "mesh/core/cidr_groups.h"
#include "mesh/core/network_service_url.h"

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto urls = mesh::parse_network_service_urls(text)) {
    for (const auto& url : *urls) {
      require(!url.mechanism.empty() && !url.service.empty() && url.interface_name.size() <= 15);
      require(url.interface_name.find_first_of("/: \t\r\n") == std::string::npos);
    }
  }
  if (const auto groups = mesh::parse_groups(text)) {
    for (const auto& group : *groups) {
      require(!group.empty());
      for (const auto& item : group) require(!item.empty() && item.find_first_of("[], ") == std::string::npos);
    }
  }
  if (const auto groups = mesh::parse_cidr_groups(text)) {
    for (const auto& group : *groups) {
      for (const auto& prefix : group) require(prefix.network() == prefix);
    }
  }
  return 0;
}
