// SPDX-License-Identifier: Apache-2.0
// How endpoints and forwarders tell their manager where they listen.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "mesh/elements/registry_enrolment/registry_enrolment.h"
#include "rpc/transport.h"

namespace apps {

// Fills in the plan's URL: to a manager on a unix socket, the first unix socket listened on, as a file to pass along,
// else the first TCP address. Errors: the manager is on TCP and there is no TCP address for it to dial.
base::Result<void> advertise(const std::vector<std::unique_ptr<rpc::Listener>>& listeners,
                             const std::string& manager_url, mesh::EnrolmentPlan& plan);

// Runs the enrolment's start and says how it went.
base::Task<void> register_with(mesh::RegistryEnrolment& enrolment, std::string manager_url);

}  // namespace apps
