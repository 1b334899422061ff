// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/registry_local_bypass/registry_local_bypass.h"

#include <gmock/gmock.h>

#include "fakes/fake_registry.h"
#include "fakes/manual_scheduler.h"

namespace mesh {
namespace {

using base::Code;
using ::testing::HasSubstr;

constexpr const char* kPublic = "tcp://10.0.0.1:5001";

class RegistryLocalBypassTest : public ::testing::Test {
 protected:
  RegistryLocalBypassTest() { element.set_next(below); }
  static NetworkServiceEndpoint endpoint(const std::string& name, const std::string& url) {
    NetworkServiceEndpoint made;
    made.set_name(name);
    made.set_url(url);
    return made;
  }
  base::Result<NetworkServiceEndpoint> enroll(const std::string& name, const std::string& url) {
    return scheduler.run(element.enroll(call, endpoint(name, url))).value();
  }
  base::Result<void> withdraw(const std::string& name) {
    return scheduler.run(element.withdraw(call, endpoint(name, ""))).value();
  }
  // "name url", a minus in front if deleted.
  std::vector<std::string> find() {
    const auto all = scheduler.run(find_all<Endpoints>(element, call, Endpoints::Query())).value().value();
    std::vector<std::string> said;
    for (const auto& found : all) {
      const auto& record = found.response.network_service_endpoint();
      said.push_back((found.response.deleted() ? "-" : "") + record.name() + " " + record.url());
    }
    return said;
  }

  fakes::ManualScheduler scheduler;
  RegistryCall call{scheduler, base::kNoDeadline, base::StopToken()};
  RegistryLocalBypass element{kPublic};
  fakes::FakeRegistry<Endpoints> below;
};

using Said = std::vector<std::string>;

TEST_F(RegistryLocalBypassTest, UpstreamSeesTheManagerAndTheNodeSeesTheEndpoint) {
  const auto stored = enroll("a", "inode://1/2");
  ASSERT_TRUE(stored);
  EXPECT_EQ(stored->url(), "inode://1/2");
  EXPECT_EQ(below.records.at("a").url(), kPublic);
  EXPECT_EQ(find(), Said{"a inode://1/2"});
}

TEST_F(RegistryLocalBypassTest, WhatIsLeftOverFromBeforeARestartIsNotShown) {
  below.records.emplace("old", endpoint("old", kPublic));
  below.records.emplace("remote", endpoint("remote", "tcp://10.0.0.2:5001"));
  EXPECT_EQ(find(), Said{"remote tcp://10.0.0.2:5001"});
}

TEST_F(RegistryLocalBypassTest, DeletionsAreAlwaysShown) {
  below.deleted.push_back(endpoint("old", kPublic));
  EXPECT_EQ(find(), Said{std::string("-old ") + kPublic});
}

TEST_F(RegistryLocalBypassTest, ANameThatMovedToAnotherNodeIsFoundThere) {
  ASSERT_TRUE(enroll("a", "inode://1/2"));
  below.records.at("a").set_url("tcp://10.0.0.2:5001");
  EXPECT_EQ(find(), Said{"a tcp://10.0.0.2:5001"});
}

TEST_F(RegistryLocalBypassTest, OnlyKnownNamesAreUnregisteredUpstream) {
  ASSERT_TRUE(withdraw("stranger"));
  EXPECT_TRUE(below.withdrawn.empty());
  ASSERT_TRUE(enroll("a", "inode://1/2"));
  ASSERT_TRUE(withdraw("a"));
  ASSERT_EQ(below.withdrawn.size(), 1U);
  EXPECT_EQ(below.withdrawn[0].url(), kPublic);
  ASSERT_TRUE(withdraw("a"));
  EXPECT_EQ(below.withdrawn.size(), 1U);
}

TEST_F(RegistryLocalBypassTest, AFailedRegistrationLeavesTheNameAsItWas) {
  below.fail_next(Code::unavailable, "gone");
  EXPECT_FALSE(enroll("a", "inode://1/2"));
  below.records.emplace("a", endpoint("a", kPublic));
  EXPECT_TRUE(find().empty());
  ASSERT_TRUE(enroll("a", "inode://1/2"));
  below.fail_next(Code::unavailable, "gone");
  EXPECT_FALSE(enroll("a", "inode://3/4"));
  EXPECT_EQ(find(), Said{"a inode://1/2"});
}

TEST_F(RegistryLocalBypassTest, KnownBeforeTheRegistryAnswers) {
  Said meanwhile;
  below.on_enroll = [&](RegistryCall&, NetworkServiceEndpoint& record) {
    auto answer = record;
    below.records.insert_or_assign(answer.name(), answer);
    meanwhile.emplace_back("asked");
  };
  below.before_answer = [&]() -> base::Task<void> {
    below.records.insert_or_assign("a", endpoint("a", kPublic));
    auto all = co_await find_all<Endpoints>(element, call, Endpoints::Query());
    for (const auto& found : all.value()) meanwhile.push_back(found.response.network_service_endpoint().url());
  };
  ASSERT_TRUE(enroll("a", "inode://1/2"));
  EXPECT_EQ(meanwhile, (Said{"inode://1/2", "asked"}));
}

TEST_F(RegistryLocalBypassTest, AnEndpointNeedsAUrl) {
  const auto refused = enroll("a", "");
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("has no URL"));
}

}  // namespace
}  // namespace mesh
