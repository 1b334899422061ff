// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/registry_proxy/registry_proxy.h"

#include <gmock/gmock.h>

#include "fakes/fake_registry.h"
#include "fakes/manual_scheduler.h"

namespace mesh {
namespace {

using ::testing::HasSubstr;

class RegistryProxyTest : public ::testing::Test {
 protected:
  RegistryProxyTest() {
    with.set_next(store);
    without.set_next(store);
  }
  static NetworkServiceEndpoint endpoint(const std::string& name, const std::string& service) {
    NetworkServiceEndpoint made;
    made.set_name(name);
    made.add_network_service_names(service);
    return made;
  }
  fakes::ManualScheduler scheduler;
  RegistryCall call{scheduler, base::kNoDeadline, base::StopToken()};
  fakes::FakeRegistry<Endpoints> store;
  fakes::FakeRegistry<Endpoints> elsewhere;
  RegistryProxy<Endpoints> with{&elsewhere};
  RegistryProxy<Endpoints> without{nullptr};
};

TEST_F(RegistryProxyTest, OwnNamesStayHere) {
  ASSERT_TRUE(scheduler.run(with.enroll(call, endpoint("a", "icmp"))).value());
  ASSERT_TRUE(scheduler.run(with.withdraw(call, endpoint("a", "icmp"))).value());
  EXPECT_EQ(store.enrolled.size(), 1U);
  EXPECT_EQ(store.withdrawn.size(), 1U);
  EXPECT_TRUE(elsewhere.enrolled.empty());
}

TEST_F(RegistryProxyTest, OtherDomainsNamesAndServicesGoThere) {
  ASSERT_TRUE(scheduler.run(with.enroll(call, endpoint("a@b", "icmp"))).value());
  ASSERT_TRUE(scheduler.run(with.enroll(call, endpoint("a", "icmp@b"))).value());
  ASSERT_TRUE(scheduler.run(with.withdraw(call, endpoint("a@b", "icmp"))).value());
  Endpoints::Query query;
  *query.mutable_network_service_endpoint() = endpoint("", "icmp@b");
  ASSERT_TRUE(scheduler.run(with.find(call, query)).value());
  EXPECT_EQ(elsewhere.enrolled.size(), 2U);
  EXPECT_EQ(elsewhere.withdrawn.size(), 1U);
  EXPECT_EQ(elsewhere.queries.size(), 1U);
  EXPECT_TRUE(store.enrolled.empty() && store.queries.empty());
}

TEST_F(RegistryProxyTest, WithoutAProxyTheOptionIsNamed) {
  const auto refused = scheduler.run(without.enroll(call, endpoint("a@b", "icmp"))).value();
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("NSM_PROXY_REGISTRY_URL"));
  EXPECT_FALSE(scheduler.run(without.withdraw(call, endpoint("a@b", "icmp"))).value());
  Endpoints::Query query;
  *query.mutable_network_service_endpoint() = endpoint("a@b", "icmp");
  EXPECT_FALSE(scheduler.run(without.find(call, query)).value());
  EXPECT_TRUE(store.queries.empty());
}

}  // namespace
}  // namespace mesh
