// SPDX-License-Identifier: Apache-2.0
// Repairs a connection, in the client only: when the mesh reports it down or goes silent, and when packets stop
// crossing.
//
// After: begin, and whatever sets NextHop. Keeps: one session per connection: a subscription at the next hop and a
// periodic liveness check. What it does: control plane lost and packets still cross: the same connection is requested
// again; packets lost: it is closed and requested anew (reselect). It goes on until the request succeeds or the
// connection is closed, with a pause that grows and jitters. A next hop that cannot be monitored fails the request,
// which is then undone. Failed repeated request: the session goes on with the connection as it was. Close ends the
// session.
#pragma once

#include <memory>

#include "base/async.h"
#include "base/random.h"
#include "mesh/core/element.h"
#include "mesh/core/liveness.h"
#include "mesh/elements/connect/next_hop.h"
#include "rpc/transport.h"

namespace mesh {

struct HealOptions {
  bool check_liveness = true;
  base::Duration interval = std::chrono::milliseconds(200);  // between checks
  base::Duration timeout = std::chrono::milliseconds(1000);  // of one check
};

class Heal final : public Element {
 public:
  using Needs = Types<Serialised, NextHop>;

  // Told of every change of a connection's health; for reports.
  using Observer = std::function<void(const std::string& id, std::string_view what)>;

  Heal(base::Scheduler& scheduler, base::Random& random, rpc::Transport& transport, Liveness& liveness,
       HealOptions options, Observer observer = {})
      : scheduler_(scheduler),
        random_(random),
        transport_(transport),
        liveness_(liveness),
        options_(options),
        observer_(std::move(observer)),
        tasks_(scheduler) {}

  base::Task<base::Result<Connection>> request(Call& call, NetworkServiceRequest request) override;
  base::Task<base::Result<void>> close(Call& call, Connection connection) override;

  base::Task<void> finish() { co_await tasks_.finish(); }

 private:
  enum class Trouble { control_plane, data_plane, refresh_wanted };
  struct Session;

  void start(const std::shared_ptr<Session>& session);
  base::Task<void> watch_control(std::shared_ptr<Session> session);
  base::Task<void> watch_data(std::shared_ptr<Session> session);
  base::Task<void> repair(std::shared_ptr<Session> session);
  base::Task<bool> alive(const Session& session);

  base::Scheduler& scheduler_;
  base::Random& random_;
  rpc::Transport& transport_;
  Liveness& liveness_;
  const HealOptions options_;
  const Observer observer_;
  base::TaskScope tasks_;
};

}  // namespace mesh
