// SPDX-License-Identifier: Apache-2.0
// One seed, or many.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "sim/mesh_world.h"

namespace sim {

struct Outcome {
  std::uint64_t seed = 0;
  std::uint64_t hash = 0;
  std::uint64_t events = 0;
  std::size_t wires = 0;
  std::optional<std::string> violation;
  std::vector<std::string> last;  // lines before the violation
};

// echo: prints every line as it comes.
Outcome run_seed(std::uint64_t seed, const MeshOptions& options, bool echo = false);

// The command that repeats a run.
std::string replay_command(std::uint64_t seed, const MeshOptions& options);

// Seeds from the first on, in so many processes at once. Every tenth runs twice and must hash alike. Prints progress
// and the first failing seed; returns the seeds that failed.
std::vector<std::uint64_t> run_batch(std::uint64_t first, std::uint64_t count, const MeshOptions& options,
                                     unsigned jobs);

}  // namespace sim
