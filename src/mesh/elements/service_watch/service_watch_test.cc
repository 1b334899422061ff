// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/service_watch/service_watch.h"

#include <gmock/gmock.h>

#include "fakes/chain_bench.h"
#include "fakes/fake_registry.h"

namespace mesh {
namespace {

using base::Code;
using base::Result;
using base::Task;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using namespace std::chrono_literals;

// A registry of services that tells its watchers what the test says.
class WatchedServices final : public ServiceRegistry {
 public:
  using Events = base::AsyncQueue<Result<Found<Services>>>;

  explicit WatchedServices(base::Scheduler& scheduler) : scheduler_(scheduler) {}

  Task<Result<NetworkService>> enroll(RegistryCall&, NetworkService record) override { co_return record; }
  Task<Result<void>> withdraw(RegistryCall&, NetworkService) override { co_return Result<void>(); }
  Task<Result<Stream>> find(RegistryCall& call, registry::NetworkServiceQuery query) override {
    queries.push_back(query);
    if (down) co_return base::fail(Code::unavailable, "the registry is down");
    watcher = std::make_shared<Events>(scheduler_);
    if (known.has_network_service()) watcher->push(Found<Services>(known));
    co_return std::make_unique<Watching>(watcher, call.stop);
  }

  void tell(const NetworkService& service, bool deleted = false) {
    *known.mutable_network_service() = service;
    known.set_deleted(deleted);
    if (watcher) watcher->push(Found<Services>(known));
  }

  std::vector<registry::NetworkServiceQuery> queries;
  std::shared_ptr<Events> watcher;  // the last one's; null once its stream has ended
  registry::NetworkServiceResponse known;
  bool down = false;

 private:
  struct Watching final : FindStream<Services> {
    Watching(std::shared_ptr<Events> e, const base::StopToken& stop)
        : events(std::move(e)), ended(stop.on_stop([this] { events->close(); })) {}
    Task<Result<std::optional<Found<Services>>>> next() override {
      auto event = co_await events->pop();
      if (!event) co_return base::fail(Code::cancelled, "the call was cancelled");
      if (!*event) co_return std::unexpected(event->error());
      co_return std::move(**event);
    }
    std::shared_ptr<Events> events;
    base::StopRegistration ended;
  };

  base::Scheduler& scheduler_;
};

struct Top final : Element {
  using Gives = Types<Identified>;
};

class ServiceWatchTest : public ::testing::Test {
 protected:
  ServiceWatchTest() {
    ChainBuilder builder;
    builder.add("top", std::make_shared<Top>()).add("begin", begin).add("watch", watch).add("below", below);
    chain.emplace(std::move(builder).build());
    below->on_request = [](Call&, NetworkServiceRequest& request) {
      request.mutable_connection()->set_network_service_endpoint_name("nse-1");
    };
    auto& endpoint = endpoints.records["nse-1"];
    endpoint.set_name("nse-1");
    endpoint.add_network_service_names("vpn");
    auto& labels = *(*endpoint.mutable_network_service_labels())["vpn"].mutable_labels();
    labels["tier"] = "gold";
  }
  ~ServiceWatchTest() override { scheduler.run(finish()); }

  Task<bool> finish() {
    co_await watch->finish();
    co_await begin->finish();
    co_return true;
  }
  bool request(const std::string& id, const std::string& app = "web") {
    auto asking = fakes::ChainBench::asking(id, "vpn");
    (*asking.mutable_connection()->mutable_labels())["app"] = app;
    CallContext context(scheduler, base::kNoDeadline, {});
    const bool answered = scheduler.run(chain->request(context, std::move(asking))).value().has_value();
    scheduler.run_ready();
    return answered;
  }
  void close(const std::string& id) {
    CallContext context(scheduler, base::kNoDeadline, {});
    ASSERT_TRUE(scheduler.run(chain->close(context, fakes::ChainBench::asking(id).connection())).value());
    scheduler.run_ready();
  }
  // A service that leads clients of that app to endpoints of that tier, and no others anywhere.
  static NetworkService leads(const std::string& app, const std::string& tier) {
    NetworkService service;
    service.set_name("vpn");
    auto& match = *service.add_matches();
    (*match.mutable_source_selector())["app"] = app;
    (*match.add_routes()->mutable_destination_selector())["tier"] = tier;
    return service;
  }
  std::vector<std::string> connected() const {
    std::vector<std::string> ids;
    for (const Connection& connection : begin->connections()) ids.push_back(connection.id());
    return ids;
  }

