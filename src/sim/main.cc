// SPDX-License-Identifier: Apache-2.0
// patchbay-sim: a whole mesh under virtual time, as a seed has it. docs/simulator.md
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <thread>

#include "sim/run.h"

int main(int argc, char** argv) {
  CLI::App app("Runs a mesh of simulated nodes with seeded faults and checks what it promises after every event.");
  std::uint64_t seed = 1;
  std::vector<std::uint64_t> batch;
  sim::MeshOptions options;
  bool twice = false;
  bool log = false;
  bool no_faults = false;
  unsigned jobs = std::max(1U, std::thread::hardware_concurrency());
  app.add_option("--seed", seed, "what happens, and in which order")->capture_default_str();
  app.add_option("--nodes", options.nodes, "nodes of the mesh")->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_option("--steps", options.steps, "things that happen to it")->capture_default_str();
  app.add_flag("--twice", twice, "run the seed twice and compare");
  app.add_flag("--log", log, "print the event log");
  app.add_flag("--no-faults", no_faults, "pods come and go, nothing fails");
  app.add_option("--batch", batch, "run COUNT seeds from FIRST on")->expected(2)->type_name("FIRST COUNT");
  app.add_option("--jobs", jobs, "processes of a batch")->check(CLI::Range(1, 1024))->capture_default_str();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  options.faults = !no_faults;

  if (!batch.empty()) {
    const auto failed = sim::run_batch(batch[0], batch[1], options, jobs);
    if (failed.empty()) return 0;
    fmt::print("first failing seed: {}\n", failed.front());
    return 1;
  }
  const auto outcome = sim::run_seed(seed, options, log);
  fmt::print("seed {} hash {:016x} events {} wires {}\n", seed, outcome.hash, outcome.events, outcome.wires);
  if (outcome.violation) {
    if (!log) {
      for (const auto& line : outcome.last) fmt::print("{}\n", line);
    }
    fmt::print("violated: {}\nreplay: {}\n", *outcome.violation, sim::replay_command(seed, options));
    return 1;
  }
  if (twice) {
    const auto again = sim::run_seed(seed, options);
    if (again.hash != outcome.hash) {
      fmt::print("violated: two runs of seed {} differ: {:016x}, {:016x}\nreplay: {} --twice\n", seed, outcome.hash,
                 again.hash, sim::replay_command(seed, options));
      return 1;
    }
    fmt::print("the second run hashes alike\n");
  }
  return 0;
}
