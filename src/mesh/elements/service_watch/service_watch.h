// SPDX-License-Identifier: Apache-2.0
// Closes connections that their network service no longer allows: when the service changes so that the connected
// endpoint does not match the client's labels any more. In the manager. One watch a service, however many connections.
//
// After: begin. Keeps: its place in the service's watch. Undoes nothing. Repeated request: nothing new. Close: the last
// connection of a service ends its watch.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "base/async.h"
#include "mesh/core/element.h"
#include "mesh/core/registry.h"

namespace mesh {

class ServiceWatch final : public Element {
 public:
  using Needs = Types<Serialised>;

  ServiceWatch(base::Scheduler& scheduler, ServiceRegistry& services, EndpointRegistry& endpoints)
      : scheduler_(scheduler), services_(services), endpoints_(endpoints), tasks_(scheduler) {}

  base::Task<base::Result<Connection>> request(Call& call, NetworkServiceRequest request) override;
  base::Task<base::Result<void>> close(Call& call, Connection connection) override;

  base::Task<void> finish() { co_await tasks_.finish(); }

 private:
  struct Watch;

  void leave(const std::string& service, const std::string& id);
  base::Task<void> watch(std::string service, std::shared_ptr<Watch> watch);
  // False: not all could be looked up.
  base::Task<bool> check(const NetworkService& service, std::shared_ptr<Watch> watch);

  base::Scheduler& scheduler_;
  ServiceRegistry& services_;
  EndpointRegistry& endpoints_;
  std::map<std::string, std::shared_ptr<Watch>> watches_;  // by service
  base::TaskScope tasks_;
};

}  // namespace mesh
