// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/discover/discover.h"

#include <gmock/gmock.h>

#include "fakes/chain_bench.h"
#include "fakes/fake_registry.h"

namespace mesh {
namespace {

using base::Code;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using namespace std::chrono_literals;

class DiscoverTest : public ::testing::Test {
 protected:
  DiscoverTest() {
    services.records["icmp-responder"].set_name("icmp-responder");
    services.records["icmp-responder"].set_payload("ETHERNET");
    bench.below->on_request = [this](Call& call, NetworkServiceRequest& request) {
      tried.push_back(request.connection().network_service_endpoint_name());
      hops.push_back(call.state().get<NextHop>().url);
      if (on_attempt) on_attempt(call, request);
    };
    bench.below->on_close = [this](const Connection&) { closed_at.push_back(state->get<NextHop>().url); };
    on_attempt = [this](Call& call, NetworkServiceRequest&) { state = call.context().state; };
  }

  NetworkServiceEndpoint& endpoint(const std::string& name, const Labels& labels = {}) {
    auto& record = endpoints.records[name];
    record.set_name(name);
    record.set_url("tcp://" + name);
    record.add_network_service_names("icmp-responder");
    auto& own = *(*record.mutable_network_service_labels())["icmp-responder"].mutable_labels();
    for (const auto& [key, value] : labels) own[key] = value;
    return record;
  }
  // The service leads all its clients to endpoints that bear app=vpn.
  void demand_vpn() {
    auto& route = *services.records["icmp-responder"].add_matches()->add_routes();
    (*route.mutable_destination_selector())["app"] = "vpn";
  }

  fakes::FakeRegistry<Services> services;
  fakes::FakeRegistry<Endpoints> endpoints;
  fakes::ChainBench bench{std::make_shared<Discover>(services, endpoints)};
  std::shared_ptr<ConnectionState> state;  // of the connection that was requested last
  std::shared_ptr<ConnectionEvents> events;
  std::function<void(Call&, NetworkServiceRequest&)> on_attempt;
  std::vector<std::string> tried;  // endpoints, and where each was to be reached
  std::vector<std::string> hops;
  std::vector<std::string> closed_at;
};

TEST_F(DiscoverTest, AServiceOfAnotherNameIsNoAnswer) {
  services.records["icmp"].set_name("icmp-responder-2");  // registries match by part of a name, too
  const auto refused = bench.request(bench.asking("c1", "icmp"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::not_found);
  EXPECT_THAT(refused.error().message(), HasSubstr("network service icmp is not found"));
  EXPECT_THAT(tried, IsEmpty());
}

TEST_F(DiscoverTest, WithoutAnEndpointThatMatchesTheClientIsToldWhy) {
  demand_vpn();
  endpoint("nse-1", {{"app", "firewall"}});
  endpoint("nse-2");
  const auto refused = bench.request(bench.asking("c1"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::not_found);
  EXPECT_THAT(refused.error().message(), HasSubstr("service icmp-responder has 2 live endpoints and none matches"));
  EXPECT_THAT(tried, IsEmpty());
}

TEST_F(DiscoverTest, AnExpiredEndpointIsNoCandidate) {
  set_time(endpoint("nse-1").mutable_expiration_time(), bench.scheduler.wall_now());
  set_time(endpoint("nse-2").mutable_expiration_time(), bench.scheduler.wall_now() + 1s);
  ASSERT_TRUE(bench.request(bench.asking("c1")));
  EXPECT_THAT(tried, ElementsAre("nse-2"));
  bench.scheduler.run_for(1s);
  EXPECT_THAT(bench.request(bench.asking("c2")).error().message(), HasSubstr("has 0 live endpoints"));
}

TEST_F(DiscoverTest, TheSecondIsTriedWhenTheFirstFails) {
  endpoint("nse-1");
  endpoint("nse-2");
  bench.below->fail_next(Code::unavailable, "gone");
  const auto answer = bench.request(bench.asking("c1"));
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->network_service_endpoint_name(), "nse-2");
  EXPECT_EQ(answer->payload(), "ETHERNET");
  EXPECT_THAT(hops, ElementsAre("tcp://nse-1", "tcp://nse-2"));
}

TEST_F(DiscoverTest, WhenAllFailEachIsNamedWithItsReason) {
  endpoint("nse-1");
  endpoint("nse-2");
  bench.below->fail_next(Code::unavailable, "the node is down");
  bench.below->fail_next(Code::resource_exhausted, "no address is left");
  const auto refused = bench.request(bench.asking("c1"));
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("nse-1: the node is down; nse-2: no address is left"));
  EXPECT_EQ(bench.begin->size(), 0U);
}

TEST_F(DiscoverTest, AClientThatHasLeftCausesNoMoreAttempts) {
  endpoint("nse-1");
  endpoint("nse-2");
  bench.below->fail_next(Code::cancelled, "the call was cancelled");
  on_attempt = [this](Call&, NetworkServiceRequest&) { bench.stop.request_stop(); };
  const auto refused = bench.request(bench.asking("c1"));
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), AllOf(HasSubstr("nse-1"), Not(HasSubstr("nse-2"))));
  EXPECT_THAT(tried, ElementsAre("nse-1"));
}

