// SPDX-License-Identifier: Apache-2.0
// The mesh keeps its promises under faults; and the invariants notice when an element does not.
#include "sim/mesh_world.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "mesh/chains/serving.h"
#include "mesh/elements/descriptors/descriptors.h"
#include "mesh/elements/kernel_endpoint/kernel_endpoint.h"
#include "mesh/elements/mechanisms/mechanisms.h"
#include "mesh/elements/path/path.h"
#include "mesh/elements/path_token/path_token.h"
#include "mesh/elements/timeout/timeout.h"
#include "mesh/elements/trim_path/trim_path.h"
#include "sim/run.h"

namespace sim {
namespace {

using base::Result;
using base::Task;
using ::testing::HasSubstr;

TEST(Mesh, ConnectsWhatItCanWithoutFaults) {
  MeshOptions options;
  options.nodes = 3;
  options.faults = false;
  std::size_t wires = 0;
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    const auto outcome = run_seed(seed, options);
    EXPECT_FALSE(outcome.violation) << *outcome.violation << "\n" << replay_command(seed, options);
    wires += outcome.wires;
  }
  EXPECT_GT(wires, 20U);
}

class UnderFaults : public ::testing::TestWithParam<std::uint64_t> {};

TEST_P(UnderFaults, KeepsItsPromises) {
  MeshOptions options;
  options.nodes = 4;
  options.steps = 40;
  const auto outcome = run_seed(GetParam(), options);
  EXPECT_FALSE(outcome.violation) << *outcome.violation << "\n" << replay_command(GetParam(), options);
}

TEST_P(UnderFaults, RunsTheSameTwice) {
  MeshOptions options;
  options.nodes = 4;
  options.steps = 40;
  EXPECT_EQ(run_seed(GetParam(), options).hash, run_seed(GetParam(), options).hash);
}

#if defined(__SANITIZE_ADDRESS__)
constexpr std::uint64_t kSeeds = 3;  // each takes ten times as long
#else
constexpr std::uint64_t kSeeds = 20;
#endif
INSTANTIATE_TEST_SUITE_P(Seeds, UnderFaults, ::testing::Range<std::uint64_t>(0, kSeeds));

// An IPAM that forgets to mark what it gives: everybody gets the same pair.
class ForgetfulIpam final : public mesh::Element {
 public:
  using Needs = mesh::Types<mesh::Serialised>;
  explicit ForgetfulIpam(mesh::PointToPointIpam addresses) : addresses_(std::move(addresses)) {}

  Task<Result<mesh::Connection>> request(mesh::Call& call, mesh::NetworkServiceRequest request) override {
    auto lease = addresses_.assign({}, *request.mutable_connection()->mutable_context()->mutable_ip_context());
    if (!lease) co_return std::unexpected(lease.error());
    co_return co_await call.next(std::move(request));
  }

 private:
  mesh::PointToPointIpam addresses_;
};

// An endpoint like the real one, with that IPAM.
class ForgetfulEndpoint final : public EndpointCore {
 public:
  explicit ForgetfulEndpoint(const mesh::EndpointParts& parts)
      : begin_(std::make_shared<mesh::Begin>(mesh::Begin::Side::server, parts.scheduler)),
        monitor_(std::make_shared<mesh::Monitor>(parts.scheduler, parts.transport)) {
    mesh::Mechanisms::Offers mechanisms;
    mechanisms.emplace(mesh::kKernel, std::make_shared<mesh::KernelEndpoint>(parts.network_namespace, parts.random));
    mesh::ChainBuilder chain;
    chain.add("path", std::make_shared<mesh::PathElement>(parts.name, parts.random));
    chain.add("begin", begin_);
    chain.add("path_token", std::make_shared<mesh::PathToken>(parts.tokens));
    chain.add("timeout", std::make_shared<mesh::Timeout>());
    chain.add("monitor", monitor_);
    chain.add("trim_path", std::make_shared<mesh::TrimPath>());
    chain.add("ipam", std::make_shared<ForgetfulIpam>(parts.addresses));
    chain.add("descriptors", std::make_shared<mesh::Descriptors>());
    chain.add("mechanisms", std::make_shared<mesh::Mechanisms>(std::move(mechanisms)));
    chain_ = std::move(chain).build();
    mesh::serve_connections(services_, parts.scheduler, chain_);
    mesh::serve_monitor(services_, *monitor_);
  }
  const rpc::Services& services() const override { return services_; }
  const mesh::Begin& connections() const override { return *begin_; }
  Task<void> finish() override {
    co_await monitor_->finish();
    co_await begin_->finish();
  }

 private:
  std::shared_ptr<mesh::Begin> begin_;
  std::shared_ptr<mesh::Monitor> monitor_;
  mesh::Chain chain_;
  rpc::Services services_;
};

std::string violation_with(const std::function<void(Settings&)>& adjust) {
  MeshOptions options;
  options.nodes = 3;
  options.faults = false;
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    MeshWorld mesh(seed, options, adjust);
    mesh.run();
    if (mesh.world().violation()) return *mesh.world().violation();
  }
  return "none";
}

TEST(Invariants, NoticeAnIpamThatForgets) {
  EXPECT_THAT(violation_with([](Settings& settings) {
                settings.make_endpoint = [](const mesh::EndpointParts& parts) {
                  return std::make_unique<ForgetfulEndpoint>(parts);
                };
              }),
              HasSubstr("belongs to"));
}

// A plane whose undo does nothing.
class LeavingPlane final : public forwarder::Plane {
 public:
  LeavingPlane(FakeKernel& kernel, Process& process, std::string mark) : inner_(kernel, process, std::move(mark)) {}
  Task<Result<void>> plug(forwarder::WireSpec wire) override { return inner_.plug(std::move(wire)); }
  Task<Result<void>> unplug(std::string) override { co_return Result<void>(); }
  Task<Result<std::vector<std::string>>> plugged() override { return inner_.plugged(); }
  Task<Result<forwarder::EndCounters>> counters(std::string id, forwarder::Side side) override {
    return inner_.counters(std::move(id), side);
  }

 private:
  FakePlane inner_;
};

TEST(Invariants, NoticeAnUndoThatDoesNothing) {
  const auto violation = violation_with([](Settings& settings) {
    settings.make_plane = [](FakeKernel& kernel, Process& process, std::string mark) {
      return std::make_unique<LeavingPlane>(kernel, process, std::move(mark));
    };
  });
  EXPECT_THAT(violation, HasSubstr("of nobody remains"));
}

// A plane that says it plugged and did not.
class LazyPlane final : public forwarder::Plane {
 public:
  Task<Result<void>> plug(forwarder::WireSpec) override { co_return Result<void>(); }
  Task<Result<void>> unplug(std::string) override { co_return Result<void>(); }
  Task<Result<std::vector<std::string>>> plugged() override { co_return std::vector<std::string>(); }
  Task<Result<forwarder::EndCounters>> counters(std::string, forwarder::Side) override {
    co_return forwarder::EndCounters();
  }
};

TEST(Invariants, NoticeAWireThatCarriesNothing) {
  EXPECT_NE(violation_with([](Settings& settings) {
              settings.make_plane = [](FakeKernel&, Process&, std::string) { return std::make_unique<LazyPlane>(); };
            }),
            "none");
}

}  // namespace
}  // namespace sim
