// SPDX-License-Identifier: Apache-2.0
// An endpoint's settings: NSM's environment variables of cmd-nse-icmp-responder, by their names and with their
// defaults. NSM_BASE_DIR has no effect there and none here; NSM_OPEN_TELEMETRY_*, NSM_METRICS_* and NSM_PPROF_* are
// ignored.
#pragma once

#include <string>
#include <vector>

#include "apps/security.h"
#include "base/environment.h"
#include "mesh/core/api.h"
#include "mesh/core/cidr_groups.h"
#include "mesh/elements/ipam/point_to_point.h"

namespace apps {

using DnsConfigs = std::vector<connectioncontext::DNSConfig>;

struct EndpointOptions {
  std::string name;
  std::string connect_to;
  base::Duration max_token_lifetime{};  // negative: every token is expired from the start, which policies then refuse
  base::TextList service_names;
  std::string payload;  // IP or ETHERNET
  base::TextMap labels;
  mesh::CidrGroups cidr_groups;
  std::string ipam_policy;  // polite or strict
  DnsConfigs dns_configs;
  base::Duration idle_timeout{};  // 0: never
  bool register_service = false;
  bool unregister_itself = false;
  std::string policy_routes_path;
  base::log::Level log_level = base::log::Level::info;
  SecurityOptions security;

  mesh::IpamPolicy policy() const {
    return ipam_policy == "strict" ? mesh::IpamPolicy::strict : mesh::IpamPolicy::polite;
  }
};

// [{"dns_server_ips":["10.0.0.1"],"search_domains":["example.org"]}]
base::Result<DnsConfigs> parse_dns_configs(std::string_view json);

// The table behind the environment, --help and the documentation. Points into the argument.
std::vector<base::Option> endpoint_option_table(EndpointOptions& options);

// What no single variable can break alone. Errors name the variables.
base::Result<void> validate(const EndpointOptions& options);

base::Result<EndpointOptions> read_endpoint_options(const base::Environment& environment);

}  // namespace apps
