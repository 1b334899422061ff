// SPDX-License-Identifier: Apache-2.0
// Ends an endpoint that nobody uses: calls back once when there has been no connection for a while, from the start on.
// It then refuses requests, so that none is accepted by an endpoint about to go.
//
// Changes nothing in the request. After: begin. Keeps: that the connection exists, from its first request to the end of
// its Close. Failed first request: counts as use until it has failed. Repeated request: nothing new.
#pragma once

#include <functional>
#include <memory>

#include "mesh/core/element.h"

namespace mesh {

class Idle final : public Element {
 public:
  using Needs = Types<Serialised>;

  // A timeout of 0 or less never comes. The callback runs from the scheduler.
  Idle(base::Scheduler& scheduler, base::Duration timeout, std::function<void()> expired);
  ~Idle() override;

  base::Task<base::Result<Connection>> request(Call& call, NetworkServiceRequest request) override;

 private:
  struct Watch;
  class Use;

  const std::shared_ptr<Watch> watch_;  // shared with the connections' state, which may outlive the element
};

}  // namespace mesh
