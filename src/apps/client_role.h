// SPDX-License-Identifier: Apache-2.0
// `patchbay client`: connects its network namespace to the services it is told, keeps the connections alive, gives them
// up when it is stopped. NSM's cmd-nsc; with Mode::once its cmd-nsc-init.
#pragma once

#include "apps/process.h"

namespace apps {

enum class Mode {
  stay,  // until a signal, then close all
  once,  // exit when all services are connected, leaving them to a client of the same name that takes over
};

// The body of the command: reads the environment, returns the exit code. With PATCHBAY_EVENTS=stdout every change of a
// connection is one line of JSON on standard output.
int run_client(Mode mode);

}  // namespace apps
