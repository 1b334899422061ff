// SPDX-License-Identifier: Apache-2.0
#include "apps/client_options.h"

#include <gmock/gmock.h>

namespace apps {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

base::Environment environment(base::TextMap variables) {
  return [variables = std::move(variables)](const std::string& name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    return found == variables.end() ? std::nullopt : std::optional(found->second);
  };
}

std::string refusal(base::TextMap variables) {
  const auto options = read_client_options(environment(std::move(variables)));
  return options ? "accepted" : options.error().message();
}

TEST(ClientOptions, DefaultsAreNsms) {
  const auto options = read_client_options(environment({}));
  ASSERT_TRUE(options) << options.error().message();
  EXPECT_EQ(options->name, "nsc");
  EXPECT_EQ(options->connect_to, "unix:///var/lib/networkservicemesh/nsm.io.sock");
  EXPECT_EQ(options->dial_timeout, 5s);
  EXPECT_EQ(options->request_timeout, 15s);
  EXPECT_EQ(options->max_token_lifetime, 10min);
  EXPECT_THAT(options->network_services, IsEmpty());
  EXPECT_THAT(options->awareness_groups, IsEmpty());
  EXPECT_TRUE(options->dns_server_enabled);
  EXPECT_EQ(options->dns_server_address, "127.0.0.1:53");
  EXPECT_TRUE(options->liveness_enabled);
  EXPECT_EQ(options->liveness_interval, 200ms);
  EXPECT_EQ(options->liveness_timeout, 1s);
  EXPECT_EQ(options->log_level, base::log::Level::info);
}

TEST(ClientOptions, ServicesGroupsAndIds) {
  const auto options = read_client_options(environment({
      {"NSM_NAME", "alpine-1"},
      {"NSM_NETWORK_SERVICES", "kernel://a/nsm-1?color=red,memif://b"},
      {"NSM_AWARENESS_GROUPS", "[kernel://a/nsm-1,kernel://b/nsm-2],[kernel://c]"},
      {"NSM_MAX_TOKEN_LIFETIME", "-1m"},
      {"NSM_LOCAL_DNS_SERVER_ENABLED", "False"},
  }));
  ASSERT_TRUE(options) << options.error().message();
  ASSERT_EQ(options->network_services.size(), 2U);
  EXPECT_EQ(options->network_services[0].interface_name, "nsm-1");
  EXPECT_EQ(options->network_services[1].mechanism, "MEMIF");
  ASSERT_EQ(options->awareness_groups.size(), 2U);
  EXPECT_EQ(options->awareness_groups[0][1].service, "b");
  EXPECT_EQ(options->awareness_groups[1][0].interface_name, "");
  EXPECT_EQ(options->max_token_lifetime, -1min);
  EXPECT_FALSE(options->dns_server_enabled);
  EXPECT_EQ(options->connection_id(0), "alpine-1-0");
  EXPECT_EQ(options->connection_id(1), "alpine-1-1");
}

TEST(ClientOptions, RefusalsNameTheVariable) {
  EXPECT_THAT(refusal({{"NSM_NAME", ""}}), HasSubstr("NSM_NAME is empty"));
  EXPECT_THAT(refusal({{"NSM_CONNECT_TO", ""}}), HasSubstr("NSM_CONNECT_TO"));
  EXPECT_THAT(refusal({{"NSM_REQUEST_TIMEOUT", "0"}}), HasSubstr("NSM_REQUEST_TIMEOUT is '0s'"));
  EXPECT_THAT(refusal({{"NSM_DIAL_TIMEOUT", "-5s"}}), HasSubstr("NSM_DIAL_TIMEOUT"));
  EXPECT_THAT(refusal({{"NSM_LIVENESS_CHECK_TIMEOUT", "0"}}), HasSubstr("NSM_LIVENESS_CHECK_TIMEOUT"));
  EXPECT_THAT(refusal({{"NSM_NETWORK_SERVICES", "vpn/if-vpn"}}), HasSubstr("NSM_NETWORK_SERVICES"));
  EXPECT_THAT(refusal({{"NSM_AWARENESS_GROUPS", "[kernel://a,b]"}}), HasSubstr("NSM_AWARENESS_GROUPS"));
  EXPECT_THAT(refusal({{"NSM_AWARENESS_GROUPS", "[kernel://a"}}), HasSubstr("NSM_AWARENESS_GROUPS"));
  EXPECT_THAT(refusal({{"NSM_LOG_LEVEL", "LOUD"}}), HasSubstr("NSM_LOG_LEVEL"));
}

TEST(ClientOptions, OneInterfaceNameTwiceIsRefused) {
  EXPECT_THAT(refusal({{"NSM_NETWORK_SERVICES", "kernel://a/nsm-1,kernel://b/nsm-1"}}),
              HasSubstr("names interface nsm-1 for a and for b"));
  EXPECT_EQ(refusal({{"NSM_NETWORK_SERVICES", "kernel://a,kernel://b"}}), "accepted");
  EXPECT_EQ(refusal({{"NSM_NETWORK_SERVICES", "memif://a/nsm-1,memif://b/nsm-1"}}), "accepted");
}

TEST(ClientOptions, LivenessTimesDoNotMatterWhenItIsOff) {
  EXPECT_EQ(refusal({{"NSM_LIVENESS_CHECK_ENABLED", "false"}, {"NSM_LIVENESS_CHECK_INTERVAL", "0"}}), "accepted");
}

}  // namespace
}  // namespace apps
