// SPDX-License-Identifier: Apache-2.0
#include "apps/registry_role.h"

#include <gmock/gmock.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "health.pb.h"
#include "rpc/http2/transport.h"
#include "rpc/typed.h"

namespace apps {
namespace {

using mesh::Endpoints;
using mesh::NetworkServiceEndpoint;
using ::testing::Contains;
using ::testing::HasSubstr;
using namespace std::chrono_literals;

template <typename T>
base::Task<void> keep_result(base::Task<T> task, std::shared_ptr<std::optional<T>> into) {
  auto value = co_await task;
  into->emplace(std::move(value));
}

template <typename T>
std::optional<T> run(base::EventLoop& loop, base::Task<T> task) {
  auto result = std::make_shared<std::optional<T>>();
  base::spawn_detached(keep_result<T>(std::move(task), result));
  const auto deadline = loop.now() + 20s;
  while (!*result && loop.now() < deadline) loop.run_for(1ms);
  return std::move(*result);
}

// A registry in a process of its own, as `patchbay registry` runs it.
class RegistryProcessTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = std::filesystem::temp_directory_path() / "pbt-registry-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder = pattern;
    url = "unix://" + (folder / "registry.sock").string();
    environment = {
        {"NSM_LISTEN_ON", url}, {"PATCHBAY_REGISTRY_FILE", folder / "registry.sqlite"}, {"PATCHBAY_INSECURE", "true"}};
  }
  void TearDown() override {
    if (child > 0) {
      ::kill(child, SIGKILL);
      ::waitpid(child, nullptr, 0);
    }
    std::filesystem::remove_all(folder);
  }

