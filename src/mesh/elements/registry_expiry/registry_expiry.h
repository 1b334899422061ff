// SPDX-License-Identifier: Apache-2.0
// An endpoint stays registered for a while only: until the caller's token expires, or our own, or a minute has passed,
// whichever is first. Then it is unregistered here and below, and whoever watches it is told.
//
// Changes: expiration_time, never to a later time than the caller's, in the record and the answer. Keeps, per name: the
// time, a timer, the path to unregister with. Before it: one call per name at a time (its turns are taken when time is
// up). A refresh sets a new time; a failed refresh leaves the old one.
//
// Time is counted on the monotonic clock from the moment of registration: a step of the wall clock expires nothing.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "mesh/core/token.h"
#include "mesh/elements/registry_element/registry_element.h"
#include "mesh/elements/registry_serialised/registry_serialised.h"

namespace mesh {

class RegistryExpiry final : public RegistryElement<Endpoints> {
 public:
  static constexpr base::Duration kLifetime = std::chrono::minutes(1);  // what NSM's registries and managers allow

  RegistryExpiry(base::Scheduler& scheduler, TokenSource& tokens, RegistrySerialised<Endpoints>& serialised,
                 base::Duration lifetime = kLifetime);

  base::Task<base::Result<NetworkServiceEndpoint>> enroll(RegistryCall& call, NetworkServiceEndpoint endpoint) override;
  base::Task<base::Result<void>> withdraw(RegistryCall& call, NetworkServiceEndpoint endpoint) override;

  // Takes on what the registry below holds already, after a restart. What expired meanwhile is unregistered at once.
  base::Task<base::Result<void>> adopt();

  // Forgets all times and waits for what is under way. Nothing is unregistered.
  base::Task<void> finish();

 private:
  struct Lease {
    Lease(base::Scheduler& scheduler, NetworkServiceEndpoint e, RegistrationPath p)
        : timer(scheduler), endpoint(std::move(e)), path(std::move(p)) {}
    base::Timer timer;
    NetworkServiceEndpoint endpoint;
    RegistrationPath path;
  };

  void lease(NetworkServiceEndpoint endpoint, RegistrationPath path);
  base::Task<void> expire(std::string name, const Lease* lease);

  base::Scheduler& scheduler_;
  TokenSource& tokens_;
  RegistrySerialised<Endpoints>& serialised_;
  const base::Duration lifetime_;
  std::map<std::string, std::shared_ptr<Lease>, std::less<>> leases_;
  base::TaskScope scope_;
};

}  // namespace mesh
