// SPDX-License-Identifier: Apache-2.0
#include "sim/kernel.h"

#include <gtest/gtest.h>

#include <memory>
#include <optional>

namespace sim {
namespace {

using base::Code;
using base::Result;
using base::Task;
using forwarder::KernelEnd;
using forwarder::VxlanEnd;
using forwarder::WireSpec;

const ::wire::IpAddress kOne = *::wire::IpAddress::parse("10.0.0.1");
const ::wire::IpAddress kTwo = *::wire::IpAddress::parse("10.0.0.2");

VxlanEnd tunnel(const ::wire::IpAddress& local, const ::wire::IpAddress& remote, std::uint32_t vni) {
  VxlanEnd end;
  end.local = local;
  end.remote = remote;
  end.vni = vni;
  return end;
}

class FakePlaneTest : public testing::Test {
 protected:
  ~FakePlaneTest() override { world.finish(); }

  static Task<void> into(Task<Result<void>> task, std::shared_ptr<std::optional<Result<void>>> outcome) {
    outcome->emplace(co_await task);
  }
  std::shared_ptr<std::optional<Result<void>>> start(Task<Result<void>> task) {
    auto outcome = std::make_shared<std::optional<Result<void>>>();
    base::spawn_detached(into(std::move(task), outcome));
    return outcome;
  }
  Code complete(Task<Result<void>> task) {
    const auto outcome = start(std::move(task));
    EXPECT_TRUE(world.run_while_not([&] { return outcome->has_value(); }, minutes(1)));
    return **outcome ? Code::ok : (*outcome)->error().code();
  }

