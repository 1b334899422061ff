// SPDX-License-Identifier: Apache-2.0
// What an endpoint or a forwarder runs to be found: registers its network services, then itself, and keeps both
// registered.
//
// Each record: registered, again every 200 ms until it is (a service that is another's counts as registered); then
// watched under its own name. If the watch breaks, or tells that the record is gone, it is registered again at once; so
// a registry's or manager's restart heals as soon as it is back. The endpoint is refreshed when two thirds of its
// remaining life have passed, with what the registry last answered, so that path, path_ids and the date of registration
// stay; its URL is always the one given here.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "mesh/core/registry.h"

namespace mesh {

struct EnrolmentPlan {
  EnrolmentPlan() = default;

  std::vector<NetworkService>
      services;                     // registered before the endpoint, never unregistered: others may offer them too
  NetworkServiceEndpoint endpoint;  // name, service names, labels, url
  std::optional<rpc::Descriptor> socket;  // the listening socket, if url names it by inode
  base::Duration retry = std::chrono::milliseconds(200);
  base::Duration attempt_timeout = std::chrono::seconds(15);
};

class RegistryEnrolment {
 public:
  // The registries and the scheduler outlive the enrolment.
  RegistryEnrolment(base::Scheduler& scheduler, ServiceRegistry& services, EndpointRegistry& endpoints,
                    EnrolmentPlan plan);
  ~RegistryEnrolment();
  RegistryEnrolment(const RegistryEnrolment&) = delete;
  RegistryEnrolment& operator=(const RegistryEnrolment&) = delete;

  // Starts; returns when everything is registered for the first time. Errors: cancelled, after finish().
  base::Task<base::Result<void>> start();

  // Ends refreshing and watching. Leaves the registration to expire. Must be awaited before destruction if start() was.
  base::Task<void> finish();

  // finish(), then unregisters the endpoint; one attempt.
  base::Task<base::Result<void>> withdraw();

  // The endpoint as the registry last answered; its URL as given.
  const NetworkServiceEndpoint& registered() const;

 private:
  template <typename Kind>
  class Keeper;

  EnrolmentPlan plan_;
  base::TaskScope scope_;
  std::vector<std::unique_ptr<Keeper<Services>>> services_;
  std::unique_ptr<Keeper<Endpoints>> endpoint_;
};

}  // namespace mesh
