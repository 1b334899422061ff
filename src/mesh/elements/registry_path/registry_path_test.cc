// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/registry_path/registry_path.h"

#include <gmock/gmock.h>

#include "fakes/fake_registry.h"
#include "fakes/manual_scheduler.h"

namespace mesh {
namespace {

using base::Code;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using namespace std::chrono_literals;

class RegistryPathTest : public ::testing::Test {
 protected:
  RegistryPathTest() { element.set_next(below); }

  // A call with the peer's token and, unless empty, a path.
  RegistryCall call(const std::string& path) {
    RegistryCall made(scheduler, base::kNoDeadline, base::StopToken());
    made.metadata.emplace("nsm-client-token", peer.text);
    made.metadata.emplace("nsm-client-token-expires", format_time(peer.expires));
    if (!path.empty()) made.metadata.emplace("path", path);
    return made;
  }
  base::Result<NetworkServiceEndpoint> enroll(RegistryCall& context) {
    NetworkServiceEndpoint endpoint;
    endpoint.set_name("nse");
    return scheduler.run(element.enroll(context, endpoint)).value();
  }

  fakes::ManualScheduler scheduler;
  PlainTokens own{scheduler, "spiffe://test/manager", 10min};
  Token peer = PlainTokens(scheduler, "spiffe://test/nse", 10min).issue({});
  RegistryPath<Endpoints> element{own};
  fakes::FakeRegistry<Endpoints> below;
};

TEST_F(RegistryPathTest, AnEmptyPathGetsBothHops) {
  auto context = call(R"({"Index":0,"PathSegments":null})");
  const auto stored = enroll(context);
  ASSERT_TRUE(stored);
  ASSERT_EQ(below.paths.size(), 1U);
  EXPECT_EQ(below.paths[0].index, 1U);
  ASSERT_EQ(below.paths[0].tokens.size(), 2U);
  EXPECT_EQ(below.paths[0].tokens[0], peer.text);
  EXPECT_EQ(token_subject(below.paths[0].tokens[1]), "spiffe://test/manager");
  EXPECT_THAT(stored->path_ids(), ElementsAre("spiffe://test/nse", "spiffe://test/manager"));
  EXPECT_EQ(context.path.index, 0U);  // as the caller sees it
  EXPECT_EQ(context.path.tokens.size(), 2U);
}

TEST_F(RegistryPathTest, ALongerPathIsExtendedAtItsEnd) {
  auto context = call(R"({"Index":1,"PathSegments":[{"token":"a"},{"token":"b"}]})");
  ASSERT_TRUE(enroll(context));
  EXPECT_EQ(below.paths[0].index, 2U);
  ASSERT_EQ(below.paths[0].tokens.size(), 3U);
  EXPECT_EQ(below.paths[0].tokens[0], "a");
  EXPECT_EQ(below.paths[0].tokens[1], peer.text);
  EXPECT_EQ(context.path.index, 1U);
}

TEST_F(RegistryPathTest, ARefreshRenewsTheTokensInPlace) {
  auto context = call(R"({"Index":0,"PathSegments":[{"token":"a"},{"token":"b"},{"token":"c"}]})");
  ASSERT_TRUE(enroll(context));
  EXPECT_EQ(below.paths[0].index, 1U);
  ASSERT_EQ(below.paths[0].tokens.size(), 3U);
  EXPECT_EQ(below.paths[0].tokens[0], peer.text);
  EXPECT_EQ(token_subject(below.paths[0].tokens[1]), "spiffe://test/manager");
  EXPECT_EQ(below.paths[0].tokens[2], "c");
}

TEST_F(RegistryPathTest, ACallerWithoutAPathIsServedToo) {
  auto context = call("");
  const auto stored = enroll(context);
  ASSERT_TRUE(stored);
  EXPECT_EQ(stored->path_ids_size(), 2);
}

TEST_F(RegistryPathTest, ACallerWithoutATokenGetsAnEmptyId) {
  RegistryCall context(scheduler, base::kNoDeadline, base::StopToken());
  const auto stored = enroll(context);
  ASSERT_TRUE(stored);
  EXPECT_THAT(stored->path_ids(), ElementsAre("", "spiffe://test/manager"));
}

TEST_F(RegistryPathTest, OfSeveralPathsTheLastCounts) {
  auto context = call(R"({"Index":0,"PathSegments":null})");
  context.metadata.emplace("path", R"({"Index":1,"PathSegments":[{"token":"a"},{"token":"b"}]})");
  ASSERT_TRUE(enroll(context));
  EXPECT_EQ(below.paths[0].index, 2U);
}

TEST_F(RegistryPathTest, AnIndexBeyondTheSegmentsIsRefused) {
  auto context = call(R"({"Index":2,"PathSegments":[{"token":"a"},{"token":"b"}]})");
  const auto refused = enroll(context);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::invalid_argument);
  EXPECT_THAT(refused.error().message(), HasSubstr("Index 2"));
  EXPECT_TRUE(below.enrolled.empty());
}

TEST_F(RegistryPathTest, GarbageIsRefusedForUnregisteringToo) {
  auto context = call("[]");
  const auto refused = scheduler.run(element.withdraw(context, NetworkServiceEndpoint())).value();
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("not a JSON object"));
}

}  // namespace
}  // namespace mesh
