// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/mtu/mtu.h"

#include <gtest/gtest.h>

#include "fakes/chain_bench.h"

namespace mesh {
namespace {

using fakes::ChainBench;

NetworkServiceRequest with_mtu(std::uint32_t mtu) {
  auto request = ChainBench::asking("c1");
  if (mtu != 0) request.mutable_connection()->mutable_context()->set_mtu(mtu);
  return request;
}

TEST(Mtu, UnstatedBecomesTheDefaultBeforeTheCallGoesOn) {
  ChainBench bench(std::make_shared<Mtu>());
  EXPECT_EQ(bench.request(with_mtu(0))->context().mtu(), 9000U);
  EXPECT_EQ(bench.below->requests[0].connection().context().mtu(), 9000U);
}

TEST(Mtu, LowerRequestStays) {
  ChainBench bench(std::make_shared<Mtu>());
  EXPECT_EQ(bench.request(with_mtu(1280))->context().mtu(), 1280U);
}

TEST(Mtu, LowerAnswerFromBelowWins) {
  ChainBench bench(std::make_shared<Mtu>());
  bench.below->on_request = [](Call&, NetworkServiceRequest& request) {
    request.mutable_connection()->mutable_context()->set_mtu(1446);
  };
  EXPECT_EQ(bench.request(with_mtu(0))->context().mtu(), 1446U);
}

TEST(Mtu, HigherAnswerFromBelowIsLowered) {
  ChainBench bench(std::make_shared<Mtu>([](const Connection&) { return 1440U; }));
  bench.below->on_request = [](Call&, NetworkServiceRequest& request) {
    request.mutable_connection()->mutable_context()->set_mtu(9000);
  };
  EXPECT_EQ(bench.request(with_mtu(0))->context().mtu(), 1440U);
}

TEST(Mtu, LimitIsAskedAnewByARefresh) {
  std::uint32_t limit = 1500;
  ChainBench bench(std::make_shared<Mtu>([&](const Connection&) { return limit; }));
  const auto first = bench.request(with_mtu(0));
  limit = 1400;
  const auto second = bench.request(bench.refreshing(*first));
  EXPECT_EQ(second->context().mtu(), 1400U);
  limit = 1500;
  EXPECT_EQ(bench.request(bench.refreshing(*second))->context().mtu(), 1400U);
}

TEST(Mtu, NoLimitStatesNothing) {
  ChainBench bench(std::make_shared<Mtu>([](const Connection&) { return 0U; }));
  EXPECT_FALSE(bench.request(with_mtu(0))->has_context());
}

}  // namespace
}  // namespace mesh
