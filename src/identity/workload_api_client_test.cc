// SPDX-License-Identifier: Apache-2.0
// The Workload API's client against one that says what the test wants, in virtual time.
#include "identity/workload_api_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "base/log.h"
#include "fakes/loopback_network.h"
#include "fakes/manual_scheduler.h"
#include "identity/testing.h"
#include "workload.pb.h"

namespace identity {
namespace {

using base::Code;
using fakes::ManualScheduler;
using testing::Authority;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::KeyKind;
using testing::Leaf;
using namespace std::chrono_literals;

const std::string kUrl = "unix:///run/identity.sock";

// Serves what it is given and remembers when it was asked.
class FakeApi {
 public:
  FakeApi(ManualScheduler& scheduler, fakes::LoopbackNetwork& network)
      : scheduler_(scheduler), transport_(network.process()) {
    services_["/SpiffeWorkloadAPI/FetchX509SVID"] = rpc::StreamHandler(
        [this](rpc::ServerCall& call, rpc::Bytes, rpc::ServerStream& stream) { return serve(call, stream); });
  }
  void listen() { listener_ = *transport_->listen(kUrl, services_); }
  void vanish() { listener_.reset(); }

  void say(std::string message) {
    for (auto* queue : open_) queue->push(message);
    last_ = std::move(message);
  }
  // Ends streams as soon as they are opened, after what was said last.
  void end_with(base::Result<void> outcome) {
    outcome_ = std::move(outcome);
    for (auto* queue : open_) queue->close();
  }
  void stay() { outcome_.reset(); }

  std::vector<base::TimePoint> asked;
  std::vector<rpc::Metadata> metadata;
  std::size_t open() const { return open_.size(); }

 private:
  base::Task<base::Result<void>> serve(rpc::ServerCall& call, rpc::ServerStream& stream) {
    asked.push_back(scheduler_.now());
    metadata.push_back(call.metadata);
    base::AsyncQueue<std::string> messages(scheduler_);
    auto on_stop = call.stop.on_stop([&messages] { messages.close(); });
    open_.push_back(&messages);
    if (last_) messages.push(*last_);
    if (outcome_) messages.close();
    while (auto message = co_await messages.pop()) {
      const auto written = co_await stream.write(std::move(*message), {});
      if (!written) break;
    }
    std::erase(open_, &messages);
    co_return outcome_.value_or(base::Result<void>{});
  }

  ManualScheduler& scheduler_;
  const std::unique_ptr<rpc::Transport> transport_;
  rpc::Services services_;
  std::unique_ptr<rpc::Listener> listener_;
  std::vector<base::AsyncQueue<std::string>*> open_;
  std::optional<std::string> last_;
  std::optional<base::Result<void>> outcome_;
};

void add(X509SVIDResponse& message, const X509Svid& svid, const Authority& authority) {
  auto* added = message.add_svids();
  added->set_spiffe_id(svid.id.text());
  added->set_x509_svid(testing::chain_der(svid));
  added->set_x509_svid_key(testing::key_pkcs8(svid));
  added->set_bundle(authority.bundle());
}

class WorkloadApiClientTest : public ::testing::Test {
 protected:
  WorkloadApiClientTest() {
    base::log::set_sink([this](base::log::Level level, std::string_view line) {
      if (level >= base::log::Level::warning) warnings_.emplace_back(line);
    });
  }
  ~WorkloadApiClientTest() override {
    EXPECT_TRUE(scheduler_.run(end(client_)));
    base::log::set_sink({});
  }
  static base::Task<bool> end(WorkloadApiClient& client) {
    co_await client.finish();
    co_return true;
  }

  // Good for that long from now.
  X509Svid issue(std::string_view path, base::Duration lifetime = 1h) {
    Leaf leaf;
    leaf.not_before = scheduler_.wall_now() - 10s;
    leaf.not_after = scheduler_.wall_now() + lifetime;
    return a_.issue(path, leaf);
  }
  std::string message(const X509Svid& svid) {
    X509SVIDResponse response;
    add(response, svid, a_);
    return response.SerializeAsString();
  }

  // The first SVID, or why there is none within that time.
  base::Result<void> start(base::Duration patience = 1min, base::StopToken stop = {}) {
    return *scheduler_.run(client_.start(scheduler_.now() + patience, std::move(stop)));
  }
  std::string id() const { return client_.current() ? client_.current()->svid.id.text() : ""; }

