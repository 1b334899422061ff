// SPDX-License-Identifier: Apache-2.0
#include "apps/endpoint_options.h"

#include <nlohmann/json.hpp>
#include <set>

#include "rpc/url.h"
#include "wire/address.h"

namespace apps {

using base::Code;
using base::fail;
using base::option;
using base::Result;

namespace {

constexpr const char* kDnsShape = R"(write [{"dns_server_ips":["10.0.0.1"],"search_domains":["example.org"]}])";

// The strings of a member that may be missing or null.
Result<std::vector<std::string>> strings(const nlohmann::json& object, const char* member) {
  std::vector<std::string> texts;
  const auto found = object.find(member);
  if (found == object.end() || found->is_null()) return texts;
  if (!found->is_array()) return fail(Code::invalid_argument, "{} is no list, {}", member, kDnsShape);
  for (const auto& one : *found) {
    if (!one.is_string()) return fail(Code::invalid_argument, "{} has an entry that is no text, {}", member, kDnsShape);
    texts.push_back(one.get<std::string>());
  }
  return texts;
}

}  // namespace

Result<DnsConfigs> parse_dns_configs(std::string_view text) {
  const auto json = nlohmann::json::parse(text, nullptr, false);
  DnsConfigs configs;
  if (json.is_null()) return configs;
  if (!json.is_array()) return fail(Code::invalid_argument, "it is no JSON list, {}", kDnsShape);
  for (const auto& one : json) {
    if (!one.is_object()) return fail(Code::invalid_argument, "an entry of the list is no object, {}", kDnsShape);
    auto& config = configs.emplace_back();
    auto servers = strings(one, "dns_server_ips");
    if (!servers) return std::unexpected(servers.error());
    for (const std::string& server : *servers) {
      if (auto address = wire::IpAddress::parse(server); !address)
        return std::unexpected(address.error().wrap("dns_server_ips"));
      config.add_dns_server_ips(server);
    }
    auto domains = strings(one, "search_domains");
    if (!domains) return std::unexpected(domains.error());
    for (const std::string& domain : *domains) config.add_search_domains(domain);
  }
  return configs;
}

std::vector<base::Option> endpoint_option_table(EndpointOptions& options) {
  std::vector<base::Option> table{
      option("NSM_NAME", &options.name, "icmp-server", "name of this endpoint"),
      option("NSM_CONNECT_TO", &options.connect_to, "unix:///var/lib/networkservicemesh/nsm.io.sock",
             "the manager's URL"),
      option("NSM_MAX_TOKEN_LIFETIME", &options.max_token_lifetime, "10m", "longest validity of a path token"),
      option("NSM_SERVICE_NAMES", &options.service_names, "icmp-responder", "the network services it offers"),
      base::choice_option("NSM_PAYLOAD", &options.payload, {"ETHERNET", "IP"}, "ETHERNET",
                          "what the services carry, when this endpoint registers them"),
      option("NSM_LABELS", &options.labels, "", "labels of this endpoint, for every service: key:value,key:value"),
      mesh::cidr_groups_option(
          "NSM_CIDR_PREFIX", &options.cidr_groups, "169.254.0.0/16",
          "prefixes to take addresses from, a pair from each group: [10.0.0.0/24,10.1.0.0/24],2001:db8::/64"),
      base::choice_option("NSM_IPAM_POLICY", &options.ipam_policy, {"polite", "strict"}, "polite",
                          "keep (polite) or drop (strict) addresses that clients bring"),
      base::parsed_option("NSM_DNS_CONFIGS", &options.dns_configs, "JSON", parse_dns_configs, "[]",
                          "name servers and search domains for the clients"),
      option("NSM_IDLE_TIMEOUT", &options.idle_timeout, "0", "stop after that long without a connection; 0 never"),
      option("NSM_REGISTER_SERVICE", &options.register_service, "true", "register the network services too"),
      option("NSM_UNREGISTER_ITSELF", &options.unregister_itself, "false", "unregister the endpoint when it stops"),
      option("NSM_PBR_CONFIG_PATH", &options.policy_routes_path, "/etc/policy-based-routing/config.yaml",
             "taken for compatibility; this endpoint gives no policy routes yet"),
      option("NSM_LOG_LEVEL", &options.log_level, "INFO", "TRACE, DEBUG, INFO, WARN, ERROR or FATAL"),
  };
  for (auto& one : security_options(options.security)) table.push_back(std::move(one));
  return table;
}

Result<void> validate(const EndpointOptions& options) {
  if (options.name.empty())
    return fail(Code::invalid_argument, "NSM_NAME is empty: give the endpoint a name that differs from others'");
  if (auto url = rpc::parse_url(options.connect_to); !url) return std::unexpected(url.error().wrap("NSM_CONNECT_TO"));
  if (options.service_names.empty()) {
    return fail(Code::invalid_argument, "NSM_SERVICE_NAMES is empty: name at least one network service to offer");
  }
  std::set<std::string> services;
  for (const std::string& service : options.service_names) {
    if (service.empty())
      return fail(Code::invalid_argument, "NSM_SERVICE_NAMES has an empty name: remove the extra comma");
    if (!services.insert(service).second) {
      return fail(Code::invalid_argument, "NSM_SERVICE_NAMES names {} twice: name each service once", service);
    }
  }
  if (options.idle_timeout < base::Duration::zero()) {
    return fail(Code::invalid_argument, "NSM_IDLE_TIMEOUT is '{}': it must not be negative, write 0 for never",
                base::format_duration(options.idle_timeout));
  }
  if (auto ipam = mesh::PointToPointIpam::make(options.cidr_groups, options.policy()); !ipam) {
    return std::unexpected(ipam.error().wrap("NSM_CIDR_PREFIX"));
  }
  return {};
}

Result<EndpointOptions> read_endpoint_options(const base::Environment& environment) {
  EndpointOptions options;
  const auto table = endpoint_option_table(options);
  if (auto read = base::read_environment(table, environment); !read) return std::unexpected(read.error());
  if (auto valid = validate(options); !valid) return std::unexpected(valid.error());
  return options;
}

}  // namespace apps
