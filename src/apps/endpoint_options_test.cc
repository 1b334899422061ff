// SPDX-License-Identifier: Apache-2.0
#include "apps/endpoint_options.h"

#include <gmock/gmock.h>

namespace apps {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

base::Environment environment(base::TextMap variables) {
  return [variables = std::move(variables)](const std::string& name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    return found == variables.end() ? std::nullopt : std::optional(found->second);
  };
}

std::string refusal(base::TextMap variables) {
  const auto options = read_endpoint_options(environment(std::move(variables)));
  return options ? "accepted" : options.error().message();
}

TEST(EndpointOptions, DefaultsAreNsms) {
  const auto options = read_endpoint_options(environment({}));
  ASSERT_TRUE(options) << options.error().message();
  EXPECT_EQ(options->name, "icmp-server");
  EXPECT_THAT(options->service_names, ElementsAre("icmp-responder"));
  EXPECT_EQ(options->payload, "ETHERNET");
  EXPECT_THAT(options->labels, IsEmpty());
  ASSERT_EQ(options->cidr_groups.size(), 1U);
  EXPECT_EQ(options->cidr_groups[0][0].to_string(), "169.254.0.0/16");
  EXPECT_EQ(options->policy(), mesh::IpamPolicy::polite);
  EXPECT_THAT(options->dns_configs, IsEmpty());
  EXPECT_EQ(options->idle_timeout, 0s);
  EXPECT_TRUE(options->register_service);
  EXPECT_FALSE(options->unregister_itself);
  EXPECT_EQ(options->policy_routes_path, "/etc/policy-based-routing/config.yaml");
  EXPECT_EQ(options->max_token_lifetime, 10min);
}

TEST(EndpointOptions, DualStackStrictAndLabelled) {
  const auto options = read_endpoint_options(environment({
      {"NSM_CIDR_PREFIX", "[172.16.1.0/24, 172.16.2.0/24],2001:db8::/116"},
      {"NSM_IPAM_POLICY", "STRICT"},
      {"NSM_PAYLOAD", "ip"},
      {"NSM_LABELS", "app:firewall,color:red"},
      {"NSM_SERVICE_NAMES", "a,b"},
      {"NSM_IDLE_TIMEOUT", "15s"},
  }));
  ASSERT_TRUE(options) << options.error().message();
  ASSERT_EQ(options->cidr_groups.size(), 2U);
  EXPECT_EQ(options->cidr_groups[0].size(), 2U);
  EXPECT_EQ(options->policy(), mesh::IpamPolicy::strict);
  EXPECT_EQ(options->payload, "IP");
  EXPECT_THAT(options->labels, ElementsAre(Pair("app", "firewall"), Pair("color", "red")));
  EXPECT_THAT(options->service_names, ElementsAre("a", "b"));
  EXPECT_EQ(options->idle_timeout, 15s);
}

TEST(EndpointOptions, RefusalsNameTheVariable) {
  EXPECT_THAT(refusal({{"NSM_NAME", ""}}), HasSubstr("NSM_NAME is empty"));
  EXPECT_THAT(refusal({{"NSM_CONNECT_TO", ""}}), HasSubstr("NSM_CONNECT_TO"));
  EXPECT_THAT(refusal({{"NSM_SERVICE_NAMES", ""}}), HasSubstr("NSM_SERVICE_NAMES is empty"));
  EXPECT_THAT(refusal({{"NSM_SERVICE_NAMES", "a,"}}), HasSubstr("NSM_SERVICE_NAMES has an empty name"));
  EXPECT_THAT(refusal({{"NSM_SERVICE_NAMES", "a,a"}}), HasSubstr("names a twice"));
  EXPECT_THAT(refusal({{"NSM_PAYLOAD", "FRAMES"}}), HasSubstr("NSM_PAYLOAD"));
  EXPECT_THAT(refusal({{"NSM_IPAM_POLICY", "rude"}}), HasSubstr("NSM_IPAM_POLICY"));
  EXPECT_THAT(refusal({{"NSM_IDLE_TIMEOUT", "-1s"}}), HasSubstr("NSM_IDLE_TIMEOUT is '-1s'"));
  EXPECT_THAT(refusal({{"NSM_CIDR_PREFIX", ""}}), HasSubstr("NSM_CIDR_PREFIX"));
  EXPECT_THAT(refusal({{"NSM_CIDR_PREFIX", "10.0.0.0/24,10.0.0.0/25"}}),
              HasSubstr("NSM_CIDR_PREFIX: prefix 10.0.0.0/25 overlaps"));
  EXPECT_THAT(refusal({{"NSM_DNS_CONFIGS", "[{]"}}), HasSubstr("NSM_DNS_CONFIGS"));
}

TEST(DnsConfigs, AreReadFromJson) {
  const auto configs = parse_dns_configs(
      R"([{"dns_server_ips": ["10.0.0.1", "2001:db8::1"], "search_domains": ["my.coredns.service"]}, {"dns_server_ips": ["10.0.0.2"]}])");
  ASSERT_TRUE(configs) << configs.error().message();
  ASSERT_EQ(configs->size(), 2U);
  EXPECT_EQ((*configs)[0].dns_server_ips(1), "2001:db8::1");
  EXPECT_EQ((*configs)[0].search_domains(0), "my.coredns.service");
  EXPECT_EQ((*configs)[1].search_domains_size(), 0);
  EXPECT_TRUE(parse_dns_configs("null"));
}

TEST(DnsConfigs, OtherShapesAreRefused) {
  for (const char* text : {"", "{}", "[1]", R"([{"dns_server_ips": "10.0.0.1"}])", R"([{"dns_server_ips": [1]}])",
                           R"([{"search_domains": [null]}])"}) {
    EXPECT_FALSE(parse_dns_configs(text)) << text;
  }
  EXPECT_THAT(parse_dns_configs(R"([{"dns_server_ips": ["10.0.0"]}])").error().message(), HasSubstr("10.0.0"));
}

}  // namespace
}  // namespace apps
