// SPDX-License-Identifier: Apache-2.0
// The registry as its users see it: network services and endpoints that are registered, found, watched and
// unregistered. Both kinds share one shape. Implementations: stores (src/registry), the remote registry, and elements
// between the two.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/async.h"
#include "mesh/core/api.h"
#include "rpc/transport.h"

namespace mesh {

// The way a registration took, as the "path" metadata carries it (JSON): one token a hop.
struct RegistrationPath {
  std::uint32_t index = 0;
  std::vector<std::string> tokens;
};

std::string format_path(const RegistrationPath& path);
// Case-insensitive keys. Errors name what is wrong with the header.
base::Result<RegistrationPath> parse_path(std::string_view json);

// What all registry elements share of one call.
struct RegistryCall {
  RegistryCall(base::Scheduler& s, base::TimePoint d, base::StopToken t)
      : scheduler(s), deadline(d), stop(std::move(t)) {}

  base::Scheduler& scheduler;
  base::TimePoint deadline;
  base::StopToken stop;
  rpc::Metadata metadata;                          // that the call came with
  std::shared_ptr<rpc::Link> link;                 // that it came over; none if the process itself began the call
  RegistrationPath path;                           // registration_path: index is the element's own hop
  std::vector<rpc::Descriptor> descriptors;        // to send with the call onward
  std::vector<rpc::Descriptor> reply_descriptors;  // to send with the answer
};

struct Services {
  using Record = registry::NetworkService;
  using Query = registry::NetworkServiceQuery;
  using Response = registry::NetworkServiceResponse;
  static Record& record(Query& query) { return *query.mutable_network_service(); }
  static const Record& record(const Query& query) { return query.network_service(); }
  static Record& record(Response& response) { return *response.mutable_network_service(); }
  static const Record& record(const Response& response) { return response.network_service(); }
  static constexpr const char* kRegister = "/registry.NetworkServiceRegistry/Register";
  static constexpr const char* kFind = "/registry.NetworkServiceRegistry/Find";
  static constexpr const char* kUnregister = "/registry.NetworkServiceRegistry/Unregister";
  static constexpr const char* kNoun = "network service";
};

struct Endpoints {
  using Record = registry::NetworkServiceEndpoint;
  using Query = registry::NetworkServiceEndpointQuery;
  using Response = registry::NetworkServiceEndpointResponse;
  static Record& record(Query& query) { return *query.mutable_network_service_endpoint(); }
  static const Record& record(const Query& query) { return query.network_service_endpoint(); }
  static Record& record(Response& response) { return *response.mutable_network_service_endpoint(); }
  static const Record& record(const Response& response) { return response.network_service_endpoint(); }
  static constexpr const char* kRegister = "/registry.NetworkServiceEndpointRegistry/Register";
  static constexpr const char* kFind = "/registry.NetworkServiceEndpointRegistry/Find";
  static constexpr const char* kUnregister = "/registry.NetworkServiceEndpointRegistry/Unregister";
  static constexpr const char* kNoun = "endpoint";
};

// One answer of a find: a record that exists, or (deleted) did. socket: the endpoint's listening socket, when it came
// as a descriptor.
template <typename Kind>
struct Found {
  explicit Found(typename Kind::Response r, std::optional<rpc::Descriptor> s = std::nullopt)
      : response(std::move(r)), socket(std::move(s)) {}
  typename Kind::Response response;
  std::optional<rpc::Descriptor> socket;
};

// The answers of one find. Without watch: all matches, then nothing. With watch: all matches, then every change, until
// the call's stop token or the registry ends it; an end by the registry is an error.
template <typename Kind>
class FindStream {
 public:
  virtual ~FindStream() = default;
  virtual base::Task<base::Result<std::optional<Found<Kind>>>> next() = 0;
};

template <typename Kind>
class Registry {
 public:
  using Record = typename Kind::Record;
  using Query = typename Kind::Query;
  using Stream = std::unique_ptr<FindStream<Kind>>;

  virtual ~Registry() = default;

  // Adds or replaces; returns the record as stored.
  virtual base::Task<base::Result<Record>> enroll(RegistryCall& call, Record record) = 0;
  // Removing what is not there is no error.
  virtual base::Task<base::Result<void>> withdraw(RegistryCall& call, Record record) = 0;
  virtual base::Task<base::Result<Stream>> find(RegistryCall& call, Query query) = 0;
};

using ServiceRegistry = Registry<Services>;
using EndpointRegistry = Registry<Endpoints>;

// Every answer of a find without watch.
template <typename Kind>
base::Task<base::Result<std::vector<Found<Kind>>>> find_all(Registry<Kind>& registry, RegistryCall& call,
                                                            typename Kind::Query query) {
  query.set_watch(false);
  auto stream = co_await registry.find(call, std::move(query));
  if (!stream) co_return std::unexpected(stream.error());
  std::vector<Found<Kind>> all;
  for (;;) {
    auto found = co_await (*stream)->next();
    if (!found) co_return std::unexpected(found.error());
    if (!*found) break;
    all.push_back(std::move(**found));
  }
  co_return all;
}

}  // namespace mesh