  fakes::ManualScheduler scheduler;
  WatchedServices services{scheduler};
  fakes::FakeRegistry<Endpoints> endpoints;
  std::shared_ptr<Begin> begin = std::make_shared<Begin>(Begin::Side::server, scheduler);
  std::shared_ptr<ServiceWatch> watch = std::make_shared<ServiceWatch>(scheduler, services, endpoints);
  std::shared_ptr<fakes::Below> below = std::make_shared<fakes::Below>();
  std::optional<Chain> chain;
};

TEST_F(ServiceWatchTest, ClosesWhatTheServiceNoLongerAllows) {
  ASSERT_TRUE(request("c1"));
  services.tell(leads("web", "gold"));
  scheduler.run_ready();
  EXPECT_THAT(connected(), SizeIs(1));
  services.tell(leads("web", "silver"));
  scheduler.run_ready();
  EXPECT_THAT(connected(), IsEmpty());
  EXPECT_THAT(below->closes, SizeIs(1));
}

TEST_F(ServiceWatchTest, JudgesEachClientByItsOwnLabels) {
  ASSERT_TRUE(request("c1", "web"));
  ASSERT_TRUE(request("c2", "mail"));
  services.tell(leads("mail", "gold"));
  scheduler.run_ready();
  EXPECT_THAT(connected(), ::testing::ElementsAre("c2"));
}

TEST_F(ServiceWatchTest, AnEndpointThatIsNotRegisteredNowIsNotJudged) {
  ASSERT_TRUE(request("c1"));
  endpoints.records.clear();
  services.tell(leads("web", "silver"));
  scheduler.run_ready();
  EXPECT_THAT(connected(), SizeIs(1));
}

TEST_F(ServiceWatchTest, ADeletedServiceAndOnesOfOtherNamesCloseNothing) {
  ASSERT_TRUE(request("c1"));
  services.tell(leads("web", "silver"), true);
  auto other = leads("web", "silver");
  other.set_name("vpn-2");
  services.tell(other);
  scheduler.run_ready();
  EXPECT_THAT(connected(), SizeIs(1));
}

TEST_F(ServiceWatchTest, OneWatchServesAllAndEndsWithTheLast) {
  ASSERT_TRUE(request("c1"));
  ASSERT_TRUE(request("c2"));
  ASSERT_TRUE(request("c1"));
  ASSERT_THAT(services.queries, SizeIs(1));
  EXPECT_TRUE(services.queries[0].watch());
  EXPECT_EQ(services.queries[0].network_service().name(), "vpn");
  close("c1");
  EXPECT_FALSE(services.watcher->closed());
  close("c2");
  EXPECT_TRUE(services.watcher->closed());
  scheduler.run_for(1min);
  EXPECT_THAT(services.queries, SizeIs(1));
  ASSERT_TRUE(request("c1"));
  EXPECT_THAT(services.queries, SizeIs(2));
}

TEST_F(ServiceWatchTest, ARequestThatFailsWatchesNothing) {
  below->fail_next(Code::unavailable, "no forwarder");
  EXPECT_FALSE(request("c1"));
  EXPECT_THAT(services.queries, IsEmpty());
}

TEST_F(ServiceWatchTest, AChangeDuringARegistrysAbsenceIsSeenAfterIt) {
  ASSERT_TRUE(request("c1"));
  services.down = true;
  services.watcher->push(base::fail(Code::unavailable, "the connection broke"));
  services.watcher = nullptr;
  scheduler.run_for(1min);
  EXPECT_GT(services.queries.size(), 100U);
  EXPECT_LT(services.queries.size(), 1000U);
  services.tell(leads("web", "silver"));
  services.down = false;
  scheduler.run_for(1s);
  EXPECT_THAT(connected(), IsEmpty());
}

TEST_F(ServiceWatchTest, AChangeWhoseEndpointCouldNotBeLookedUpIsJudgedLater) {
  ASSERT_TRUE(request("c1"));
  endpoints.fail_next(Code::unavailable, "the registry is busy");
  services.tell(leads("web", "silver"));
  scheduler.run_ready();
  EXPECT_THAT(connected(), SizeIs(1));
  scheduler.run_for(1s);
  EXPECT_THAT(connected(), IsEmpty());
}

TEST_F(ServiceWatchTest, FinishEndsTheWatch) {
  ASSERT_TRUE(request("c1"));
  EXPECT_TRUE(scheduler.run(finish(), 1ms));
}

}  // namespace
}  // namespace mesh
