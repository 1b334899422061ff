// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/ipam/ipam.h"

#include <gmock/gmock.h>

#include "fakes/chain_bench.h"

namespace mesh {
namespace {

using base::Code;
using connectioncontext::IPContext;
using fakes::ChainBench;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using wire::IpAddress;
using wire::Prefix;

PointToPointIpam::Groups groups(std::initializer_list<std::initializer_list<const char*>> texts) {
  PointToPointIpam::Groups result;
  for (const auto& group : texts) {
    auto& made = result.emplace_back();
    for (const char* text : group) made.push_back(*Prefix::parse(text));
  }
  return result;
}

std::shared_ptr<Ipam> ipam(std::initializer_list<std::initializer_list<const char*>> texts,
                           IpamPolicy policy = IpamPolicy::polite) {
  auto made = PointToPointIpam::make(groups(texts), policy);
  EXPECT_TRUE(made) << made.error().message();
  return std::make_shared<Ipam>(std::move(*made));
}

std::vector<std::string> texts(const google::protobuf::RepeatedPtrField<std::string>& field) {
  return {field.begin(), field.end()};
}
std::vector<std::string> prefixes(const google::protobuf::RepeatedPtrField<connectioncontext::Route>& field) {
  std::vector<std::string> result;
  for (const auto& route : field) result.push_back(route.prefix());
  return result;
}

struct Sides {
  std::vector<std::string> dst, src, src_routes, dst_routes;
};
Sides sides(const base::Result<Connection>& connection) {
  if (!connection) {
    ADD_FAILURE() << connection.error().message();
    return {};
  }
  const IPContext& ip = connection->context().ip_context();
  return {texts(ip.dst_ip_addrs()), texts(ip.src_ip_addrs()), prefixes(ip.src_routes()), prefixes(ip.dst_routes())};
}

IPContext& ip_of(NetworkServiceRequest& request) {
  return *request.mutable_connection()->mutable_context()->mutable_ip_context();
}

TEST(Ipam, EndpointGetsTheLowerAddressAndEachSideARouteToTheOther) {
  ChainBench bench(ipam({{"172.16.1.100/31"}}));
  const auto got = sides(bench.request(bench.asking("c1")));
  EXPECT_THAT(got.dst, ElementsAre("172.16.1.100/32"));
  EXPECT_THAT(got.src, ElementsAre("172.16.1.101/32"));
  EXPECT_THAT(got.src_routes, ElementsAre("172.16.1.100/32"));
  EXPECT_THAT(got.dst_routes, ElementsAre("172.16.1.101/32"));
}

TEST(Ipam, AddressesAreThereBeforeTheCallGoesOn) {
  ChainBench bench(ipam({{"172.16.1.100/31"}}));
  ASSERT_TRUE(bench.request(bench.asking("c1")));
  EXPECT_THAT(texts(bench.below->requests.at(0).connection().context().ip_context().src_ip_addrs()),
              ElementsAre("172.16.1.101/32"));
}

TEST(Ipam, DualStackTakesAPairOfEachGroup) {
  ChainBench bench(ipam({{"172.16.1.0/24"}, {"2001:db8::/116"}}));
  const auto got = sides(bench.request(bench.asking("c1")));
  EXPECT_THAT(got.dst, ElementsAre("172.16.1.0/32", "2001:db8::/128"));
  EXPECT_THAT(got.src, ElementsAre("172.16.1.1/32", "2001:db8::1/128"));
  EXPECT_THAT(got.src_routes, ElementsAre("172.16.1.0/32", "2001:db8::/128"));
}

TEST(Ipam, FullPrefixOverflowsIntoTheGroupsNext) {
  ChainBench bench(ipam({{"10.0.0.0/31", "10.9.0.4/30"}}));
  EXPECT_THAT(sides(bench.request(bench.asking("c1"))).dst, ElementsAre("10.0.0.0/32"));
  EXPECT_THAT(sides(bench.request(bench.asking("c2"))).dst, ElementsAre("10.9.0.4/32"));
}

TEST(Ipam, PairNeverStraddlesTwoPrefixes) {
  ChainBench bench(ipam({{"10.0.0.0/32", "10.9.0.4/30"}}));
  const auto got = sides(bench.request(bench.asking("c1")));
  EXPECT_THAT(got.dst, ElementsAre("10.9.0.4/32"));
  EXPECT_THAT(got.src, ElementsAre("10.9.0.5/32"));
}

TEST(Ipam, ExhaustedPoolNamesThePrefixes) {
  ChainBench bench(ipam({{"10.0.0.0/31", "10.9.0.4/31"}}));
  ASSERT_TRUE(bench.request(bench.asking("c1")));
  ASSERT_TRUE(bench.request(bench.asking("c2")));
  const auto refused = bench.request(bench.asking("c3"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::resource_exhausted);
  EXPECT_THAT(refused.error().message(), HasSubstr("10.0.0.0/31, 10.9.0.4/31 has no two free addresses"));
}

TEST(Ipam, OneFullFamilyGivesTheOtherBack) {
  ChainBench bench(ipam({{"10.0.0.0/24"}, {"2001:db8::/127"}}));
  const auto first = bench.request(bench.asking("c1"));
  ASSERT_FALSE(bench.request(bench.asking("c2")));
  ASSERT_TRUE(bench.close(*first));
  EXPECT_THAT(sides(bench.request(bench.asking("c3"))).dst, ElementsAre("10.0.0.0/32", "2001:db8::/128"));
}

TEST(Ipam, RefreshKeepsThePair) {
  ChainBench bench(ipam({{"172.16.1.0/24"}}));
  const auto first = bench.request(bench.asking("c1"));
  const auto again = sides(bench.request(bench.refreshing(*first)));
  EXPECT_THAT(again.dst, ElementsAre("172.16.1.0/32"));
  EXPECT_THAT(again.src, ElementsAre("172.16.1.1/32"));
  EXPECT_THAT(again.src_routes, ElementsAre("172.16.1.0/32"));
  EXPECT_THAT(again.dst_routes, ElementsAre("172.16.1.1/32"));
}

TEST(Ipam, RefreshThatForgotItsAddressesGetsThemAgain) {
  ChainBench bench(ipam({{"172.16.1.0/24"}}));
  ASSERT_TRUE(bench.request(bench.asking("c1")));
  EXPECT_THAT(sides(bench.request(bench.asking("c1"))).src, ElementsAre("172.16.1.1/32"));
}

TEST(Ipam, CloseFreesTheAddressesAfterWhatIsBelow) {
  auto element = ipam({{"10.0.0.0/31"}});
  ChainBench bench(element);
  const auto first = bench.request(bench.asking("c1"));
  bool full_while_closing = false;
  bench.below->on_close = [&](const Connection&) {
    fakes::ManualScheduler& scheduler = bench.scheduler;
    CallContext context(scheduler, base::kNoDeadline, {});
    context.state = std::make_shared<ConnectionState>();
    const Chain nothing;
    Call call(context, nothing, 0);
    const auto other = scheduler.run(element->request(call, ChainBench::asking("c2")));
    full_while_closing = other && !*other;
  };
  ASSERT_TRUE(bench.close(*first));
  EXPECT_TRUE(full_while_closing);
  EXPECT_THAT(sides(bench.request(bench.asking("c2"))).dst, ElementsAre("10.0.0.0/32"));
}

TEST(Ipam, FirstRequestThatFailsBelowHoldsNothing) {
  ChainBench bench(ipam({{"10.0.0.0/31"}}));
  bench.below->fail_next(Code::unavailable, "no forwarder");
  ASSERT_FALSE(bench.request(bench.asking("c1")));
  EXPECT_TRUE(bench.request(bench.asking("c2")));
}

TEST(Ipam, RefreshThatFailsBelowKeepsWhatItHad) {
  ChainBench bench(ipam({{"10.0.0.0/30"}}));
  const auto first = bench.request(bench.asking("c1"));
  auto refresh = bench.refreshing(*first);
  ip_of(refresh).add_excluded_prefixes("10.0.0.0/31");
  bench.below->fail_next(Code::unavailable, "no forwarder");
  ASSERT_FALSE(bench.request(refresh));
  EXPECT_THAT(sides(bench.request(bench.asking("c2"))).dst, ElementsAre("10.0.0.2/32"));
  EXPECT_THAT(sides(bench.request(bench.refreshing(*first))).dst, ElementsAre("10.0.0.0/32"));
}

// The example exclude-prefixes: .201 and .202 of 172.16.1.200/30 are taken elsewhere.
TEST(Ipam, ExcludedAddressesAreSkipped) {
  ChainBench bench(ipam({{"172.16.1.200/30"}}));
  auto request = bench.asking("c1");
  ip_of(request).add_excluded_prefixes("172.16.1.201/32");
  ip_of(request).add_excluded_prefixes("172.16.1.202/32");
  const auto got = sides(bench.request(request));
  EXPECT_THAT(got.dst, ElementsAre("172.16.1.200/32"));
  EXPECT_THAT(got.src, ElementsAre("172.16.1.203/32"));
}

TEST(Ipam, PairThatBecameExcludedIsReplacedWithItsRoutes) {
  ChainBench bench(ipam({{"10.0.0.0/29"}}));
  const auto first = bench.request(bench.asking("c1"));
  auto refresh = bench.refreshing(*first);
  ip_of(refresh).add_excluded_prefixes("10.0.0.1/32");
  const auto got = sides(bench.request(refresh));
  EXPECT_THAT(got.dst, ElementsAre("10.0.0.2/32"));
  EXPECT_THAT(got.src, ElementsAre("10.0.0.3/32"));
  EXPECT_THAT(got.src_routes, ElementsAre("10.0.0.2/32"));
  EXPECT_THAT(got.dst_routes, ElementsAre("10.0.0.3/32"));
  EXPECT_THAT(sides(bench.request(bench.asking("c2"))).dst, ElementsAre("10.0.0.0/32"));  // free again
}

TEST(Ipam, RestartedEndpointHonoursThePairAConnectionBrings) {
  ChainBench before(ipam({{"172.16.1.0/24"}, {"2001:db8::/116"}}));
  ASSERT_TRUE(before.request(before.asking("c0")));
  const auto old = before.request(before.asking("c1"));

  ChainBench after(ipam({{"172.16.1.0/24"}, {"2001:db8::/116"}}));
  const auto recovered = sides(after.request(after.refreshing(*old)));
  EXPECT_THAT(recovered.dst, ElementsAre("172.16.1.2/32", "2001:db8::2/128"));
  EXPECT_THAT(recovered.src, ElementsAre("172.16.1.3/32", "2001:db8::3/128"));
  EXPECT_THAT(sides(after.request(after.asking("c2"))).dst, ElementsAre("172.16.1.0/32", "2001:db8::/128"));
  EXPECT_THAT(sides(after.request(after.asking("c3"))).dst, ElementsAre("172.16.1.4/32", "2001:db8::4/128"));
}

TEST(Ipam, ClientsAddressOutsideThePrefixesStaysBesideThePairWhenPolite) {
  ChainBench bench(ipam({{"172.16.2.0/24"}}));
  auto request = bench.asking("c1");
  ip_of(request).add_src_ip_addrs("192.168.7.7/24");
  const auto got = sides(bench.request(request));
  EXPECT_THAT(got.src, ElementsAre("192.168.7.7/24", "172.16.2.1/32"));
}

TEST(Ipam, SourceAloneIsKeptReservedAndNeverPaired) {
  ChainBench bench(ipam({{"172.16.2.0/30"}}));
  auto request = bench.asking("c1");
  ip_of(request).add_src_ip_addrs("172.16.2.2/24");
  const auto got = sides(bench.request(request));
  EXPECT_THAT(got.src, ElementsAre("172.16.2.2/24", "172.16.2.1/32"));
  EXPECT_THAT(got.dst, ElementsAre("172.16.2.0/32"));
  EXPECT_FALSE(bench.request(bench.asking("c2")));  // only .3 is left
}

TEST(Ipam, AddressOfAnotherConnectionIsTakenAway) {
  ChainBench bench(ipam({{"172.16.2.0/24"}}));
  const auto first = bench.request(bench.asking("c1"));
  auto second = bench.refreshing(*first);
  second.mutable_connection()->set_id("c2");
  const auto got = sides(bench.request(second));
  EXPECT_THAT(got.dst, ElementsAre("172.16.2.2/32"));
  EXPECT_THAT(got.src, ElementsAre("172.16.2.3/32"));
  EXPECT_THAT(got.src_routes, ElementsAre("172.16.2.2/32"));
  EXPECT_THAT(got.dst_routes, ElementsAre("172.16.2.3/32"));
}

// The example ipam-policies: a client moves from a polite endpoint of 172.16.1.0/24 to a strict one of 172.16.2.0/24.
TEST(Ipam, StrictDropsForeignAddressesWithTheirRoutes) {
  ChainBench polite(ipam({{"172.16.1.0/24"}}));
  auto moving = polite.refreshing(*polite.request(polite.asking("c1")));
  auto* far = ip_of(moving).add_src_routes();
  far->set_prefix("10.0.0.0/8");
  far->set_nexthop("172.16.1.0");
  ip_of(moving).add_src_routes()->set_prefix("10.55.0.0/16");

  ChainBench strict(ipam({{"172.16.2.0/24"}}, IpamPolicy::strict));
  const auto got = sides(strict.request(moving));
  EXPECT_THAT(got.dst, ElementsAre("172.16.2.0/32"));
  EXPECT_THAT(got.src, ElementsAre("172.16.2.1/32"));
  EXPECT_THAT(got.src_routes, ElementsAre("10.55.0.0/16", "172.16.2.0/32"));
  EXPECT_THAT(got.dst_routes, ElementsAre("172.16.2.1/32"));
}

TEST(Ipam, StrictDropsALoneAddressEvenOfItsOwnPrefix) {
  ChainBench bench(ipam({{"172.16.2.0/24"}}, IpamPolicy::strict));
  auto request = bench.asking("c1");
  ip_of(request).add_src_ip_addrs("172.16.2.77/24");
  EXPECT_THAT(sides(bench.request(request)).src, ElementsAre("172.16.2.1/32"));
}

TEST(Ipam, StrictStillRecoversAPair) {
  ChainBench bench(ipam({{"172.16.2.0/24"}}, IpamPolicy::strict));
  auto request = bench.asking("c1");
  ip_of(request).add_src_ip_addrs("172.16.2.11/32");
  ip_of(request).add_dst_ip_addrs("172.16.2.10/32");
  const auto got = sides(bench.request(request));
  EXPECT_THAT(got.src, ElementsAre("172.16.2.11/32"));
  EXPECT_THAT(got.dst, ElementsAre("172.16.2.10/32"));
}

TEST(Ipam, OneAddressForBothSidesIsNoPair) {
  ChainBench bench(ipam({{"172.16.2.0/24"}}, IpamPolicy::strict));
  auto request = bench.asking("c1");
  ip_of(request).add_src_ip_addrs("172.16.2.10/32");
  ip_of(request).add_dst_ip_addrs("172.16.2.10/32");
  const auto got = sides(bench.request(request));
  EXPECT_THAT(got.src, ElementsAre("172.16.2.1/32"));
  EXPECT_THAT(got.dst, ElementsAre("172.16.2.0/32"));
}

TEST(Ipam, ClientCannotReserveThePoolByNamingIt) {
  ChainBench bench(ipam({{"10.0.0.0/24"}}));
  auto request = bench.asking("c1");
  for (int i = 0; i < 100; ++i) ip_of(request).add_src_ip_addrs(fmt::format("10.0.0.{}/32", i));
  const auto refused = bench.request(request);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::invalid_argument);
  EXPECT_THAT(sides(bench.request(bench.asking("c2"))).dst, ElementsAre("10.0.0.0/32"));
}

TEST(Ipam, TextThatIsNoAddressIsRefusedByName) {
  ChainBench bench(ipam({{"10.0.0.0/24"}}));
  auto request = bench.asking("c1");
  ip_of(request).add_excluded_prefixes("10.0.0.0/99");
  const auto refused = bench.request(request);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("ip_context.excluded_prefixes"));
  EXPECT_THAT(refused.error().message(), HasSubstr("10.0.0.0/99"));
}

TEST(PointToPointIpam, PrefixesMustNotOverlap) {
  const auto made = PointToPointIpam::make(groups({{"10.0.0.0/24"}, {"10.0.0.128/25"}}), IpamPolicy::polite);
  ASSERT_FALSE(made);
  EXPECT_THAT(made.error().message(), HasSubstr("10.0.0.128/25 overlaps 10.0.0.0/24"));
}

TEST(PointToPointIpam, NeedsAPrefix) {
  EXPECT_FALSE(PointToPointIpam::make({}, IpamPolicy::polite));
  EXPECT_FALSE(PointToPointIpam::make({{}}, IpamPolicy::polite));
}

TEST(AddressPool, WholePrefixIsHandedOutOnceAndComesBack) {
  const auto pool = AddressPool::make(*Prefix::parse("10.0.0.7/28"));
  for (int round = 0; round < 2; ++round) {
    std::vector<HeldAddress> all;
    while (auto held = pool->take_lowest(Exclusions())) all.push_back(std::move(held));
    ASSERT_EQ(all.size(), 16U);
    EXPECT_EQ(all.front()->to_string(), "10.0.0.0");
    EXPECT_EQ(all.back()->to_string(), "10.0.0.15");
    // Give back in an order that merges ranges from both sides.
    for (std::size_t i = 0; i < all.size(); i += 2) all[i] = nullptr;
  }
}

TEST(AddressPool, LowestReturnsFirst) {
  const auto pool = AddressPool::make(*Prefix::parse("10.0.0.0/24"));
  const auto first = pool->take_lowest(Exclusions());
  auto second = pool->take_lowest(Exclusions());
  const auto third = pool->take_lowest(Exclusions());
  second = nullptr;
  EXPECT_TRUE(pool->is_free(*IpAddress::parse("10.0.0.1")));
  EXPECT_EQ(pool->take_lowest(Exclusions())->to_string(), "10.0.0.1");
}

TEST(AddressPool, HugePrefixesAndTheEdgesOfTheAddressSpace) {
  const auto all = AddressPool::make(*Prefix::parse("0.0.0.0/0"));
  const auto upper = Exclusions(std::vector{*Prefix::parse("0.0.0.0/1")});
  EXPECT_EQ(all->take_lowest(upper)->to_string(), "128.0.0.0");
  EXPECT_EQ(all->take_lowest(Exclusions(std::vector{*Prefix::parse("0.0.0.0/0")})), nullptr);
  const auto last = all->take(*IpAddress::parse("255.255.255.255"));
  ASSERT_TRUE(last);
  EXPECT_EQ(all->take(*last), nullptr);
  const auto v6 = AddressPool::make(*Prefix::parse("::/0"));
  EXPECT_EQ(v6->take_lowest(Exclusions(std::vector{*Prefix::parse("::/64")}))->to_string(), "0:0:0:1::");
}

TEST(Exclusions, NestedPrefixesCountAsOneRange) {
  const Exclusions excluded(
      std::vector{*Prefix::parse("10.0.0.4/30"), *Prefix::parse("10.0.0.0/28"), *Prefix::parse("10.0.0.9/32")});
  EXPECT_EQ(excluded.last_of_range(*IpAddress::parse("10.0.0.6"))->to_string(), "10.0.0.15");
  EXPECT_FALSE(excluded.contains(*IpAddress::parse("10.0.0.16")));
  EXPECT_FALSE(excluded.contains(*IpAddress::parse("::ffff:10.0.0.6")));
}

TEST(Exclusions, ManyDoNotSlowTheSearch) {
  std::vector<Prefix> many;
  auto address = *IpAddress::parse("10.0.0.0");
  for (int i = 0; i < 20'000; ++i, address = *address.next()->next()) many.push_back(Prefix::host(address));
  const auto pool = AddressPool::make(*Prefix::parse("10.0.0.0/8"));
  std::vector<HeldAddress> held;
  for (int i = 0; i < 1000; ++i) held.push_back(pool->take_lowest(Exclusions(std::span(many).first(50))));
  EXPECT_EQ(pool->take_lowest(Exclusions(many))->to_string(), "10.0.4.27");
}

TEST(Ipam, LeaseMayOutliveTheElement) {
  std::shared_ptr<ConnectionState> state;
  {
    ChainBench bench(ipam({{"10.0.0.0/24"}}));
    bench.below->on_request = [&](Call& call, NetworkServiceRequest&) { state = call.context().state; };
    ASSERT_TRUE(bench.request(bench.asking("c1")));
  }
  ASSERT_TRUE(state->find<PointToPointIpam::Lease>());
  state = nullptr;  // gives addresses back to a pool that nothing but the lease keeps
}

}  // namespace
}  // namespace mesh
