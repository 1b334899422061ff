// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/path/path.h"

#include <gmock/gmock.h>

#include "fakes/manual_scheduler.h"
#include "mesh/core/chain.h"
#include "mesh/elements/path_token/path_token.h"
#include "mesh/elements/trim_path/trim_path.h"

namespace mesh {
namespace {

using base::Result;
using base::Task;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using namespace std::chrono_literals;

// What a next hop answers with.
class Hop final : public Element {
 public:
  Task<Result<Connection>> request(Call& call, NetworkServiceRequest request) override {
    seen = request.connection();
    if (answers) {
      call.context().answered_below = true;
      auto* segment = request.mutable_connection()->mutable_path()->add_path_segments();
      segment->set_name("next");
      segment->set_id("id-next");
    }
    if (loses_path) request.mutable_connection()->mutable_path()->clear_path_segments();
    co_return std::move(*request.mutable_connection());
  }
  Task<Result<void>> close(Call& call, Connection connection) override {
    seen = connection;
    co_return co_await call.next_close(std::move(connection));
  }
  Connection seen;
  bool answers = false;
  bool loses_path = false;
};

class PathTest : public ::testing::Test {
 protected:
  PathTest() {
    ChainBuilder builder;
    builder.add("path", std::make_shared<PathElement>("nsmgr", random))
        .add("path_token", std::make_shared<PathToken>(tokens))
        .add("trim_path", std::make_shared<TrimPath>())
        .add("hop", hop);
    chain.emplace(std::move(builder).build());
  }
  static Connection with_path(const std::string& id, std::uint32_t index,
                              const std::vector<std::pair<std::string, std::string>>& segments) {
    Connection connection;
    connection.set_id(id);
    connection.mutable_path()->set_index(index);
    for (const auto& [name, segment_id] : segments) {
      auto* segment = connection.mutable_path()->add_path_segments();
      segment->set_name(name);
      segment->set_id(segment_id);
    }
    return connection;
  }
  Result<Connection> request(Connection connection) {
    NetworkServiceRequest request;
    *request.mutable_connection() = std::move(connection);
    CallContext context(scheduler, base::kNoDeadline, {});
    context.metadata = metadata;
    return scheduler.run(chain->request(context, std::move(request))).value();
  }
  static std::vector<std::string> names(const Connection& connection) {
    std::vector<std::string> all;
    for (const auto& segment : connection.path().path_segments()) all.push_back(segment.name());
    return all;
  }

  fakes::ManualScheduler scheduler;
  base::SeededRandom random{3};
  PlainTokens tokens{scheduler, "spiffe://test.com/nsmgr", 10min};
  std::shared_ptr<Hop> hop = std::make_shared<Hop>();
  rpc::Metadata metadata;
  std::optional<Chain> chain;
};

TEST_F(PathTest, AnEmptyPathBeginsHere) {
  const auto answer = request(with_path("c0", 0, {}));
  ASSERT_TRUE(answer);
  EXPECT_THAT(names(hop->seen), ElementsAre("nsmgr"));
  EXPECT_EQ(hop->seen.id(), "c0");
  EXPECT_EQ(answer->path().index(), 0U);
}

TEST_F(PathTest, AnEmptyPathWithoutAnIdGetsOne) { EXPECT_EQ(request(with_path("", 0, {}))->id().size(), 36U); }

TEST_F(PathTest, TheCallersSegmentIsFollowedByOurs) {
  const auto answer = request(with_path("c0", 0, {{"nsc", "c0"}}));
  ASSERT_TRUE(answer);
  EXPECT_THAT(names(hop->seen), ElementsAre("nsc", "nsmgr"));
  EXPECT_EQ(hop->seen.path().index(), 1U);
  EXPECT_EQ(hop->seen.id(), hop->seen.path().path_segments(1).id());
  EXPECT_EQ(answer->path().index(), 0U);
  EXPECT_EQ(answer->id(), "c0");
}

TEST_F(PathTest, ARefreshFindsItsOwnId) {
  ASSERT_TRUE(request(with_path("c0", 0, {{"nsc", "c0"}, {"nsmgr", "c1"}, {"fwd", "c2"}})));
  EXPECT_EQ(hop->seen.id(), "c1");
  EXPECT_EQ(hop->seen.path().path_segments_size(), 3);
}

TEST_F(PathTest, AnotherHopsSegmentBecomesOursUnderANewId) {
  ASSERT_TRUE(request(with_path("c0", 0, {{"nsc", "c0"}, {"other", "c1"}, {"fwd", "c2"}})));
  EXPECT_THAT(names(hop->seen), ElementsAre("nsc", "nsmgr", "fwd"));
  EXPECT_NE(hop->seen.id(), "c1");
}

TEST_F(PathTest, AnIndexBeyondThePathIsRefused) {
  const auto refused = request(with_path("c0", 3, {{"nsc", "c0"}}));
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("Path.Index+1==4 should be less or equal"));
}

TEST_F(PathTest, AnIdThatIsNotTheSegmentsIsRefused) {
  const auto refused = request(with_path("c9", 0, {{"nsc", "c0"}}));
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("Current PathSegment.Id==c0 should be equal Connection.Id==c9"));
}

