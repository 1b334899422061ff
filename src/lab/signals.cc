// SPDX-License-Identifier: Apache-2.0
#include "lab/signals.h"

#include <csignal>
#include <initializer_list>

namespace lab {
namespace {

volatile std::sig_atomic_t stop_flag = 0;
int ignoring = 0;

void note_stop(int) { stop_flag = 1; }

}  // namespace

void catch_stop_signals() {
  struct sigaction action{};
  action.sa_handler = note_stop;  // without SA_RESTART: a wait returns and looks at the flag
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) sigaction(number, &action, nullptr);
}

bool stop_requested() { return stop_flag != 0 && ignoring == 0; }

IgnoreStop::IgnoreStop() { ++ignoring; }
IgnoreStop::~IgnoreStop() { --ignoring; }

}  // namespace lab
