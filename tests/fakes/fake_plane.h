// SPDX-License-Identifier: Apache-2.0
// A plane that remembers what it was told to plug, and fails when told to.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "forwarder/plane.h"

namespace fakes {

class FakePlane final : public forwarder::Plane {
 public:
  base::Task<base::Result<void>> plug(forwarder::WireSpec wire) override {
    plugs.push_back(wire.id);
    if (auto failed = failure()) co_return std::unexpected(std::move(*failed));
    wires.insert_or_assign(wire.id, std::move(wire));
    co_return base::Result<void>();
  }
  base::Task<base::Result<void>> unplug(std::string id) override {
    unplugs.push_back(id);
    if (auto failed = failure()) co_return std::unexpected(std::move(*failed));
    wires.erase(id);
    leftovers.erase(id);
    co_return base::Result<void>();
  }
  base::Task<base::Result<std::vector<std::string>>> plugged() override {
    if (auto failed = failure()) co_return std::unexpected(std::move(*failed));
    std::vector<std::string> ids;
    for (const auto& [id, wire] : wires) ids.push_back(id);
    for (const auto& [id, life] : leftovers) ids.push_back(id);
    co_return ids;
  }
  base::Task<base::Result<forwarder::EndCounters>> counters(std::string id, forwarder::Side side) override {
    forwarder::EndCounters counters;
    if (!wires.contains(id)) co_return counters;
    counters.rx_packets = side == forwarder::Side::client ? 11 : 22;
    co_return counters;
  }

  void fail_next(base::Code code, std::string message) { failures_.emplace_back(code, std::move(message)); }
  // A wire of the forwarder's earlier life.
  void leave(const std::string& id) { leftovers.emplace(id, 1); }

  std::map<std::string, forwarder::WireSpec> wires;
  std::map<std::string, int> leftovers;
  std::vector<std::string> plugs;  // as they came
  std::vector<std::string> unplugs;

 private:
  std::optional<base::Error> failure() {
    if (failures_.empty()) return std::nullopt;
    base::Error error = std::move(failures_.front());
    failures_.pop_front();
    return error;
  }

  std::deque<base::Error> failures_;
};

}  // namespace fakes
