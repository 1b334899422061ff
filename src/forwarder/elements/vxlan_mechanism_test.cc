// SPDX-License-Identifier: Apache-2.0
#include "forwarder/elements/vxlan_mechanism.h"

#include <gmock/gmock.h>

#include "fakes/chain_bench.h"

namespace forwarder {
namespace {

using base::Code;
using mesh::Mechanism;
using ::testing::HasSubstr;

Mechanism tunnel(const std::map<std::string, std::string>& parameters) {
  Mechanism mechanism;
  mechanism.set_cls("REMOTE");
  mechanism.set_type("VXLAN");
  for (const auto& [key, value] : parameters) (*mechanism.mutable_parameters())[key] = value;
  return mechanism;
}

TEST(VxlanEndTest, IsSeenFromEitherSide) {
  const auto mechanism = tunnel({{"src_ip", "10.0.0.1"}, {"dst_ip", "10.0.0.2"}, {"vni", "78"}});
  const auto client = vxlan_end(mechanism, Side::client).value();
  const auto endpoint = vxlan_end(mechanism, Side::endpoint).value();
  EXPECT_EQ(client.local.to_string(), "10.0.0.1");
  EXPECT_EQ(client.remote, endpoint.local);
  EXPECT_EQ(client.local, endpoint.remote);
  EXPECT_EQ(client.port, 4789);
  EXPECT_EQ(client.vni, 78U);
}

TEST(VxlanEndTest, RefusesMixedFamilies) {
  const auto refused =
      vxlan_end(tunnel({{"src_ip", "10.0.0.1"}, {"dst_ip", "2001:db8::2"}, {"vni", "78"}}), Side::client);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("mixes IPv4 and IPv6"));
}

TEST(VxlanEndTest, RefusesDifferentPorts) {
  const auto refused = vxlan_end(
      tunnel(
          {{"src_ip", "10.0.0.1"}, {"dst_ip", "10.0.0.2"}, {"vni", "78"}, {"src_port", "4789"}, {"dst_port", "8472"}}),
      Side::client);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("port 4789 at one end and 8472 at the other"));
}

TEST(VxlanEndTest, RefusesAMissingOrImpossibleVni) {
  for (const char* vni : {"", "0", "16777216", "many"}) {
    const auto refused =
        vxlan_end(tunnel({{"src_ip", "10.0.0.1"}, {"dst_ip", "10.0.0.2"}, {"vni", vni}}), Side::client);
    ASSERT_FALSE(refused) << vni;
    EXPECT_EQ(refused.error().code(), Code::invalid_argument);
  }
}

TEST(VxlanEndTest, NamesTheParameterThatIsNoAddress) {
  EXPECT_THAT(vxlan_end(tunnel({{"src_ip", "10.0.0.1"}, {"vni", "78"}}), Side::client).error().message(),
              HasSubstr("dst_ip"));
}

TEST(VxlanMtu, LeavesRoomForTheOuterHeaders) {
  EXPECT_EQ(vxlan_mtu({wire::IpAddress::parse("10.0.0.1").value(), 1500}), 1446U);
  EXPECT_EQ(vxlan_mtu({wire::IpAddress::parse("2001:db8::1").value(), 1500}), 1426U);
  EXPECT_EQ(vxlan_mtu({wire::IpAddress::parse("10.0.0.1").value(), 40}), 0U);
}

class VxlanMechanismTest : public ::testing::Test {
 protected:
  static mesh::NetworkServiceRequest asking(const std::string& id,
                                            const std::map<std::string, std::string>& parameters) {
    auto request = fakes::ChainBench::asking(id);
    *request.mutable_connection()->mutable_mechanism() = tunnel(parameters);
    return request;
  }
  static std::string parameter(const mesh::Connection& connection, const char* key) {
    return mesh::mechanism_parameter(connection.mechanism(), key);
  }

  base::SeededRandom random{5};
  VniAllocator vnis{random};
  fakes::ChainBench bench{std::make_shared<VxlanMechanism>(
      vnis, Underlay{wire::IpAddress::parse("10.0.0.2").value(), 1500}, std::uint16_t{4789})};
};

TEST_F(VxlanMechanismTest, FillsInThisEnd) {
  const auto answer = bench.request(asking("c1", {{"src_ip", "10.0.0.1"}, {"dst_ip", "6.6.6.6"}, {"MTU", "9000"}}));
  ASSERT_TRUE(answer);
  EXPECT_EQ(parameter(*answer, "dst_ip"), "10.0.0.2");
  EXPECT_EQ(parameter(*answer, "dst_port"), "4789");
  EXPECT_EQ(parameter(*answer, "MTU"), "1446");
  EXPECT_NE(parameter(*answer, "vni"), "");
  EXPECT_EQ(answer->context().mtu(), 1446U);
}

