// SPDX-License-Identifier: Apache-2.0
// Removes wires that no connection wants. What should exist is the connections; what exists bears marks; the difference
// is unplugged once it is older than any client takes to refresh: after a restart the clients of an earlier life's
// wires come back within their tokens' lifetime and find their wires as they were.
#pragma once

#include <map>
#include <string>

#include "base/async.h"
#include "forwarder/plane.h"
#include "mesh/elements/begin/begin.h"

namespace forwarder {

class Reconciler {
 public:
  Reconciler(base::Scheduler& scheduler, Plane& plane, const mesh::Begin& connections, base::Duration grace)
      : scheduler_(scheduler), plane_(plane), connections_(connections), grace_(grace), tasks_(scheduler) {}

  // One look now, then one every minute in the background.
  base::Task<void> start();
  base::Task<void> finish() { co_await tasks_.finish(); }

  // Compares once; unplugs what has been without a connection for longer than the grace. Errors: what exists cannot be
  // read now.
  base::Task<base::Result<void>> reconcile();

  std::size_t orphans() const { return orphans_.size(); }

 private:
  base::Task<void> repeat();

  base::Scheduler& scheduler_;
  Plane& plane_;
  const mesh::Begin& connections_;
  const base::Duration grace_;
  std::map<std::string, base::TimePoint> orphans_;  // since when
  base::TaskScope tasks_;
};

}  // namespace forwarder
