// SPDX-License-Identifier: Apache-2.0
// Ids, keys and jitter come from an injected source, so that a run can be repeated.
#pragma once

#include <cstdint>
#include <string>

namespace base {

class Random {
 public:
  virtual ~Random() = default;
  virtual std::uint64_t next() = 0;  // 64 uniform bits
};

// The operating system's generator (getrandom). Throws nothing, never blocks after boot.
class SystemRandom final : public Random {
 public:
  std::uint64_t next() override;
};

// Repeatable (splitmix64): tests and the simulator.
class SeededRandom final : public Random {
 public:
  explicit SeededRandom(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() override;

 private:
  std::uint64_t state_;
};

std::uint64_t uniform(Random& random, std::uint64_t bound);  // in [0, bound); requires bound > 0
std::string uuid4(Random& random);                           // RFC 4122, version 4
std::string base62(Random& random, std::size_t length);      // letters and digits

}  // namespace base
