// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/descriptors/descriptors.h"

#include <gmock/gmock.h>

#include "fakes/chain_bench.h"
#include "mesh/elements/descriptors/held_descriptors.h"

namespace mesh {
namespace {

using base::Code;
using base::Result;
using base::Task;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using namespace std::chrono_literals;

// A connection over which some files have come; another comes never.
class FakeLink final : public rpc::Link {
 public:
  explicit FakeLink(base::Scheduler& scheduler) : scheduler_(scheduler) {}
  std::uint64_t id() const override { return 1; }
  const rpc::Peer& peer() const override { return peer_; }
  Task<Result<rpc::Descriptor>> descriptor(rpc::InodeKey key, base::TimePoint deadline, base::StopToken stop) override {
    for (const rpc::Descriptor& file : came) {
      if (file.key() == key) co_return file;
    }
    base::OneShot<Result<rpc::Descriptor>> never(scheduler_);
    co_return co_await base::await_until<rpc::Descriptor>(scheduler_, never, deadline, std::move(stop));
  }
  std::vector<rpc::Descriptor> came;

 private:
  base::Scheduler& scheduler_;
  rpc::Peer peer_;
};

struct Top final : Element {
  using Gives = Types<Identified>;
};

class DescriptorsTest : public ::testing::Test {
 protected:
  DescriptorsTest() {
    ChainBuilder builder;
    builder.add("top", std::make_shared<Top>())
        .add("begin", std::make_shared<Begin>(Begin::Side::server, scheduler))
        .add("descriptors", std::make_shared<Descriptors>())
        .add("below", below);
    chain.emplace(std::move(builder).build());
    below->on_request = [this](Call& call, NetworkServiceRequest& request) {
      state = call.context().state;
      if (request.mechanism_preferences_size() > 0) {
        *request.mutable_connection()->mutable_mechanism() = request.mechanism_preferences(0);
      }
    };
  }

  static NetworkServiceRequest asking(const std::string& url, const std::string& id = "c1",
                                      std::string_view type = kKernel) {
    auto request = fakes::ChainBench::asking(id);
    auto& preference = *request.add_mechanism_preferences();
    preference.set_type(std::string(type));
    (*preference.mutable_parameters())[parameter::kInodeUrl] = url;
    return request;
  }
  Result<Connection> request(NetworkServiceRequest asking, const std::shared_ptr<rpc::Link>& over) {
    CallContext context(scheduler, scheduler.now() + 15s, {});
    context.link = over;
    auto answer = scheduler.run(chain->request(context, std::move(asking))).value();
    returned = std::move(context.reply_descriptors);
    return answer;
  }

  fakes::ManualScheduler scheduler;
  const rpc::Descriptor netns = rpc::Descriptor::open("/proc/self/ns/net").value();
  std::shared_ptr<FakeLink> link = std::make_shared<FakeLink>(scheduler);
  std::shared_ptr<fakes::Below> below = std::make_shared<fakes::Below>();
  std::shared_ptr<ConnectionState> state;
  std::vector<rpc::Descriptor> returned;
  std::optional<Chain> chain;
};

TEST_F(DescriptorsTest, AFileThatCameIsHeldAndGoesBackWithTheAnswerThatNamesIt) {
  link->came.push_back(netns);
  ASSERT_TRUE(request(asking(netns.url()), link));
  EXPECT_TRUE(state->get<HeldDescriptors>().find(netns.url()));
  ASSERT_THAT(returned, SizeIs(1));
  EXPECT_EQ(returned[0].key(), netns.key());
}

TEST_F(DescriptorsTest, AFileThatDoesNotComeIsNamed) {
  const auto refused = request(asking("inode://4/100"), link);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::deadline_exceeded);
  EXPECT_THAT(refused.error().message(),
              HasSubstr("mechanism KERNEL names inode://4/100, but that file did not come over this connection"));
  EXPECT_THAT(below->requests, IsEmpty());
}

TEST_F(DescriptorsTest, WithoutAConnectionNobodyBroughtIt) {
  const auto refused = request(asking("inode://4/100"), nullptr);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::failed_precondition);
  EXPECT_THAT(refused.error().message(), HasSubstr("inode://4/100, which nobody brought"));
}

TEST_F(DescriptorsTest, ARefreshMayNameWhatItBroughtBefore) {
  link->came.push_back(netns);
  const auto first = request(asking(netns.url()), link);
  ASSERT_TRUE(first);
  EXPECT_TRUE(request(fakes::ChainBench::refreshing(*first), std::make_shared<FakeLink>(scheduler)));
  EXPECT_THAT(returned, SizeIs(1));
}

TEST_F(DescriptorsTest, WhatAnotherConnectionBroughtCannotBeNamed) {
  link->came.push_back(netns);
  ASSERT_TRUE(request(asking(netns.url(), "c1"), link));
  EXPECT_FALSE(request(asking(netns.url(), "c2"), std::make_shared<FakeLink>(scheduler)));
  EXPECT_FALSE(request(asking(netns.url(), "c3"), nullptr));
  EXPECT_THAT(below->requests, SizeIs(1));
}

TEST_F(DescriptorsTest, TheMechanismInUseIsJudgedLikeAPreference) {
  auto refreshing = fakes::ChainBench::asking("c1");
  *refreshing.mutable_connection()->mutable_mechanism() = asking("inode://4/100").mechanism_preferences(0);
  EXPECT_FALSE(request(refreshing, link));
  EXPECT_THAT(below->requests, IsEmpty());
}

TEST_F(DescriptorsTest, APathIsRefusedWithTheRemedy) {
  const auto refused = request(asking("file:///proc/1/ns/net"), link);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::invalid_argument);
  EXPECT_THAT(refused.error().message(), AllOf(HasSubstr("file:///proc/1/ns/net"), HasSubstr("inode://device/inode")));
}

TEST_F(DescriptorsTest, ForAKernelInterfaceOnlyANetworkNamespaceWillDo) {
  for (const char* path : {"/proc/self/ns/uts", "/dev/null", "/proc/self/ns", "/etc"}) {
    const auto file = rpc::Descriptor::open(path).value();
    link->came.push_back(file);
    const auto refused = request(asking(file.url()), link);
    ASSERT_FALSE(refused) << path;
    EXPECT_EQ(refused.error().code(), Code::invalid_argument) << path;
    EXPECT_THAT(refused.error().message(), HasSubstr(file.url()));
  }
  EXPECT_THAT(below->requests, IsEmpty());
}

TEST_F(DescriptorsTest, OtherMechanismsMayBringOtherFiles) {
  const auto file = rpc::Descriptor::open("/dev/null").value();
  link->came.push_back(file);
  EXPECT_TRUE(request(asking(file.url(), "c1", kMemif), link));
}

}  // namespace
}  // namespace mesh