  void start() {
    child = ::fork();
    if (child == 0) ::_exit(run_registry(lookup()));
  }
  base::Environment lookup() {
    return [values = environment](const std::string& name) -> std::optional<std::string> {
      const auto found = values.find(name);
      return found == values.end() ? std::nullopt : std::optional(found->second);
    };
  }
  // Sends the signal (0: none) and waits; its exit code, or minus the signal that ended it.
  int stop(int signal) {
    if (signal != 0) ::kill(child, signal);
    int status = 0;
    ::waitpid(std::exchange(child, 0), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

  mesh::RegistryRemote<Endpoints>& remote() {
    if (!remote_) remote_.emplace(transport, url);
    return *remote_;
  }

  // Registers, again until the process listens.
  base::Result<NetworkServiceEndpoint> enroll(const std::string& name) {
    NetworkServiceEndpoint endpoint;
    endpoint.set_name(name);
    endpoint.set_url("tcp://10.0.0.1:5001");
    endpoint.add_network_service_names("icmp");
    const auto deadline = loop.now() + 20s;
    for (;;) {
      mesh::RegistryCall call(loop, loop.now() + 5s, base::StopToken());
      auto stored = run(loop, remote().enroll(call, endpoint)).value();
      if (stored || stored.error().code() != base::Code::unavailable || loop.now() > deadline) return stored;
      loop.run_for(5ms);
    }
  }
  std::vector<std::string> names() {
    mesh::RegistryCall call(loop, loop.now() + 5s, base::StopToken());
    const auto all = run(loop, mesh::find_all<Endpoints>(remote(), call, Endpoints::Query())).value().value();
    std::vector<std::string> result;
    for (const auto& found : all) result.push_back(found.response.network_service_endpoint().name());
    return result;
  }

  std::filesystem::path folder;
  std::string url;
  std::map<std::string, std::string> environment;
  pid_t child = 0;
  base::EventLoop loop;
  mesh::PlainTokens tokens{loop, "spiffe://test/nse", 10min};
  mesh::TokenCredentials credentials{tokens};
  rpc::http2::Plaintext security;
  rpc::http2::Transport transport{loop, credentials, security};
  std::optional<mesh::RegistryRemote<Endpoints>> remote_;
};

TEST_F(RegistryProcessTest, ServesRegistersAndEndsOnASignalWithZero) {
  start();
  const auto stored = enroll("nse-1");
  ASSERT_TRUE(stored) << stored.error().message();
  EXPECT_TRUE(stored->has_expiration_time());
  EXPECT_TRUE(stored->has_initial_registration_time());
  EXPECT_THAT(stored->path_ids(), Contains("spiffe://test/nse"));
  EXPECT_THAT(names(), Contains("nse-1"));
  EXPECT_EQ(stop(SIGTERM), 0);
}

TEST_F(RegistryProcessTest, RemembersAfterAKill) {
  start();
  ASSERT_TRUE(enroll("nse-1"));
  ASSERT_TRUE(enroll("nse-2"));
  EXPECT_EQ(stop(SIGKILL), -SIGKILL);
  start();
  ASSERT_TRUE(enroll("nse-3"));
  EXPECT_THAT(names(), ::testing::ElementsAre("nse-1", "nse-2", "nse-3"));
  EXPECT_EQ(stop(SIGINT), 0);
}

TEST_F(RegistryProcessTest, ForgetsAfterAKillWhenKeptInMemory) {
  environment["PATCHBAY_REGISTRY_STORE"] = "memory";
  start();
  ASSERT_TRUE(enroll("nse-1"));
  EXPECT_EQ(stop(SIGKILL), -SIGKILL);
  start();
  ASSERT_TRUE(enroll("nse-2"));
  EXPECT_THAT(names(), ::testing::ElementsAre("nse-2"));
  EXPECT_FALSE(std::filesystem::exists(folder / "registry.sqlite"));
}

TEST_F(RegistryProcessTest, ARunningWatchDoesNotHoldTheEndBack) {
  start();
  ASSERT_TRUE(enroll("nse-1"));
  mesh::RegistryCall call(loop, base::kNoDeadline, base::StopToken());
  Endpoints::Query query;
  query.set_watch(true);
  auto watch = run(loop, remote().find(call, query)).value().value();
  ASSERT_TRUE(run(loop, watch->next()).value());
  EXPECT_EQ(stop(SIGTERM), 0);
  const auto broken = run(loop, watch->next());
  ASSERT_TRUE(broken);
  EXPECT_FALSE(*broken);
}

TEST_F(RegistryProcessTest, SaysItIsHealthy) {
  start();
  ASSERT_TRUE(enroll("nse-1"));
  for (const char* name : {"", "registry.NetworkServiceRegistry", "registry.NetworkServiceEndpointRegistry"}) {
    grpc::health::v1::HealthCheckRequest request;
    request.set_service(name);
    auto channel = transport.channel(url).value();
    const auto reply = run(loop, rpc::unary<grpc::health::v1::HealthCheckResponse>(channel, mesh::method::kHealthCheck,
                                                                                   request, rpc::CallOptions()))
                           .value();
    ASSERT_TRUE(reply) << reply.error().message();
    EXPECT_EQ(reply->message.status(), grpc::health::v1::HealthCheckResponse::SERVING);
  }
}

TEST_F(RegistryProcessTest, ANameOfAnotherDomainNeedsAProxy) {
  start();
  const auto refused = enroll("nse@other.domain");
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("NSM_PROXY_REGISTRY_URL"));
}

TEST_F(RegistryProcessTest, ADamagedFileEndsItWithOne) {
  std::ofstream(folder / "registry.sqlite") << std::string(4096, 'x');
  start();
  EXPECT_EQ(stop(0), 1);
}

TEST_F(RegistryProcessTest, AnUnreadableOptionEndsItWithOne) {
  environment["NSM_MAX_TOKEN_LIFETIME"] = "10";
  start();
  EXPECT_EQ(stop(0), 1);
}

TEST_F(RegistryProcessTest, AnAddressThatCannotBeListenedOnEndsItWithOne) {
  environment["NSM_LISTEN_ON"] = "tcp://192.0.2.1:5002";
  start();
  EXPECT_EQ(stop(0), 1);
}

}  // namespace
}  // namespace apps