TEST_F(VxlanMechanismTest, ASmallerMtuOfTheirsCounts) {
  const auto answer = bench.request(asking("c1", {{"src_ip", "10.0.0.1"}, {"MTU", "1300"}}));
  EXPECT_EQ(parameter(*answer, "MTU"), "1300");
  EXPECT_EQ(answer->context().mtu(), 1300U);
}

TEST_F(VxlanMechanismTest, ARefreshKeepsTheVni) {
  const auto first = bench.request(asking("c1", {{"src_ip", "10.0.0.1"}}));
  const auto again = bench.request(bench.refreshing(*first));
  EXPECT_EQ(parameter(*again, "vni"), parameter(*first, "vni"));
}

TEST_F(VxlanMechanismTest, AFailedFirstRequestFreesTheVni) {
  bench.below->fail_next(Code::unavailable, "no");
  EXPECT_FALSE(bench.request(asking("c1", {{"src_ip", "10.0.0.1"}})));
  EXPECT_EQ(vnis.size(), 0U);
}

TEST_F(VxlanMechanismTest, AFailedRefreshKeepsTheVni) {
  const auto first = bench.request(asking("c1", {{"src_ip", "10.0.0.1"}}));
  bench.below->fail_next(Code::unavailable, "no");
  EXPECT_FALSE(bench.request(bench.refreshing(*first)));
  EXPECT_EQ(vnis.size(), 1U);
}

TEST_F(VxlanMechanismTest, CloseFreesTheVni) {
  const auto first = bench.request(asking("c1", {{"src_ip", "10.0.0.1"}}));
  ASSERT_TRUE(bench.close(*first));
  EXPECT_EQ(vnis.size(), 0U);
}

TEST_F(VxlanMechanismTest, AVniInUseIsRefusedInOneSentence) {
  ASSERT_TRUE(bench.request(asking("c1", {{"src_ip", "10.0.0.1"}, {"vni", "78"}})));
  const auto refused = bench.request(asking("c2", {{"src_ip", "10.0.0.3"}, {"vni", "78"}}));
  ASSERT_FALSE(refused);
  EXPECT_EQ(
      refused.error().message(),
      "VNI 78 is in use on this node by connection c1: the kernel takes each VNI once; ask for another or for none");
}

TEST_F(VxlanMechanismTest, TheOrderOfTheAddressesDecidesTheVnisParity) {
  for (int i = 0; i < 8; ++i) {
    const auto upwards = bench.request(asking("up" + std::to_string(i), {{"src_ip", "10.0.0.1"}}));
    const auto downwards = bench.request(asking("down" + std::to_string(i), {{"src_ip", "10.0.0.3"}}));
    EXPECT_EQ(std::stoul(parameter(*upwards, "vni")) % 2, 0U);
    EXPECT_EQ(std::stoul(parameter(*downwards, "vni")) % 2, 1U);
  }
}

TEST_F(VxlanMechanismTest, AVniOfMoreThan24BitsIsRefused) {
  for (const char* vni : {"16777216", "4294967374", "18446744073709551615"}) {  // the second is 78 and 2^32
    const auto refused = bench.request(asking("c1", {{"src_ip", "10.0.0.1"}, {"vni", vni}}));
    ASSERT_FALSE(refused) << vni;
    EXPECT_EQ(refused.error().code(), Code::invalid_argument);
  }
  EXPECT_EQ(vnis.size(), 0U);
  EXPECT_THAT(bench.below->requests, ::testing::IsEmpty());
}

TEST_F(VxlanMechanismTest, WithoutAnAddressOfTheirsNoVniIsTaken) {
  for (const char* address : {"", "10.0.0", "10.0.0.1/32"}) {
    const auto refused = bench.request(asking("c1", {{"src_ip", address}}));
    ASSERT_FALSE(refused) << address;
    EXPECT_THAT(refused.error().message(), HasSubstr("src_ip"));
  }
  EXPECT_EQ(vnis.size(), 0U);
}

TEST_F(VxlanMechanismTest, AnMtuOfTheirsThatIsNoMtuDoesNotCount) {
  for (const char* mtu : {"0", "-1", "much", "4294967297"}) {  // the last is 1 and 2^32
    const auto answer = bench.request(asking("c" + std::string(mtu), {{"src_ip", "10.0.0.1"}, {"MTU", mtu}}));
    EXPECT_EQ(parameter(*answer, "MTU"), "1446") << mtu;
  }
}

}  // namespace
}  // namespace forwarder