TEST_F(DiscoverTest, ClientsTakeTurnsAmongTheEndpointsThatMatch) {
  demand_vpn();
  endpoint("nse-1", {{"app", "vpn"}});
  endpoint("nse-2", {{"app", "firewall"}});
  endpoint("nse-3", {{"app", "vpn"}});
  for (const char* id : {"c1", "c2", "c3"}) ASSERT_TRUE(bench.request(bench.asking(id)));
  EXPECT_THAT(tried, ElementsAre("nse-1", "nse-3", "nse-1"));
}

TEST_F(DiscoverTest, ARefreshStaysWithItsEndpointWhereverThatIsNow) {
  endpoint("nse-1");
  endpoint("nse-2");
  const auto first = bench.request(bench.asking("c1"));
  endpoints.records["nse-1"].set_url("tcp://elsewhere");
  ASSERT_TRUE(bench.request(bench.refreshing(*first)));
  EXPECT_THAT(tried, ElementsAre("nse-1", "nse-1"));
  EXPECT_EQ(hops.back(), "tcp://elsewhere");
}

TEST_F(DiscoverTest, ARefreshDoesNotReplaceAnEndpointThatVanished) {
  endpoint("nse-1");
  endpoint("nse-2");
  const auto first = bench.request(bench.asking("c1"));
  endpoints.records.erase("nse-1");
  const auto refused = bench.request(bench.refreshing(*first));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::not_found);
  EXPECT_THAT(refused.error().message(), HasSubstr("endpoint nse-1 is not found"));
  EXPECT_THAT(tried, ElementsAre("nse-1"));
}

TEST_F(DiscoverTest, ANewSelectionForgetsTheEndpointAndWhatItGave) {
  endpoint("nse-1");
  endpoint("nse-2");
  connectioncontext::ConnectionContext asked;
  on_attempt = [this, &asked](Call& call, NetworkServiceRequest& request) {
    state = call.context().state;
    events = call.context().events;
    asked = request.connection().context();
    request.mutable_connection()->mutable_context()->mutable_ip_context()->add_src_ip_addrs("10.0.0.1/32");
  };
  ASSERT_TRUE(bench.request(bench.asking("c1")));
  endpoints.records.erase("nse-1");
  const auto again = bench.scheduler.run(events->request_again(Reselect::endpoint, {})).value();
  ASSERT_TRUE(again);
  EXPECT_EQ(again->network_service_endpoint_name(), "nse-2");
  EXPECT_EQ(again->context().ip_context().src_ip_addrs_size(), 1);
  EXPECT_EQ(asked.ip_context().src_ip_addrs_size(), 0);
  EXPECT_THAT(closed_at, ElementsAre("tcp://nse-1"));
}

TEST_F(DiscoverTest, CloseGoesToWhereTheEndpointIsNow) {
  endpoint("nse-1");
  const auto connection = bench.request(bench.asking("c1"));
  endpoints.records["nse-1"].set_url("tcp://elsewhere");
  ASSERT_TRUE(bench.close(*connection));
  EXPECT_THAT(closed_at, ElementsAre("tcp://elsewhere"));
}

TEST_F(DiscoverTest, CloseGoesToTheOldAddressWhenTheEndpointIsNotRegisteredAnyMore) {
  endpoint("nse-1");
  const auto connection = bench.request(bench.asking("c1"));
  endpoints.records.clear();
  ASSERT_TRUE(bench.close(*connection));
  EXPECT_THAT(closed_at, ElementsAre("tcp://nse-1"));
}

TEST_F(DiscoverTest, CloseDoesNotNeedTheRegistry) {
  endpoint("nse-1");
  const auto connection = bench.request(bench.asking("c1"));
  endpoints.fail_next(Code::unavailable, "the registry is down");
  ASSERT_TRUE(bench.close(*connection));
  EXPECT_THAT(closed_at, ElementsAre("tcp://nse-1"));
}

TEST_F(DiscoverTest, AnErrorOfTheRegistrySaysWhatWasLookedFor) {
  endpoint("nse-1");
  services.fail_next(Code::unavailable, "the registry is down");
  EXPECT_EQ(bench.request(bench.asking("c1")).error().message(),
            "looking for network service icmp-responder: the registry is down");
  endpoints.fail_next(Code::unavailable, "the registry is down");
  EXPECT_EQ(bench.request(bench.asking("c1")).error().message(),
            "looking for endpoints of icmp-responder: the registry is down");
  EXPECT_THAT(tried, IsEmpty());
}

}  // namespace
}  // namespace mesh