TEST_F(PathTest, APathThatLoopsIsRefused) {
  std::vector<std::pair<std::string, std::string>> segments;
  for (int hop_number = 0; hop_number < 65; ++hop_number) segments.emplace_back("hop", "c0");
  EXPECT_THAT(request(with_path("c0", 0, segments)).error().message(), HasSubstr("it loops"));
}

TEST_F(PathTest, AnAnswerWithoutTheCallersSegmentIsRefused) {
  hop->loses_path = true;
  EXPECT_THAT(request(with_path("c0", 0, {{"nsc", "c0"}})).error().message(),
              HasSubstr("lost the caller's path segment"));
}

TEST_F(PathTest, ACloseTakesTheSamePlace) {
  CallContext context(scheduler, base::kNoDeadline, {});
  ASSERT_TRUE(*scheduler.run(chain->close(context, with_path("c0", 0, {{"nsc", "c0"}, {"nsmgr", "c1"}}))));
  EXPECT_EQ(hop->seen.id(), "c1");
  EXPECT_EQ(hop->seen.path().index(), 1U);
}

TEST_F(PathTest, ThePreviousSegmentTakesTheCallsTokenAndOursAFreshOne) {
  metadata = {{"nsm-client-token", "theirs"}, {"nsm-client-token-expires", "2026-11-21T10:28:10Z"}};
  ASSERT_TRUE(request(with_path("c0", 0, {{"nsc", "c0"}})));
  EXPECT_EQ(hop->seen.path().path_segments(0).token(), "theirs");
  EXPECT_EQ(format_time(to_wall(hop->seen.path().path_segments(0).expires())), "2026-11-21T10:28:10Z");
  EXPECT_EQ(token_subject(hop->seen.path().path_segments(1).token()), "spiffe://test.com/nsmgr");
}

TEST_F(PathTest, WithoutATokenInTheCallThePreviousSegmentStaysAsItWas) {
  auto connection = with_path("c0", 0, {{"nsc", "c0"}});
  connection.mutable_path()->mutable_path_segments(0)->set_token("as sent");
  ASSERT_TRUE(request(connection));
  EXPECT_EQ(hop->seen.path().path_segments(0).token(), "as sent");
}

TEST_F(PathTest, WithoutAPeerBelowThePathEndsHere) {
  EXPECT_THAT(names(*request(with_path("c0", 0, {{"nsc", "c0"}, {"nsmgr", "c1"}, {"gone", "c2"}}))),
              ElementsAre("nsc", "nsmgr"));
}

TEST_F(PathTest, WithAPeerBelowThePathGoesOn) {
  hop->answers = true;
  EXPECT_THAT(names(*request(with_path("c0", 0, {{"nsc", "c0"}}))), ElementsAre("nsc", "nsmgr", "next"));
}

}  // namespace
}  // namespace mesh
