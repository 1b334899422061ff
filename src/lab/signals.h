// SPDX-License-Identifier: Apache-2.0
// Ctrl-C as a flag that every wait of the lab looks at, so that ending early takes the same way out as ending.
#pragma once

namespace lab {

// From now on SIGINT, SIGTERM and SIGHUP set the flag instead of ending the process.
void catch_stop_signals();
bool stop_requested();

// While one lives, stop_requested() is false: taking down must not be cut short by the signal that caused it.
class IgnoreStop {
 public:
  IgnoreStop();
  ~IgnoreStop();
  IgnoreStop(const IgnoreStop&) = delete;
  IgnoreStop& operator=(const IgnoreStop&) = delete;
};

}  // namespace lab
