// SPDX-License-Identifier: Apache-2.0
// The simulated transport under the suite every transport passes: within a node, between nodes, and over a rough
// network.
#include "rpc/transport_suite.h"
#include "sim/transport.h"

namespace rpc::testing {
namespace {

class SimulatedWorld : public TransportWorld {
 public:
  SimulatedWorld(bool local, const sim::Faults& faults) : local_(local), network_(world_, faults) {
    network_.add_node("a", "10.0.0.1");
    network_.add_node("b", "10.0.0.2");
  }
  ~SimulatedWorld() override {
    client_.reset();
    server_.reset();
    world_.finish();
    EXPECT_FALSE(world_.violation()) << *world_.violation();
  }

  base::Scheduler& scheduler() override { return server_process_; }
  Transport& client() override { return *client_; }
  Transport& server() override { return *server_; }
  std::string fresh_url() override {
    return local_ ? fmt::format("unix:///run/{}.sock", next_++) : fmt::format("tcp://10.0.0.2:{}", next_++);
  }
  Descriptor fresh_file() override {
    return {{9, static_cast<std::uint64_t>(next_++)}, std::make_shared<const base::UniqueFd>()};
  }
  void run(const std::function<bool()>& done, base::Duration at_most) override { world_.run_while_not(done, at_most); }

 private:
  const bool local_;
  sim::World world_{11};
  sim::Network network_;
  sim::Process& client_process_ = world_.spawn(local_ ? "b" : "a", "client");
  sim::Process& server_process_ = world_.spawn("b", "server");
  std::unique_ptr<sim::Transport> client_ = std::make_unique<sim::Transport>(network_, client_process_);
  std::unique_ptr<sim::Transport> server_ = std::make_unique<sim::Transport>(network_, server_process_);
  int next_ = 5000;
};

sim::Faults late_files() {
  sim::Faults faults;
  faults.late_descriptor = 500'000;
  return faults;
}

const World kUnix{"unix_socket", [] { return std::make_unique<SimulatedWorld>(true, sim::Faults()); }};
const World kLate{"late_files", [] { return std::make_unique<SimulatedWorld>(true, late_files()); }};
const World kTcp{"tcp", [] { return std::make_unique<SimulatedWorld>(false, sim::Faults()); }};
constexpr auto kName = [](const auto& world) { return world.param.name; };

INSTANTIATE_TEST_SUITE_P(Simulated, TransportSuite, ::testing::Values(kUnix, kTcp), kName);
INSTANTIATE_TEST_SUITE_P(Simulated, TransportFileSuite, ::testing::Values(kUnix, kLate), kName);

}  // namespace
}  // namespace rpc::testing
