// SPDX-License-Identifier: Apache-2.0
// The Workload API's client against a server that is not ours, tests/interop/workload-server, whose program the
// environment names in PATCHBAY_WORKLOAD_SERVER.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include <array>
#include <cstdlib>

#include "base/log.h"
#include "identity/workload_api_client.h"
#include "rpc/http2/test_world.h"
#include "rpc/http2/transport.h"

namespace identity {
namespace {

using base::Code;
using rpc::testing::run_until;
using rpc::testing::wait;
using ::testing::Contains;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using namespace std::chrono_literals;

class WorkloadInteropTest : public ::testing::Test {
 protected:
  void SetUp() override {
    program_ = std::getenv("PATCHBAY_WORKLOAD_SERVER");
    ASSERT_NE(program_, nullptr) << "PATCHBAY_WORKLOAD_SERVER has to name the program built from "
                                    "tests/interop/workload-server with 'go build'";
    base::log::set_sink([this](base::log::Level level, std::string_view line) {
      if (level >= base::log::Level::warning) warnings_.emplace_back(line);
    });
    client_.on_change([this] {
      ids_.push_back(client_.current()->svid.id.text());
      const auto now = loop_.wall_now();
      const auto verified = verify_chain(client_.current()->svid.chain, client_.current()->bundles, now);
      EXPECT_TRUE(verified) << verified.error().message();
    });
  }
  void TearDown() override {
    wait(loop_, end(client_));
    stop_server();
    base::log::set_sink({});
  }
  static base::Task<bool> end(WorkloadApiClient& client) {
    co_await client.finish();
    co_return true;
  }

  void serve(const std::string& scenario) {
    std::array<const char*, 4> arguments{program_, socket_.c_str(), scenario.c_str(), nullptr};
    ASSERT_EQ(::posix_spawn(&server_, program_, nullptr, nullptr, const_cast<char* const*>(arguments.data()), environ),
              0)
        << "cannot start " << program_;
  }
  void stop_server() {
    if (server_ <= 0) return;
    ::kill(server_, SIGKILL);
    ::waitpid(std::exchange(server_, -1), nullptr, 0);
  }
  base::Result<void> start(base::Duration patience = 10s) {
    return wait(loop_, client_.start(loop_.now() + patience, base::StopToken()));
  }
  bool eventually(const std::function<bool()>& condition) {
    run_until(loop_, condition, 15s);
    return condition();
  }

  const char* program_ = nullptr;
  rpc::testing::ScratchDirectory directory_;
  const std::string socket_ = directory_.path() + "/api.sock";
  pid_t server_ = -1;
  base::EventLoop loop_;
  rpc::http2::Transport transport_{loop_};
  WorkloadApiClient client_{loop_, transport_, "unix://" + socket_};
  std::vector<std::string> ids_;
  std::vector<std::string> warnings_;
};

TEST_F(WorkloadInteropTest, TheFirstOfSeveralSvidsIsUsed) {
  serve("several");
  const auto started = start();
  ASSERT_TRUE(started) << started.error().message();
  EXPECT_THAT(ids_, ElementsAre("spiffe://go.test/first"));
  EXPECT_EQ(client_.current()->svid.hint, "internal");
}

TEST_F(WorkloadInteropTest, Intermediate) {
  serve("intermediate");
  ASSERT_TRUE(start());
  EXPECT_EQ(client_.current()->svid.chain.size(), 2U);
}

TEST_F(WorkloadInteropTest, FederatedBundles) {
  serve("federated");
  ASSERT_TRUE(start());
  const Bundles& bundles = client_.current()->bundles;
  EXPECT_EQ(bundles.roots("go.test").size(), 1U);
  EXPECT_EQ(bundles.roots("one.test").size(), 1U);
  EXPECT_EQ(bundles.roots("two.test").size(), 2U);
  EXPECT_EQ(bundles.all().size(), 3U);
}

TEST_F(WorkloadInteropTest, Rotation) {
  serve("rotation");
  ASSERT_TRUE(start());
  const auto first = client_.current();
  ASSERT_TRUE(eventually([&] { return client_.rotations() >= 10; }));
  EXPECT_NE(to_der(first->svid.leaf()), to_der(client_.current()->svid.leaf()));
  EXPECT_THAT(ids_, Each("spiffe://go.test/us"));
}

TEST_F(WorkloadInteropTest, RegistrationMayComeLater) {
  serve("registered-late");
  ASSERT_TRUE(start());
  EXPECT_THAT(warnings_, Contains(HasSubstr("has to be registered: no identity issued")).Times(1));
}

TEST_F(WorkloadInteropTest, PermissionDenied) {
  serve("denied");
  const auto started = start(3s);
  ASSERT_FALSE(started);
  EXPECT_EQ(started.error().code(), Code::deadline_exceeded);
  EXPECT_THAT(started.error().message(), HasSubstr("has to be registered: no identity issued"));
  EXPECT_THAT(ids_, ElementsAre());
}

TEST_F(WorkloadInteropTest, Silence) {
  serve("silence");
  const auto started = start(1s);
  ASSERT_FALSE(started);
  EXPECT_EQ(started.error().code(), Code::deadline_exceeded);
  EXPECT_EQ(client_.current(), nullptr);
}

TEST_F(WorkloadInteropTest, Garbage) {
  serve("garbage");
  ASSERT_TRUE(start());
  ASSERT_TRUE(eventually([&] { return client_.rotations() >= 1; }));
  EXPECT_THAT(ids_, ElementsAre("spiffe://go.test/before", "spiffe://go.test/after"));
  for (const std::string why : {"the message has no SVID", "the private key is not the certificate's",
                                "certificate 1 of 100 bytes is not X.509", "the private key is not PKCS#8",
                                "bundle of go.test", "path tokens need ECDSA on P-256"}) {
    EXPECT_THAT(warnings_, Contains(HasSubstr(why)).Times(1));
  }
}

TEST_F(WorkloadInteropTest, StreamThatEndsAgainAndAgain) {
  serve("ends");
  ASSERT_TRUE(start());
  ASSERT_TRUE(eventually([&] { return client_.rotations() >= 3; }));
  EXPECT_THAT(ids_, Contains("spiffe://go.test/us/4"));
  EXPECT_THAT(warnings_, Contains(HasSubstr("it ended the stream")).Times(1));
}

TEST_F(WorkloadInteropTest, ServerDiesAndComesBack) {
  serve("ends");
  ASSERT_TRUE(start());
  stop_server();
  std::filesystem::remove(socket_);
  const auto old = client_.current();
  loop_.run_for(300ms);
  EXPECT_EQ(client_.current(), old);
  serve("several");
  ASSERT_TRUE(eventually([&] { return client_.current()->svid.id.text() == "spiffe://go.test/first"; }));
}

}  // namespace
}  // namespace identity