  World world{5};
  FakeKernel kernel{world, "a", KernelFaults{}};
  FakeKernel far_kernel{world, "b", KernelFaults{}};
  Process& process = world.spawn("a", "forwarder");
  FakePlane plane{kernel, process, "fwd-a"};
  FakePlane far_plane{far_kernel, process, "fwd-b"};
  rpc::Descriptor workload = kernel.add_namespace();
  rpc::Descriptor other = kernel.add_namespace();
  rpc::Descriptor far = far_kernel.add_namespace();
};

TEST_F(FakePlaneTest, PlugsAndUnplugs) {
  const WireSpec spec("w", KernelEnd(workload, "nsm-1"), KernelEnd(other, "nsm-1"));
  EXPECT_EQ(complete(plane.plug(spec)), Code::ok);
  EXPECT_EQ(complete(plane.plug(spec)), Code::ok);
  ASSERT_NE(kernel.wire_at(workload.key(), "nsm-1"), nullptr);
  EXPECT_TRUE(kernel.wire_at(other.key(), "nsm-1")->configured);
  EXPECT_EQ(complete(plane.unplug("w")), Code::ok);
  EXPECT_EQ(complete(plane.unplug("w")), Code::ok);
  EXPECT_TRUE(kernel.wires().empty());
}

TEST_F(FakePlaneTest, RefusesNamesAndTunnelsInUse) {
  EXPECT_EQ(complete(plane.plug({"w", KernelEnd(workload, "nsm-1"), tunnel(kOne, kTwo, 7)})), Code::ok);
  EXPECT_EQ(complete(plane.plug({"x", KernelEnd(workload, "nsm-1"), tunnel(kOne, kTwo, 8)})), Code::already_exists);
  EXPECT_EQ(complete(plane.plug({"x", KernelEnd(workload, "nsm-2"), tunnel(kOne, kTwo, 7)})), Code::already_exists);
  EXPECT_EQ(complete(plane.plug({"x", tunnel(kOne, kTwo, 8), tunnel(kOne, kTwo, 9)})), Code::unimplemented);
  EXPECT_EQ(kernel.wires().size(), 1U);
}

TEST_F(FakePlaneTest, NamespaceTakesItsWiresAlong) {
  EXPECT_EQ(complete(plane.plug({"w", KernelEnd(workload, "nsm-1"), KernelEnd(other, "nsm-1")})), Code::ok);
  kernel.remove_namespace(other.key());
  EXPECT_TRUE(kernel.wires().empty());
  EXPECT_EQ(complete(plane.plug({"w", KernelEnd(workload, "nsm-1"), KernelEnd(other, "nsm-1")})), Code::not_found);
}

TEST_F(FakePlaneTest, FailedConfigurationLeavesNothing) {
  const auto outcome = start(plane.plug({"w", KernelEnd(workload, "nsm-1"), KernelEnd(other, "nsm-1")}));
  ASSERT_TRUE(world.run_while_not([&] { return !kernel.wires().empty(); }, minutes(1)));
  EXPECT_FALSE(outcome->has_value());
  kernel.remove("fwd-a", "w");  // somebody else deleted it
  ASSERT_TRUE(world.run_while_not([&] { return outcome->has_value(); }, minutes(1)));
  EXPECT_FALSE(**outcome);
  EXPECT_TRUE(kernel.wires().empty());
}

TEST_F(FakePlaneTest, BusyKernelFailsTheCall) {
  KernelFaults faults;
  faults.error = 1'000'000;
  kernel.set_faults(faults);
  EXPECT_EQ(complete(plane.plug({"w", KernelEnd(workload, "nsm-1"), KernelEnd(other, "nsm-1")})), Code::unavailable);
  EXPECT_TRUE(kernel.wires().empty());
}

TEST_F(FakePlaneTest, KilledForwarderLeavesHalfAWireForItsSuccessor) {
  const auto outcome = start(plane.plug({"w", KernelEnd(workload, "nsm-1"), KernelEnd(other, "nsm-1")}));
  ASSERT_TRUE(world.run_while_not([&] { return !kernel.wires().empty(); }, minutes(1)));
  world.kill(process);
  EXPECT_TRUE(world.run_while_not([&] { return outcome->has_value(); }, minutes(1)));
  EXPECT_EQ(kernel.wires().size(), 1U);  // a dead process undoes nothing
  Process& successor = world.spawn("a", "forwarder");
  FakePlane next(kernel, successor, "fwd-a");
  auto listed = std::make_shared<std::optional<Result<std::vector<std::string>>>>();
  base::spawn_detached([](forwarder::Plane& asked, auto result) -> Task<void> {
    result->emplace(co_await asked.plugged());
  }(next, listed));
  ASSERT_TRUE(world.run_while_not([&] { return listed->has_value(); }, minutes(1)));
  EXPECT_EQ(**listed, std::vector<std::string>{"w"});
  EXPECT_EQ(complete(next.unplug("w")), Code::ok);
  EXPECT_TRUE(kernel.wires().empty());
}

TEST_F(FakePlaneTest, DeadProcessChangesNothing) {
  world.kill(process);
  EXPECT_EQ(complete(plane.plug({"w", KernelEnd(workload, "nsm-1"), KernelEnd(other, "nsm-1")})), Code::cancelled);
  EXPECT_TRUE(kernel.wires().empty());
}

TEST_F(FakePlaneTest, PacketsCrossATunnelWhoseEndsMatch) {
  const std::map<::wire::IpAddress, FakeKernel*> kernels{{kOne, &kernel}, {kTwo, &far_kernel}};
  bool connected = true;
  const auto reachable = [&connected](const std::string&, const std::string&) { return connected; };
  const auto crosses = [&] { return packets_cross(kernels, kernel, workload.key(), "nsm-1", far.key(), reachable); };
  EXPECT_FALSE(crosses());
  EXPECT_EQ(complete(plane.plug({"w", KernelEnd(workload, "nsm-1"), tunnel(kOne, kTwo, 7)})), Code::ok);
  EXPECT_FALSE(crosses());
  EXPECT_EQ(complete(far_plane.plug({"v", tunnel(kTwo, kOne, 8), KernelEnd(far, "nsm-1")})), Code::ok);
  EXPECT_FALSE(crosses());  // another VNI
  EXPECT_EQ(complete(far_plane.plug({"v", tunnel(kTwo, kOne, 7), KernelEnd(far, "nsm-1")})), Code::ok);
  EXPECT_TRUE(crosses());
  connected = false;
  EXPECT_FALSE(crosses());
}

}  // namespace
}  // namespace sim
