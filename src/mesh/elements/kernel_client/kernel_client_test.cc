// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/kernel_client/kernel_client.h"

#include <gmock/gmock.h>

#include "fakes/chain_bench.h"
#include "mesh/elements/descriptors/held_descriptors.h"

namespace mesh {
namespace {

using fakes::ChainBench;
using ::testing::MatchesRegex;

const rpc::InodeKey kNamespace{4, 4026532001};

struct KernelClientTest : ::testing::Test {
  base::SeededRandom random{1};
  ChainBench bench{Begin::Side::client, std::make_shared<KernelClient>(rpc::Descriptor::simulated(kNamespace), random)};

  static NetworkServiceRequest preferring(const char* type, const char* name) {
    auto request = ChainBench::asking("nsc-0", "kernel2ip2kernel");
    auto* mechanism = request.add_mechanism_preferences();
    mechanism->set_cls("LOCAL");
    mechanism->set_type(type);
    if (*name != '\0') (*mechanism->mutable_parameters())["name"] = name;
    return request;
  }
  const Mechanism& sent(std::size_t call) { return bench.below->requests.at(call).mechanism_preferences(0); }
};

TEST_F(KernelClientTest, NamesItsNamespaceAndKeepsTheNameAskedFor) {
  ASSERT_TRUE(bench.request(preferring("KERNEL", "nsm-1")));
  EXPECT_EQ(mechanism_parameter(sent(0), parameter::kInodeUrl), "inode://4/4026532001");
  EXPECT_EQ(mechanism_parameter(sent(0), parameter::kName), "nsm-1");
}

TEST_F(KernelClientTest, TheNamespacesDescriptorIsHeldForConnectToSend) {
  bool held = false;
  bench.below->on_request = [&](Call& call, NetworkServiceRequest&) {
    held = call.state().get<HeldDescriptors>().find(kNamespace).has_value();
  };
  ASSERT_TRUE(bench.request(preferring("KERNEL", "nsm-1")));
  EXPECT_TRUE(held);
}

TEST_F(KernelClientTest, MissingNameIsMadeFromTheService) {
  ASSERT_TRUE(bench.request(preferring("KERNEL", "")));
  EXPECT_THAT(mechanism_parameter(sent(0), parameter::kName), MatchesRegex("kernel2ip2-[0-9A-Za-z]{4}"));
}

TEST_F(KernelClientTest, GeneratedNameStaysThroughFailureRefreshAndReselect) {
  bench.below->fail_next(base::Code::unavailable, "no manager");
  ASSERT_FALSE(bench.request(preferring("KERNEL", "")));
  ASSERT_TRUE(bench.request(preferring("KERNEL", "")));
  auto reselect = preferring("KERNEL", "");
  reselect.mutable_connection()->set_state(connection::RESELECT_REQUESTED);
  ASSERT_TRUE(bench.request(reselect));
  const auto name = mechanism_parameter(sent(0), parameter::kName);
  EXPECT_EQ(mechanism_parameter(sent(1), parameter::kName), name);
  EXPECT_EQ(mechanism_parameter(sent(2), parameter::kName), name);
}

TEST_F(KernelClientTest, ConnectionsGetDifferentNames) {
  ASSERT_TRUE(bench.request(preferring("KERNEL", "")));
  auto other = preferring("KERNEL", "");
  other.mutable_connection()->set_id("nsc-1");
  ASSERT_TRUE(bench.request(other));
  EXPECT_NE(mechanism_parameter(sent(0), parameter::kName), mechanism_parameter(sent(1), parameter::kName));
}

TEST_F(KernelClientTest, ResumedConnectionsMechanismNamesThisNamespace) {
  auto request = preferring("KERNEL", "nsm-1");
  auto* mechanism = request.mutable_connection()->mutable_mechanism();
  mechanism->set_type("KERNEL");
  (*mechanism->mutable_parameters())["inodeURL"] = "inode://4/1";
  (*mechanism->mutable_parameters())["name"] = "nsm-1";
  ASSERT_TRUE(bench.request(request));
  EXPECT_EQ(mechanism_parameter(bench.below->requests[0].connection().mechanism(), "inodeURL"), "inode://4/4026532001");
}

TEST_F(KernelClientTest, OtherMechanismsAreLeftAlone) {
  ASSERT_TRUE(bench.request(preferring("MEMIF", "")));
  EXPECT_EQ(bench.below->requests[0].mechanism_preferences_size(), 1);
  EXPECT_TRUE(sent(0).parameters().empty());
}

TEST_F(KernelClientTest, NoPreferenceMeansKernel) {
  ASSERT_TRUE(bench.request(bench.asking("nsc-0")));
  EXPECT_EQ(sent(0).type(), "KERNEL");
  EXPECT_EQ(sent(0).cls(), "LOCAL");
}

}  // namespace
}  // namespace mesh
