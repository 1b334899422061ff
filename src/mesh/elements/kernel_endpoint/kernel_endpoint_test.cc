// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/kernel_endpoint/kernel_endpoint.h"

#include <gmock/gmock.h>

#include "fakes/chain_bench.h"
#include "mesh/elements/mechanisms/mechanisms.h"

namespace mesh {
namespace {

using fakes::ChainBench;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;
using ::testing::SizeIs;

const rpc::InodeKey kNamespace{4, 4026532777};

// Says the same numbers a few times over, so that names would collide.
class Stuttering final : public base::Random {
 public:
  std::uint64_t next() override { return calls_++ / 64; }

 private:
  std::uint64_t calls_ = 0;
};

struct KernelEndpointTest : ::testing::Test {
  Stuttering random;
  ChainBench bench{std::make_shared<Mechanisms>(
      Mechanisms::Offers{{"KERNEL", std::make_shared<KernelEndpoint>(rpc::Descriptor::simulated(kNamespace), random)},
                         {"NOOP", std::make_shared<KernelEndpoint>(rpc::Descriptor::simulated(kNamespace), random)}})};

  static NetworkServiceRequest preferring(const char* id, const char* type, const char* name = "") {
    auto request = ChainBench::asking(id, "icmp-responder");
    auto* mechanism = request.add_mechanism_preferences();
    mechanism->set_type(type);
    if (*name != '\0') (*mechanism->mutable_parameters())["name"] = name;
    return request;
  }
  std::string name_of(const base::Result<Connection>& connection) {
    return connection ? mechanism_parameter(connection->mechanism(), parameter::kName) : connection.error().message();
  }
};

TEST_F(KernelEndpointTest, AnswersWithItsNamespaceAndAName) {
  const auto connection = bench.request(preferring("c1", "KERNEL"));
  ASSERT_TRUE(connection);
  EXPECT_EQ(mechanism_parameter(connection->mechanism(), parameter::kInodeUrl), "inode://4/4026532777");
  EXPECT_THAT(name_of(connection), MatchesRegex("icmp-respo-[0-9A-Za-z]{4}"));
}

TEST_F(KernelEndpointTest, PassesTheNamespaceOnceOnEveryAnswer) {
  const auto connection = bench.request(preferring("c1", "KERNEL"));
  ASSERT_THAT(bench.reply_descriptors, SizeIs(1));
  EXPECT_EQ(bench.reply_descriptors[0].key(), kNamespace);
  ASSERT_TRUE(bench.request(bench.refreshing(*connection)));
  EXPECT_THAT(bench.reply_descriptors, SizeIs(1));
}

TEST_F(KernelEndpointTest, FailureBelowPassesNothing) {
  bench.below->fail_next(base::Code::unavailable, "no");
  ASSERT_FALSE(bench.request(preferring("c1", "KERNEL")));
  EXPECT_THAT(bench.reply_descriptors, IsEmpty());
}

TEST_F(KernelEndpointTest, RefreshKeepsTheNameAlsoWhenItForgotIt) {
  const auto name = name_of(bench.request(preferring("c1", "KERNEL")));
  EXPECT_EQ(name_of(bench.request(preferring("c1", "KERNEL"))), name);
}

TEST_F(KernelEndpointTest, StaleNamespaceOfARestartedEndpointIsReplaced) {
  auto request = preferring("c1", "KERNEL");
  auto* mechanism = request.mutable_connection()->mutable_mechanism();
  mechanism->set_type("KERNEL");
  (*mechanism->mutable_parameters())["inodeURL"] = "inode://4/1";
  (*mechanism->mutable_parameters())["name"] = "icmp-respo-AbCd";
  const auto connection = bench.request(request);
  EXPECT_EQ(mechanism_parameter(connection->mechanism(), "inodeURL"), "inode://4/4026532777");
  EXPECT_EQ(name_of(connection), "icmp-respo-AbCd");
}

TEST_F(KernelEndpointTest, NameAskedForIsKeptAndCutToWhatLinuxTakes) {
  EXPECT_EQ(name_of(bench.request(preferring("c1", "KERNEL", "a-very-long-interface-name"))), "a-very-long-int");
}

TEST_F(KernelEndpointTest, GeneratedNamesNeverCollide) {
  std::set<std::string> names;
  for (int i = 0; i < 20; ++i)
    names.insert(name_of(bench.request(preferring(("c" + std::to_string(i)).c_str(), "KERNEL"))));
  EXPECT_THAT(names, SizeIs(20));
}

TEST_F(KernelEndpointTest, OtherMechanismsPassThrough) {
  const auto connection = bench.request(preferring("c1", "NOOP"));
  ASSERT_TRUE(connection);
  EXPECT_TRUE(connection->mechanism().parameters().empty());
  EXPECT_THAT(bench.reply_descriptors, IsEmpty());
}

}  // namespace
}  // namespace mesh
