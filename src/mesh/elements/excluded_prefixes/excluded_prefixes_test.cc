// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/excluded_prefixes/excluded_prefixes.h"

#include <gmock/gmock.h>

#include "fakes/chain_bench.h"

namespace mesh {
namespace {

using fakes::ChainBench;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

std::vector<std::string> excluded(const Connection& connection) {
  const auto& field = connection.context().ip_context().excluded_prefixes();
  return {field.begin(), field.end()};
}

struct ExcludedPrefixesTest : ::testing::Test {
  // The endpoint's answers, by connection id: dst and src address.
  std::map<std::string, std::pair<const char*, const char*>> answers;
  std::unique_ptr<ChainBench> bench;

  void start(const char* first_group_member = nullptr, const char* second_group_member = nullptr) {
    ExcludedPrefixes::AwarenessGroups groups;
    if (first_group_member != nullptr) {
      groups.push_back(
          {*parse_network_service_url(first_group_member), *parse_network_service_url(second_group_member)});
    }
    bench = std::make_unique<ChainBench>(Begin::Side::client, std::make_shared<ExcludedPrefixes>(groups));
    bench->below->on_request = [this](Call&, NetworkServiceRequest& request) {
      auto& ip = *request.mutable_connection()->mutable_context()->mutable_ip_context();
      const auto [dst, src] = answers.at(request.connection().id());
      ip.clear_dst_ip_addrs();
      ip.clear_src_ip_addrs();
      ip.add_dst_ip_addrs(dst);
      ip.add_src_ip_addrs(src);
    };
  }
  static NetworkServiceRequest asking(const char* id, const char* service, const char* interface) {
    auto request = ChainBench::asking(id, service);
    auto* mechanism = request.add_mechanism_preferences();
    mechanism->set_type("KERNEL");
    (*mechanism->mutable_parameters())["name"] = interface;
    return request;
  }
  std::vector<std::string> sent(std::size_t call) { return excluded(bench->below->requests.at(call).connection()); }
};

// The example exclude-prefixes-client: two endpoints of 172.16.1.96/29.
TEST_F(ExcludedPrefixesTest, LaterConnectionsAvoidEarlierOnes) {
  answers = {{"c1", {"172.16.1.96/32", "172.16.1.97/32"}}, {"c2", {"172.16.1.98/32", "172.16.1.99/32"}}};
  start();
  ASSERT_TRUE(bench->request(asking("c1", "a", "nsm-1")));
  ASSERT_TRUE(bench->request(asking("c2", "b", "nsm-2")));
  EXPECT_THAT(sent(0), IsEmpty());
  EXPECT_THAT(sent(1), ElementsAre("172.16.1.96/32", "172.16.1.97/32"));
}

TEST_F(ExcludedPrefixesTest, OwnAddressesAreNeverExcluded) {
  answers = {{"c1", {"172.16.1.96/32", "172.16.1.97/32"}}, {"c2", {"172.16.1.98/32", "172.16.1.99/32"}}};
  start();
  const auto first = bench->request(asking("c1", "a", "nsm-1"));
  ASSERT_TRUE(bench->request(asking("c2", "b", "nsm-2")));
  ASSERT_TRUE(bench->request(bench->refreshing(*first)));
  EXPECT_THAT(sent(2), ElementsAre("172.16.1.98/32", "172.16.1.99/32"));
}

TEST_F(ExcludedPrefixesTest, ClosedConnectionIsForgottenAlsoByThoseThatAvoidedIt) {
  answers = {{"c1", {"172.16.1.96/32", "172.16.1.97/32"}}, {"c2", {"172.16.1.98/32", "172.16.1.99/32"}}};
  start();
  const auto first = bench->request(asking("c1", "a", "nsm-1"));
  const auto second = bench->request(asking("c2", "b", "nsm-2"));
  ASSERT_TRUE(bench->close(*first));
  ASSERT_TRUE(bench->request(bench->refreshing(*second)));
  EXPECT_THAT(sent(2), IsEmpty());
}

TEST_F(ExcludedPrefixesTest, HostRoutesAndWhatOthersWereToldCountButNetworkRoutesDoNot) {
  answers = {{"c1", {"10.0.0.0/32", "10.0.0.1/32"}}, {"c2", {"10.0.0.2/32", "10.0.0.3/32"}}};
  start();
  auto first = asking("c1", "a", "nsm-1");
  auto& ip = *first.mutable_connection()->mutable_context()->mutable_ip_context();
  ip.add_src_routes()->set_prefix("10.1.1.1/32");
  ip.add_src_routes()->set_prefix("10.2.0.0/16");
  ip.add_excluded_prefixes("10.96.0.0/12");
  ASSERT_TRUE(bench->request(first));
  ASSERT_TRUE(bench->request(asking("c2", "b", "nsm-2")));
  EXPECT_THAT(sent(1), UnorderedElementsAre("10.0.0.0/32", "10.0.0.1/32", "10.1.1.1/32", "10.96.0.0/12"));
}

TEST_F(ExcludedPrefixesTest, EndpointThatIgnoresTheListIsRefusedAndClosed) {
  answers = {{"c1", {"10.0.0.0/32", "10.0.0.1/32"}}, {"c2", {"10.0.0.0/32", "10.0.0.1/32"}}};
  start();
  ASSERT_TRUE(bench->request(asking("c1", "a", "nsm-1")));
  const auto refused = bench->request(asking("c2", "b", "nsm-2"));
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("was given 10.0.0.0"));
  ASSERT_EQ(bench->below->closes.size(), 1U);
  EXPECT_EQ(bench->below->closes[0].id(), "c2");
}

TEST_F(ExcludedPrefixesTest, ExcludedNetworkDoesNotRefuseAnAnswer) {
  answers = {{"c1", {"10.0.0.0/32", "10.0.0.1/32"}}};
  start();
  auto request = asking("c1", "a", "nsm-1");
  request.mutable_connection()->mutable_context()->mutable_ip_context()->add_excluded_prefixes("10.0.0.0/24");
  EXPECT_TRUE(bench->request(request));
}

// Both requests were on their way at once, so neither excluded the other's addresses.
TEST_F(ExcludedPrefixesTest, AnswerThatArrivesSecondIsCheckedAgainstTheFirst) {
  answers = {{"c1", {"10.0.0.0/32", "10.0.0.1/32"}}, {"c2", {"10.0.0.0/32", "10.0.0.1/32"}}};
  start();
  auto answer = bench->below->on_request;
  bool nested = false;
  bench->below->on_request = [&](Call& call, NetworkServiceRequest& request) {
    if (!std::exchange(nested, true)) {
      EXPECT_TRUE(bench->request(asking("c2", "b", "nsm-2")));
    }
    answer(call, request);
  };
  EXPECT_FALSE(bench->request(asking("c1", "a", "nsm-1")));
}

// The example mutually-aware-nses.
TEST_F(ExcludedPrefixesTest, ConnectionsOfOneAwarenessGroupMayShareAddresses) {
  answers = {{"c1", {"10.0.0.0/32", "10.0.0.1/32"}},
             {"c2", {"10.0.0.0/32", "10.0.0.1/32"}},
             {"c3", {"10.0.0.0/32", "10.0.0.1/32"}}};
  start("kernel://a/nsm-1", "kernel://b/nsm-2");
  ASSERT_TRUE(bench->request(asking("c1", "a", "nsm-1")));
  ASSERT_TRUE(bench->request(asking("c2", "b", "nsm-2")));
  EXPECT_THAT(sent(1), IsEmpty());
  EXPECT_FALSE(bench->request(asking("c3", "c", "nsm-3")));
}

TEST_F(ExcludedPrefixesTest, GroupMembersAreKnownByServiceInterfaceAndLabels) {
  answers = {{"c1", {"10.0.0.0/32", "10.0.0.1/32"}}, {"c2", {"10.0.0.2/32", "10.0.0.3/32"}}};
  start("kernel://a/nsm-1?color=red", "kernel://b/nsm-2");
  auto blue = asking("c1", "a", "nsm-1");
  (*blue.mutable_connection()->mutable_labels())["color"] = "blue";
  ASSERT_TRUE(bench->request(blue));
  ASSERT_TRUE(bench->request(asking("c2", "b", "nsm-2")));
  EXPECT_THAT(sent(1), ElementsAre("10.0.0.0/32", "10.0.0.1/32"));
}

TEST_F(ExcludedPrefixesTest, LabelsThatSayWhereTheClientRunsDoNotHideAMember) {
  answers = {{"c1", {"10.0.0.0/32", "10.0.0.1/32"}}, {"c2", {"10.0.0.0/32", "10.0.0.1/32"}}};
  start("kernel://a/nsm-1", "kernel://b/nsm-2");
  auto first = asking("c1", "a", "nsm-1");
  (*first.mutable_connection()->mutable_labels())["podName"] = "pod-1";
  ASSERT_TRUE(bench->request(first));
  EXPECT_TRUE(bench->request(asking("c2", "b", "nsm-2")));
}

TEST_F(ExcludedPrefixesTest, FailedRefreshKeepsCounting) {
  answers = {{"c1", {"10.0.0.0/32", "10.0.0.1/32"}}, {"c2", {"10.0.0.2/32", "10.0.0.3/32"}}};
  start();
  const auto first = bench->request(asking("c1", "a", "nsm-1"));
  bench->below->fail_next(base::Code::unavailable, "no manager");
  ASSERT_FALSE(bench->request(bench->refreshing(*first)));
  ASSERT_TRUE(bench->request(asking("c2", "b", "nsm-2")));
  EXPECT_THAT(sent(2), ElementsAre("10.0.0.0/32", "10.0.0.1/32"));
}

}  // namespace
}  // namespace mesh