  ManualScheduler scheduler_;
  fakes::LoopbackNetwork network_{scheduler_};
  std::unique_ptr<rpc::Transport> transport_ = network_.process();
  FakeApi api_{scheduler_, network_};
  Authority a_{"a.test"};
  Authority b_{"b.test"};
  WorkloadApiClient client_{scheduler_, *transport_, kUrl};
  std::vector<std::string> warnings_;
};

TEST_F(WorkloadApiClientTest, TheFirstOfSeveralSvidsIsUsed) {
  X509SVIDResponse response;
  const X509Svid first = issue("/first");
  add(response, first, a_);
  add(response, issue("/second"), a_);
  response.mutable_svids(0)->set_hint("internal");
  api_.listen();
  api_.say(response.SerializeAsString());
  int changes = 0;
  client_.on_change([&] { ++changes; });
  const auto started = start();
  ASSERT_TRUE(started) << started.error().message();
  EXPECT_EQ(id(), "spiffe://a.test/first");
  EXPECT_EQ(client_.current()->svid.hint, "internal");
  EXPECT_EQ(to_der(client_.current()->svid.leaf()), to_der(first.leaf()));
  EXPECT_EQ(client_.current()->bundles.roots("a.test").size(), 1U);
  EXPECT_TRUE(verify_chain(client_.current()->svid.chain, client_.current()->bundles, scheduler_.wall_now()));
  EXPECT_EQ(client_.rotations(), 0U);
  EXPECT_EQ(changes, 1);
  EXPECT_THAT(warnings_, ElementsAre());
  ASSERT_EQ(api_.metadata.size(), 1U);
  EXPECT_EQ(rpc::single_value(api_.metadata[0], "workload.spiffe.io"), "true");
}

TEST_F(WorkloadApiClientTest, FederatedBundlesComeAlong) {
  X509SVIDResponse response;
  add(response, issue("/us"), a_);
  (*response.mutable_federated_bundles())["spiffe://b.test"] = b_.bundle();
  (*response.mutable_federated_bundles())["c.test"] = b_.bundle() + a_.bundle();
  api_.listen();
  api_.say(response.SerializeAsString());
  ASSERT_TRUE(start());
  EXPECT_EQ(client_.current()->bundles.roots("b.test").size(), 1U);
  EXPECT_EQ(client_.current()->bundles.roots("c.test").size(), 2U);
  EXPECT_EQ(client_.current()->bundles.all().size(), 3U);
}

TEST_F(WorkloadApiClientTest, NobodyFederatesWithOurOwnDomain) {
  X509SVIDResponse response;
  add(response, issue("/us"), a_);
  (*response.mutable_federated_bundles())["spiffe://a.test"] = b_.bundle();
  api_.listen();
  api_.say(response.SerializeAsString());
  ASSERT_TRUE(start());
  EXPECT_EQ(to_der(*client_.current()->bundles.roots("a.test").front()), a_.bundle());
}

TEST_F(WorkloadApiClientTest, RotatesAndTellsEachTime) {
  api_.listen();
  api_.say(message(issue("/us")));
  ASSERT_TRUE(start());
  int changes = 0;
  client_.on_change([&] { ++changes; });
  const auto old = client_.current();
  for (int i = 1; i <= 50; ++i) {
    api_.say(message(issue("/us")));
    scheduler_.run_ready();
    EXPECT_EQ(changes, i);
    EXPECT_EQ(client_.rotations(), static_cast<std::uint64_t>(i));
  }
  EXPECT_NE(to_der(old->svid.leaf()), to_der(client_.current()->svid.leaf()));
  EXPECT_EQ(old->svid.id.text(), "spiffe://a.test/us") << "whoever holds an old one can go on";
  EXPECT_EQ(api_.asked.size(), 1U);
}

TEST_F(WorkloadApiClientTest, ANewBundleIsARotation) {
  const X509Svid svid = issue("/us");
  api_.listen();
  api_.say(message(svid));
  ASSERT_TRUE(start());
  X509SVIDResponse response;
  add(response, svid, a_);
  response.mutable_svids(0)->set_bundle(a_.bundle() + b_.bundle());
  api_.say(response.SerializeAsString());
  scheduler_.run_ready();
  EXPECT_EQ(client_.rotations(), 1U);
  EXPECT_EQ(client_.current()->bundles.roots("a.test").size(), 2U);
}

TEST_F(WorkloadApiClientTest, KeepsTryingWithBackoffUntilTheApiIsThere) {
  const auto begun = scheduler_.now();
  const auto late = start(1s);
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code(), Code::deadline_exceeded);
  EXPECT_THAT(late.error().message(), HasSubstr("no SVID has come from the Workload API at " + kUrl));
  api_.listen();
  api_.end_with(base::fail(Code::unavailable, "try later"));
  scheduler_.run_for(60s);
  std::vector<double> seconds;
  for (const auto& when : api_.asked) seconds.push_back(std::chrono::duration<double>(when - begun).count());
  // 0, 0.1, 0.3 and 0.7 found nobody.
  ASSERT_GE(seconds.size(), 7U);
  seconds.resize(7);
  EXPECT_THAT(seconds, ElementsAre(1.5, 3.1, 6.3, 12.7, 22.7, 32.7, 42.7));
  api_.stay();
  api_.say(message(issue("/us")));
  scheduler_.run_for(10s);
  EXPECT_EQ(id(), "spiffe://a.test/us");
}

TEST_F(WorkloadApiClientTest, StopEndsTheStart) {
  base::StopSource stop;
  scheduler_.post_at(scheduler_.now() + 3s, [&] { stop.request_stop(); });
  const auto started = start(1min, stop.token());
  ASSERT_FALSE(started);
  EXPECT_EQ(started.error().code(), Code::cancelled);
}

TEST_F(WorkloadApiClientTest, SilenceIsWaitedFor) {
  api_.listen();
  const auto started = start(5s);
  ASSERT_FALSE(started);
  EXPECT_THAT(started.error().message(), HasSubstr("it has not answered"));
  EXPECT_EQ(api_.asked.size(), 1U);
  api_.say(message(issue("/us")));
  scheduler_.run_ready();
  EXPECT_EQ(id(), "spiffe://a.test/us");
}

TEST_F(WorkloadApiClientTest, RegistrationMayComeLater) {
  api_.listen();
  api_.end_with(base::fail(Code::permission_denied, "no identity issued"));
  const auto started = start(30s);
  ASSERT_FALSE(started);
  EXPECT_EQ(started.error().code(), Code::deadline_exceeded);
  EXPECT_THAT(started.error().message(), HasSubstr("has to be registered: no identity issued"));
  EXPECT_EQ(warnings_.size(), 1U) << "however often it is asked";
  EXPECT_GT(api_.asked.size(), 5U);
  api_.stay();
  api_.say(message(issue("/us")));
  scheduler_.run_for(10s);
  EXPECT_EQ(id(), "spiffe://a.test/us");
}

TEST_F(WorkloadApiClientTest, OldIdentityStaysWhileTheApiIsGone) {
  api_.listen();
  api_.say(message(issue("/us", 1min)));
  ASSERT_TRUE(start());
  const auto old = client_.current();
  api_.vanish();
  scheduler_.run_for(5min);  // it expires, and is still all there is
  EXPECT_EQ(client_.current(), old);
  api_.listen();
  api_.say(message(issue("/us")));
  scheduler_.run_for(10s);
  EXPECT_NE(client_.current(), old);
  EXPECT_EQ(client_.rotations(), 1U);
}

TEST_F(WorkloadApiClientTest, AStreamThatEndsAgainAndAgainIsNoRotationAndNoFlood) {
  api_.listen();
  api_.say(message(issue("/us")));
  api_.end_with({});
  ASSERT_TRUE(start());
  int changes = 0;
  client_.on_change([&] { ++changes; });
  scheduler_.run_for(5min);
  EXPECT_EQ(changes, 0);
  EXPECT_EQ(client_.rotations(), 0U);
  EXPECT_LT(api_.asked.size(), 50U);
  EXPECT_THAT(warnings_, ElementsAre(HasSubstr("it ended the stream")));
}

TEST_F(WorkloadApiClientTest, AStreamThatLastedIsReopenedAtOnceAndLoggedAnew) {
  api_.listen();
  api_.say(message(issue("/us")));
  ASSERT_TRUE(start());
  for (int i = 0; i < 5; ++i) {
    scheduler_.run_for(1min);
    ASSERT_EQ(api_.open(), 1U);
    const auto ended = scheduler_.now();
    api_.end_with({});
    api_.stay();
    scheduler_.run_for(1s);
    EXPECT_EQ(api_.asked.back() - ended, 100ms);
  }
  EXPECT_EQ(warnings_.size(), 5U);
}

TEST_F(WorkloadApiClientTest, FinishEndsTheStream) {
  api_.listen();
  api_.say(message(issue("/us")));
  ASSERT_TRUE(start());
  ASSERT_EQ(api_.open(), 1U);
  ASSERT_TRUE(scheduler_.run(end(client_)));
  scheduler_.run_ready();
  EXPECT_EQ(api_.open(), 0U);
  scheduler_.run_for(1min);
  EXPECT_EQ(api_.asked.size(), 1U);
  EXPECT_EQ(id(), "spiffe://a.test/us");
}

// Messages that are no good: the old identity stays, the stream too, one line is logged.
class BadMessageTest : public WorkloadApiClientTest {
 protected:
  void expect_kept(const std::string& bad, const std::string& why) {
    api_.listen();
    api_.say(message(issue("/us")));
    ASSERT_TRUE(start());
    const auto old = client_.current();
    for (int i = 0; i < 10; ++i) {
      api_.say(bad);
      scheduler_.run_ready();
    }
    EXPECT_EQ(client_.current(), old);
    EXPECT_THAT(warnings_, ElementsAre(HasSubstr(why)));
    EXPECT_EQ(api_.asked.size(), 1U);
    api_.say(message(issue("/us")));
    scheduler_.run_ready();
    EXPECT_NE(client_.current(), old) << "a good one is taken again";
  }
  // A good message, spoilt.
  std::string spoilt(const std::function<void(X509SVID&)>& spoil) {
    X509SVIDResponse response;
    add(response, issue("/us"), a_);
    spoil(*response.mutable_svids(0));
    return response.SerializeAsString();
  }
};

TEST_F(BadMessageTest, Garbage) { expect_kept("\xff\xff\xff garbage", "are not a X509SVIDResponse"); }
TEST_F(BadMessageTest, NoSvid) { expect_kept("", "the message has no SVID"); }
TEST_F(BadMessageTest, BrokenId) {
  expect_kept(spoilt([](X509SVID& svid) { svid.set_spiffe_id("https://a.test/us"); }), "https://a.test/us");
}
TEST_F(BadMessageTest, SomebodyElsesId) {
  expect_kept(spoilt([](X509SVID& svid) { svid.set_spiffe_id("spiffe://a.test/others"); }),
              "the certificate that came for spiffe://a.test/others is spiffe://a.test/us's");
}
TEST_F(BadMessageTest, BrokenCertificate) {
  expect_kept(spoilt([](X509SVID& svid) { svid.mutable_x509_svid()->resize(100); }), "is not X.509 in DER");
}
TEST_F(BadMessageTest, NoCertificate) {
  expect_kept(spoilt([](X509SVID& svid) { svid.clear_x509_svid(); }), "there is no certificate");
}
TEST_F(BadMessageTest, AnotherKey) {
  const auto other = testing::key_pkcs8(issue("/other"));
  expect_kept(spoilt([&](X509SVID& svid) { svid.set_x509_svid_key(other); }),
              "the private key is not the certificate's");
}
TEST_F(BadMessageTest, BrokenKey) {
  expect_kept(spoilt([](X509SVID& svid) { svid.set_x509_svid_key("key"); }), "is not PKCS#8");
}
TEST_F(BadMessageTest, RsaKey) {
  Leaf rsa;
  rsa.key = KeyKind::rsa2048;
  rsa.not_after = scheduler_.wall_now() + 1h;
  expect_kept(message(a_.issue("/us", rsa)), "path tokens need ECDSA on P-256");
}
TEST_F(BadMessageTest, Expired) { expect_kept(message(issue("/us", -1s)), "the SVID has expired"); }
TEST_F(BadMessageTest, NoBundle) {
  expect_kept(spoilt([](X509SVID& svid) { svid.clear_bundle(); }), "bundle of a.test");
}
TEST_F(BadMessageTest, ABrokenFederatedBundleIsTheOtherDomainsTrouble) {
  X509SVIDResponse response;
  add(response, issue("/us"), a_);
  (*response.mutable_federated_bundles())["spiffe://b.test"] = "bundle";
  api_.listen();
  api_.say(response.SerializeAsString());
  ASSERT_TRUE(start());
  EXPECT_TRUE(client_.current()->bundles.roots("b.test").empty());
  EXPECT_EQ(client_.current()->bundles.roots("a.test").size(), 1U);
  EXPECT_THAT(warnings_, ElementsAre(HasSubstr("federated bundle: bundle of b.test")));
}
TEST_F(BadMessageTest, BadFromTheFirst) {
  api_.listen();
  api_.say(spoilt([](X509SVID& svid) { svid.set_x509_svid_key("key"); }));
  const auto started = start(5s);
  ASSERT_FALSE(started);
  EXPECT_THAT(started.error().message(), HasSubstr("is not PKCS#8"));
  EXPECT_EQ(client_.current(), nullptr);
}

}  // namespace
}  // namespace identity
