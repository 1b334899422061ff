// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/registry_descriptors/registry_descriptors.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "fakes/fake_registry.h"
#include "fakes/manual_scheduler.h"

namespace mesh {
namespace {

using base::Code;
using ::testing::HasSubstr;
using namespace std::chrono_literals;

// A connection over which some files have come.
class BroughtLink final : public rpc::Link {
 public:
  explicit BroughtLink(base::Scheduler& scheduler) : scheduler_(scheduler) {}
  std::uint64_t id() const override { return 1; }
  const rpc::Peer& peer() const override { return peer_; }
  base::Task<base::Result<rpc::Descriptor>> descriptor(rpc::InodeKey key, base::TimePoint deadline,
                                                       base::StopToken stop) override {
    ++asked;
    for (const auto& one : brought) {
      if (one.key() == key) co_return one;
    }
    base::OneShot<base::Result<rpc::Descriptor>> never(scheduler_);
    co_return co_await base::await_until<rpc::Descriptor>(scheduler_, never, deadline, std::move(stop));
  }
  std::vector<rpc::Descriptor> brought;
  int asked = 0;

 private:
  base::Scheduler& scheduler_;
  const rpc::Peer peer_;
};

class RegistryDescriptorsTest : public ::testing::Test {
 protected:
  RegistryDescriptorsTest() { element.set_next(below); }
  RegistryCall call(std::shared_ptr<rpc::Link> over) {
    RegistryCall made(scheduler, scheduler.now() + 5s, base::StopToken());
    made.link = std::move(over);
    return made;
  }
  base::Result<NetworkServiceEndpoint> enroll(std::shared_ptr<rpc::Link> over, const std::string& name,
                                              const std::string& url) {
    auto context = call(std::move(over));
    NetworkServiceEndpoint endpoint;
    endpoint.set_name(name);
    endpoint.set_url(url);
    return scheduler.run(element.enroll(context, endpoint)).value();
  }
  void withdraw(const std::string& name) {
    auto context = call(link);
    NetworkServiceEndpoint endpoint;
    endpoint.set_name(name);
    ASSERT_TRUE(scheduler.run(element.withdraw(context, endpoint)).value());
  }
  std::vector<Found<Endpoints>> find(std::shared_ptr<rpc::Link> over) {
    auto context = call(std::move(over));
    return std::move(scheduler.run(find_all<Endpoints>(element, context, Endpoints::Query())).value().value());
  }

  fakes::ManualScheduler scheduler;
  RegistryDescriptors element;
  fakes::FakeRegistry<Endpoints> below;
  std::shared_ptr<BroughtLink> link = std::make_shared<BroughtLink>(scheduler);
  std::shared_ptr<BroughtLink> other = std::make_shared<BroughtLink>(scheduler);
  rpc::Descriptor socket = rpc::Descriptor::simulated({7, 42});
};

TEST_F(RegistryDescriptorsTest, TheSocketThatCameAlongIsLentToFinders) {
  link->brought.push_back(socket);
  ASSERT_TRUE(enroll(link, "a", socket.url()));
  const auto found = find(other);
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].response.network_service_endpoint().url(), "inode://7/42");
  ASSERT_TRUE(found[0].socket);
  EXPECT_EQ(found[0].socket->key(), socket.key());
}

TEST_F(RegistryDescriptorsTest, ASocketThatCameOverAnotherConnectionIsRefused) {
  other->brought.push_back(socket);
  const auto refused = enroll(link, "a", socket.url());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::deadline_exceeded);
  EXPECT_THAT(refused.error().message(), HasSubstr("inode://7/42"));
  EXPECT_TRUE(below.enrolled.empty());
}

TEST_F(RegistryDescriptorsTest, ASocketOfAnotherNameIsRefusedToo) {
  link->brought.push_back(socket);
  ASSERT_TRUE(enroll(link, "a", socket.url()));
  EXPECT_FALSE(enroll(other, "b", socket.url()));
}

TEST_F(RegistryDescriptorsTest, ARefreshOverANewConnectionNeedNotBringItAgain) {
  link->brought.push_back(socket);
  ASSERT_TRUE(enroll(link, "a", socket.url()));
  ASSERT_TRUE(enroll(other, "a", socket.url()));
  EXPECT_EQ(other->asked, 0);
  EXPECT_TRUE(find(other)[0].socket);
}

TEST_F(RegistryDescriptorsTest, UnregisteringLetsGoOfIt) {
  link->brought.push_back(socket);
  ASSERT_TRUE(enroll(link, "a", socket.url()));
  withdraw("a");
  EXPECT_FALSE(enroll(other, "a", socket.url()));
}

TEST_F(RegistryDescriptorsTest, AFailedRegistrationLeavesTheNameAsItWas) {
  link->brought = {socket, rpc::Descriptor::simulated({7, 43})};
  below.fail_next(Code::unavailable, "gone");
  EXPECT_FALSE(enroll(link, "a", socket.url()));
  EXPECT_FALSE(enroll(other, "a", socket.url()));
  ASSERT_TRUE(enroll(link, "a", socket.url()));
  below.fail_next(Code::unavailable, "gone");
  EXPECT_FALSE(enroll(link, "a", "inode://7/43"));
  EXPECT_EQ(find(other)[0].socket->key(), socket.key());
}

TEST_F(RegistryDescriptorsTest, TheProcessItselfBringsItWithTheCall) {
  auto context = call(nullptr);
  context.descriptors.push_back(socket);
  NetworkServiceEndpoint endpoint;
  endpoint.set_name("own");
  endpoint.set_url(socket.url());
  ASSERT_TRUE(scheduler.run(element.enroll(context, endpoint)).value());
  EXPECT_TRUE(find(nullptr)[0].socket);
  EXPECT_FALSE(enroll(nullptr, "other", socket.url()));
}

TEST_F(RegistryDescriptorsTest, APathIsOpenedForOtherProcesses) {
  const auto path = std::filesystem::temp_directory_path() / ("pbt-descriptors-" + std::to_string(::getpid()));
  std::ofstream(path) << "x";
  const std::string url = "unix://" + path.string();
  ASSERT_TRUE(enroll(link, "a", url));
  EXPECT_EQ(link->asked, 0);

  const auto own = find(nullptr);
  EXPECT_EQ(own[0].response.network_service_endpoint().url(), url);
  EXPECT_FALSE(own[0].socket);

  const auto others = find(other);
  ASSERT_TRUE(others[0].socket);
  EXPECT_EQ(others[0].response.network_service_endpoint().url(), others[0].socket->url());
  EXPECT_GE(others[0].socket->fd(), 0);

  std::filesystem::remove(path);
  const auto gone = find(other);
  EXPECT_EQ(gone[0].response.network_service_endpoint().url(), url);
  EXPECT_FALSE(gone[0].socket);
}

TEST_F(RegistryDescriptorsTest, OtherUrlsPassUntouched) {
  ASSERT_TRUE(enroll(link, "a", "tcp://10.0.0.1:5001"));
  const auto found = find(other);
  EXPECT_EQ(found[0].response.network_service_endpoint().url(), "tcp://10.0.0.1:5001");
  EXPECT_FALSE(found[0].socket);
}

}  // namespace
}  // namespace mesh
