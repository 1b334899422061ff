// SPDX-License-Identifier: Apache-2.0
// What a workload asks for, in one line: kernel://service@domain/interface?label=value. The form of NSM's pod
// annotation and of NSM_NETWORK_SERVICES, where several are separated by commas.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/environment.h"
#include "base/result.h"
#include "mesh/core/api.h"

namespace mesh {

struct NetworkServiceUrl {
  std::string mechanism;       // the scheme in upper case: KERNEL, MEMIF, ...
  std::string service;         // service, or service@domain
  std::string interface_name;  // empty: to be generated
  Labels labels;               // of the connection; repeated keys joined with commas

  bool operator==(const NetworkServiceUrl&) const = default;
};

base::Result<NetworkServiceUrl> parse_network_service_url(std::string_view text);

// Blanks and line breaks around the commas do not count, and a line break separates like a comma. Blank text is an
// empty list.
base::Result<std::vector<NetworkServiceUrl>> parse_network_service_urls(std::string_view text);

// An environment variable that holds such a list.
base::Option network_services_option(std::string name, std::vector<NetworkServiceUrl>* field, std::string help);

}  // namespace mesh
