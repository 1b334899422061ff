// SPDX-License-Identifier: Apache-2.0
#include "apps/client_options.h"

#include <map>

#include "mesh/core/cidr_groups.h"
#include "rpc/url.h"

namespace apps {

using base::Code;
using base::fail;
using base::option;
using base::Result;

namespace {

Result<void> positive(const char* variable, base::Duration value) {
  if (value > base::Duration::zero()) return {};
  return fail(Code::invalid_argument, "{} is '{}': it must be longer than nothing, write 15s", variable,
              base::format_duration(value));
}

}  // namespace

Result<AwarenessGroups> parse_awareness_groups(std::string_view text) {
  auto texts = mesh::parse_groups(text);
  if (!texts) return std::unexpected(texts.error());
  AwarenessGroups groups;
  for (const auto& members : *texts) {
    auto& group = groups.emplace_back();
    for (const std::string& member : members) {
      auto url = mesh::parse_network_service_url(member);
      if (!url) return std::unexpected(url.error());
      group.push_back(std::move(*url));
    }
  }
  return groups;
}

std::vector<base::Option> client_option_table(ClientOptions& options) {
  std::vector<base::Option> table{
      option("NSM_NAME", &options.name, "nsc", "name of this client, and prefix of its connections' ids"),
      option("NSM_CONNECT_TO", &options.connect_to, "unix:///var/lib/networkservicemesh/nsm.io.sock",
             "the manager's URL"),
      option("NSM_DIAL_TIMEOUT", &options.dial_timeout, "5s",
             "taken for compatibility; NSM_REQUEST_TIMEOUT covers dialling too"),
      option("NSM_REQUEST_TIMEOUT", &options.request_timeout, "15s", "how long one request or close may take"),
      option("NSM_MAX_TOKEN_LIFETIME", &options.max_token_lifetime, "10m",
             "longest validity of a path token; refreshes follow from it"),
      mesh::network_services_option("NSM_NETWORK_SERVICES", &options.network_services,
                                    "what to connect to: kernel://SERVICE/INTERFACE?LABEL=VALUE, separated by commas"),
      base::parsed_option("NSM_AWARENESS_GROUPS", &options.awareness_groups, "groups of URLs", parse_awareness_groups,
                          "", "services whose endpoints may use the same addresses: [URL,URL],[URL]"),
      option("NSM_LOCAL_DNS_SERVER_ENABLED", &options.dns_server_enabled, "true",
             "taken for compatibility; this client answers no name queries yet"),
      option("NSM_LOCAL_DNS_SERVER_ADDRESS", &options.dns_server_address, "127.0.0.1:53",
             "taken for compatibility, as above"),
      option("NSM_LIVENESS_CHECK_ENABLED", &options.liveness_enabled, "true",
             "heal a connection whose packets stop crossing"),
      option("NSM_LIVENESS_CHECK_INTERVAL", &options.liveness_interval, "200ms", "pause between two checks"),
      option("NSM_LIVENESS_CHECK_TIMEOUT", &options.liveness_timeout, "1s", "how long a check waits for answers"),
      option("NSM_LOG_LEVEL", &options.log_level, "INFO", "TRACE, DEBUG, INFO, WARN, ERROR or FATAL"),
  };
  for (auto& one : security_options(options.security)) table.push_back(std::move(one));
  return table;
}

Result<void> validate(const ClientOptions& options) {
  if (options.name.empty())
    return fail(Code::invalid_argument, "NSM_NAME is empty: give the client a name that differs from others'");
  if (auto url = rpc::parse_url(options.connect_to); !url) return std::unexpected(url.error().wrap("NSM_CONNECT_TO"));
  for (const auto& [variable, value] : {std::pair("NSM_DIAL_TIMEOUT", options.dial_timeout),
                                        std::pair("NSM_REQUEST_TIMEOUT", options.request_timeout)}) {
    if (auto ok = positive(variable, value); !ok) return ok;
  }
  if (options.liveness_enabled) {
    if (auto ok = positive("NSM_LIVENESS_CHECK_INTERVAL", options.liveness_interval); !ok) return ok;
    if (auto ok = positive("NSM_LIVENESS_CHECK_TIMEOUT", options.liveness_timeout); !ok) return ok;
  }
  std::map<std::string, std::string> interfaces;
  for (const auto& service : options.network_services) {
    if (service.mechanism != mesh::kKernel || service.interface_name.empty()) continue;
    const auto [other, fresh] = interfaces.emplace(service.interface_name, service.service);
    if (fresh) continue;
    return fail(Code::invalid_argument,
                "NSM_NETWORK_SERVICES names interface {} for {} and for {}: one namespace has one "
                "interface of a name, choose another",
                service.interface_name, other->second, service.service);
  }
  return {};
}

Result<ClientOptions> read_client_options(const base::Environment& environment) {
  ClientOptions options;
  const auto table = client_option_table(options);
  if (auto read = base::read_environment(table, environment); !read) return std::unexpected(read.error());
  if (auto valid = validate(options); !valid) return std::unexpected(valid.error());
  return options;
}

}  // namespace apps
