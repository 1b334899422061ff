// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/dns_config/dns_config.h"

#include <gtest/gtest.h>

#include "fakes/chain_bench.h"

namespace mesh {
namespace {

using fakes::ChainBench;

connectioncontext::DNSConfig config(const char* server, const char* domain) {
  connectioncontext::DNSConfig made;
  made.add_dns_server_ips(server);
  made.add_search_domains(domain);
  return made;
}

std::vector<std::string> servers(const Connection& connection) {
  std::vector<std::string> all;
  for (const auto& one : connection.context().dns_context().configs()) all.push_back(one.dns_server_ips(0));
  return all;
}

TEST(DnsConfig, ConfigsAreAppendedInOrder) {
  ChainBench bench(std::make_shared<DnsConfig>(std::vector{config("10.0.0.1", "a"), config("10.0.0.2", "b")}));
  auto request = bench.asking("c1");
  *request.mutable_connection()->mutable_context()->mutable_dns_context()->add_configs() = config("9.9.9.9", "z");
  EXPECT_EQ(servers(*bench.request(request)), (std::vector<std::string>{"9.9.9.9", "10.0.0.1", "10.0.0.2"}));
}

TEST(DnsConfig, RefreshAddsNothingTwice) {
  ChainBench bench(std::make_shared<DnsConfig>(std::vector{config("10.0.0.1", "a")}));
  const auto first = bench.request(bench.asking("c1"));
  EXPECT_EQ(servers(*bench.request(bench.refreshing(*first))).size(), 1U);
}

TEST(DnsConfig, OtherDomainsAreAnotherConfig) {
  ChainBench bench(std::make_shared<DnsConfig>(std::vector{config("10.0.0.1", "a")}));
  auto request = bench.asking("c1");
  *request.mutable_connection()->mutable_context()->mutable_dns_context()->add_configs() = config("10.0.0.1", "b");
  EXPECT_EQ(servers(*bench.request(request)).size(), 2U);
}

TEST(DnsConfig, NoneLeaveTheContextUntouched) {
  ChainBench bench(std::make_shared<DnsConfig>(std::vector<connectioncontext::DNSConfig>{}));
  EXPECT_FALSE(bench.request(bench.asking("c1"))->has_context());
}

}  // namespace
}  // namespace mesh
