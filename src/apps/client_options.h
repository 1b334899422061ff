// SPDX-License-Identifier: Apache-2.0
// The client's settings: NSM's environment variables of cmd-nsc, by their names and with their defaults. NSM_LABELS and
// NSM_MECHANISM have no effect there and none here; NSM_OPEN_TELEMETRY_*, NSM_METRICS_* and NSM_PPROF_* are ignored.
#pragma once

#include <string>
#include <vector>

#include "apps/security.h"
#include "base/environment.h"
#include "mesh/core/network_service_url.h"

namespace apps {

using AwarenessGroups = std::vector<std::vector<mesh::NetworkServiceUrl>>;

struct ClientOptions {
  std::string name;
  std::string connect_to;
  base::Duration dial_timeout{};
  base::Duration request_timeout{};
  base::Duration max_token_lifetime{};  // negative: every token is expired from the start, which policies then refuse
  std::vector<mesh::NetworkServiceUrl> network_services;
  AwarenessGroups awareness_groups;
  bool dns_server_enabled = false;
  std::string dns_server_address;
  bool liveness_enabled = false;
  base::Duration liveness_interval{};
  base::Duration liveness_timeout{};
  base::log::Level log_level = base::log::Level::info;
  SecurityOptions security;

  // Each service's connection: NAME-0, NAME-1, ... in list order.
  std::string connection_id(std::size_t service) const { return name + '-' + std::to_string(service); }
};

// [url,url],[url]: groups of services whose endpoints may use the same addresses.
base::Result<AwarenessGroups> parse_awareness_groups(std::string_view text);

// The table behind the environment, --help and the documentation. Points into the argument.
std::vector<base::Option> client_option_table(ClientOptions& options);

// What no single variable can break alone. Errors name the variables.
base::Result<void> validate(const ClientOptions& options);

// Reads and validates. No services is no error: the client then idles, as NSM's does.
base::Result<ClientOptions> read_client_options(const base::Environment& environment);

}  // namespace apps
