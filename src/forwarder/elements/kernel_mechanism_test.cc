// SPDX-License-Identifier: Apache-2.0
#include "forwarder/elements/kernel_mechanism.h"

#include <gmock/gmock.h>

#include "fakes/chain_bench.h"
#include "kernel/link.h"
#include "mesh/elements/descriptors/held_descriptors.h"

namespace forwarder {
namespace {

using base::Code;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

const rpc::InodeKey kNetns{4, 100};

// The files a connection has brought: one network namespace.
class Brought final : public mesh::Element {
 public:
  base::Task<base::Result<mesh::Connection>> request(mesh::Call& call, mesh::NetworkServiceRequest request) override {
    call.state().get<mesh::HeldDescriptors>().hold(rpc::Descriptor::simulated(kNetns));
    return call.next(std::move(request));
  }
};

class KernelMechanismTest : public ::testing::Test {
 protected:
  static mesh::NetworkServiceRequest asking(const std::string& id, const std::string& name,
                                            const std::string& url = rpc::inode_url(kNetns),
                                            const std::string& service = "icmp-responder") {
    auto request = fakes::ChainBench::asking(id, service);
    auto& mechanism = *request.mutable_connection()->mutable_mechanism();
    mechanism.set_type(std::string(mesh::kKernel));
    if (!url.empty()) (*mechanism.mutable_parameters())["inodeURL"] = url;
    if (!name.empty()) (*mechanism.mutable_parameters())["name"] = name;
    return request;
  }
  static std::string name(const base::Result<mesh::Connection>& connection) {
    return mesh::mechanism_parameter(connection.value().mechanism(), "name");
  }

  base::SeededRandom random{11};
  fakes::ChainBench bench{std::make_shared<Brought>(), std::make_shared<KernelMechanism>(random)};
};

TEST_F(KernelMechanismTest, TheClientsNameCounts) { EXPECT_EQ(name(bench.request(asking("c1", "nsm-1"))), "nsm-1"); }

TEST_F(KernelMechanismTest, AClientThatNamesNoneKeepsTheNameItWasGiven) {
  const auto first = name(bench.request(asking("c1", "")));
  EXPECT_THAT(first, StartsWith("icmp-respo-"));
  EXPECT_EQ(name(bench.request(asking("c1", ""))), first);
  EXPECT_NE(name(bench.request(asking("c2", ""))), first);
}

TEST_F(KernelMechanismTest, AFailedFirstRequestKeepsNoName) {
  bench.below->fail_next(Code::unavailable, "no endpoint");
  EXPECT_FALSE(bench.request(asking("c1", "")));
  const auto offered = mesh::mechanism_parameter(bench.below->requests[0].connection().mechanism(), "name");
  EXPECT_NE(name(bench.request(asking("c1", ""))), offered);
}

TEST_F(KernelMechanismTest, AnyServiceGivesANameThatLinuxTakes) {
  for (const char* service : {"a/b:c", "50%off", "two words", "\xc3\xa9t\xc3\xa9", "..", "", "x"}) {
    const auto connection = bench.request(asking("of " + std::string(service), "", rpc::inode_url(kNetns), service));
    ASSERT_TRUE(connection) << service << ": " << connection.error().message();
    EXPECT_TRUE(kernel::check_interface_name(name(connection))) << name(connection);
  }
}

TEST_F(KernelMechanismTest, ANameThatLinuxDoesNotTakeIsRefused) {
  for (const char* bad : {"..", "all", "a/b", "a b", "sixteen-letters-"}) {
    const auto refused = bench.request(asking("c1", bad));
    ASSERT_FALSE(refused) << bad;
    EXPECT_EQ(refused.error().code(), Code::invalid_argument);
    EXPECT_THAT(refused.error().message(), HasSubstr(bad));
  }
  EXPECT_THAT(bench.below->requests, IsEmpty());
}

TEST_F(KernelMechanismTest, ANamespaceThatTheClientHasNotBroughtIsRefused) {
  for (const char* url : {"", "inode://4/101", "inode://100/4", "file:///proc/1/ns/net"}) {
    const auto refused = bench.request(asking("c1", "nsm-1", url));
    ASSERT_FALSE(refused) << url;
    EXPECT_EQ(refused.error().code(), Code::invalid_argument);
    EXPECT_THAT(refused.error().message(), HasSubstr("inodeURL '" + std::string(url) + "'"));
  }
  EXPECT_THAT(bench.below->requests, IsEmpty());
}

}  // namespace
}  // namespace forwarder
