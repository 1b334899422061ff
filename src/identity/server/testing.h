// SPDX-License-Identifier: Apache-2.0
// For tests: an identity server's parts in one process, on a loop and in a scratch directory.
#pragma once

#include <memory>
#include <string>

#include "identity/server/ca.h"
#include "identity/server/rules.h"
#include "rpc/http2/test_world.h"
#include "rpc/http2/transport.h"
#include "rpc/typed.h"

namespace identity::testing {

inline const Place kPlace{"a.test", "node-1"};

// All that this process may be.
inline Rules rules_for_us(const std::string& ids = "spiffe://a.test/first spiffe://a.test/second") {
  std::string text = "workloads:\n";
  for (std::size_t start = 0; start < ids.size();) {
    const auto end = std::min(ids.find(' ', start), ids.size());
    text += fmt::format("- {{uid: {}, id: '{}'}}\n", ::geteuid(), ids.substr(start, end - start));
    start = end + 1;
  }
  return *Rules::parse(text, "test", kPlace);
}

struct World {
  explicit World(base::Duration svid_lifetime = std::chrono::hours(1),
                 base::Duration root_lifetime = std::chrono::hours(9))
      : authority(loop, *Ca::open("a.test", directory, root_lifetime, loop.wall_now()), svid_lifetime) {}

  template <typename T>
  T wait(base::Task<T> task) {
    return rpc::testing::wait(loop, std::move(task));
  }

  rpc::testing::ScratchDirectory scratch;
  base::EventLoop loop;
  const std::string directory = scratch.path() + "/ca";
  LocalAuthority authority;
};

}  // namespace identity::testing
