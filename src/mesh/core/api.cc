// SPDX-License-Identifier: Apache-2.0
#include "mesh/core/api.h"

#include <fmt/format.h>

namespace mesh {

base::WallTime to_wall(const google::protobuf::Timestamp& time) {
  return base::WallTime(std::chrono::seconds(time.seconds()) + std::chrono::nanoseconds(time.nanos()));
}

void set_time(google::protobuf::Timestamp* time, base::WallTime value) {
  const auto seconds = std::chrono::floor<std::chrono::seconds>(value.time_since_epoch());
  time->set_seconds(seconds.count());
  time->set_nanos(static_cast<std::int32_t>((value.time_since_epoch() - seconds).count()));
}

std::string mechanism_parameter(const Mechanism& mechanism, const char* key) {
  const auto found = mechanism.parameters().find(key);
  return found == mechanism.parameters().end() ? std::string() : found->second;
}

const PathSegment& own_segment(const Connection& connection) {
  return connection.path().path_segments(static_cast<int>(connection.path().index()));
}

std::string describe(const Connection& connection) {
  return fmt::format("connection {} to service {}", connection.id(), connection.network_service());
}

}  // namespace mesh
