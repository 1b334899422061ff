// SPDX-License-Identifier: Apache-2.0
// `patchbay endpoint icmp-responder`: offers a network service whose far end is this process's network namespace, and
// lets the kernel there answer pings. NSM's cmd-nse-icmp-responder.
#pragma once

#include "apps/process.h"

namespace apps {

// The body of the command: reads the environment, serves until a signal or until idle, returns the exit code.
int run_icmp_responder();

}  // namespace apps
