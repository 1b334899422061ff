// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/dns_config/dns_config.h"

#include <algorithm>

namespace mesh {

namespace {

bool equal(const connectioncontext::DNSConfig& a, const connectioncontext::DNSConfig& b) {
  return std::ranges::equal(a.dns_server_ips(), b.dns_server_ips()) &&
         std::ranges::equal(a.search_domains(), b.search_domains());
}

}  // namespace

base::Task<base::Result<Connection>> DnsConfig::request(Call& call, NetworkServiceRequest request) {
  for (const auto& config : configs_) {
    auto& there = *request.mutable_connection()->mutable_context()->mutable_dns_context()->mutable_configs();
    if (std::ranges::none_of(there, [&](const auto& one) { return equal(one, config); })) *there.Add() = config;
  }
  return call.next(std::move(request));
}

}  // namespace mesh
