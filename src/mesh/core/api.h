// SPDX-License-Identifier: Apache-2.0
// The wire's messages under the short names the mesh uses, and the strings that have meaning in them.
#pragma once

#include <chrono>
#include <map>
#include <string>
#include <string_view>

#include "base/scheduler.h"
#include "connection.pb.h"
#include "networkservice.pb.h"
#include "registry.pb.h"

namespace mesh {

using connection::Connection;
using connection::ConnectionEvent;
using connection::Mechanism;
using connection::MonitorScopeSelector;
using connection::Path;
using connection::PathSegment;
using networkservice::NetworkServiceRequest;
using registry::NetworkService;
using registry::NetworkServiceEndpoint;

// Ordered, because protobuf's maps iterate in an order that differs from run to run.
using Labels = std::map<std::string, std::string>;

template <typename ProtobufMap>
Labels ordered(const ProtobufMap& map) {
  return Labels(map.begin(), map.end());
}

inline constexpr std::string_view kLocal = "LOCAL";
inline constexpr std::string_view kRemote = "REMOTE";
inline constexpr std::string_view kKernel = "KERNEL";
inline constexpr std::string_view kMemif = "MEMIF";
inline constexpr std::string_view kVxlan = "VXLAN";
inline constexpr std::string_view kWireguard = "WIREGUARD";
inline constexpr std::string_view kPayloadIp = "IP";
inline constexpr std::string_view kPayloadEthernet = "ETHERNET";

namespace parameter {
inline constexpr const char* kInodeUrl = "inodeURL";
inline constexpr const char* kName = "name";
inline constexpr const char* kSrcIp = "src_ip";
inline constexpr const char* kDstIp = "dst_ip";
inline constexpr const char* kSrcPort = "src_port";
inline constexpr const char* kDstPort = "dst_port";
inline constexpr const char* kVni = "vni";
inline constexpr const char* kMtu = "MTU";
}  // namespace parameter

namespace method {
inline constexpr const char* kRequest = "/networkservice.NetworkService/Request";
inline constexpr const char* kClose = "/networkservice.NetworkService/Close";
inline constexpr const char* kMonitor = "/connection.MonitorConnection/MonitorConnections";
inline constexpr const char* kHealthCheck = "/grpc.health.v1.Health/Check";
inline constexpr const char* kHealthWatch = "/grpc.health.v1.Health/Watch";
}  // namespace method

base::WallTime to_wall(const google::protobuf::Timestamp& time);
void set_time(google::protobuf::Timestamp* time, base::WallTime value);

// The parameter, or nothing (empty text) if the mechanism has none of that name.
std::string mechanism_parameter(const Mechanism& mechanism, const char* key);

// Own segment: path_segments[index]. Requires a path that the path element has checked.
const PathSegment& own_segment(const Connection& connection);

// "nsc-0 via manager-a": what errors and logs call a connection.
std::string describe(const Connection& connection);

}  // namespace mesh
