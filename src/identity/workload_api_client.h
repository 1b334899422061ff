// SPDX-License-Identifier: Apache-2.0
// Gets this process's SVID and bundles from a SPIFFE Workload API (SPIRE's agent, or patchbay identity) and keeps them
// fresh: a stream that is opened again whenever it ends, with backoff. What came last stays in force while the API is
// gone, until it expires. Of several SVIDs the first is used. Belongs to one event loop's thread.
#pragma once

#include <functional>
#include <set>
#include <string>

#include "base/async.h"
#include "identity/source.h"
#include "rpc/transport.h"

namespace identity {

inline constexpr std::string_view kDefaultSocket = "unix:///run/patchbay/identity.sock";

class WorkloadApiClient final : public Source {
 public:
  // transport speaks plaintext and puts no tokens on calls; it and the scheduler outlive this.
  WorkloadApiClient(base::Scheduler& scheduler, rpc::Transport& transport, std::string url);
  ~WorkloadApiClient() override;

  // Begins to fetch, and goes on until finish(). Returns when the first SVID has come. It keeps trying when the API is
  // not there, slow, answers with garbage or knows nothing of this process yet, and logs why once a reason; the errors
  // it gives up with are those of the deadline and of the stop token. Requires to be called once.
  base::Task<base::Result<void>> start(base::TimePoint deadline, base::StopToken stop);
  base::Task<void> finish();

  std::shared_ptr<const Identity> current() const override { return current_; }
  // Called after each change of identity, the first one, too.
  void on_change(std::function<void()> callback) { on_change_ = std::move(callback); }
  // How often one identity has replaced another.
  std::uint64_t rotations() const { return rotations_; }

 private:
  base::Task<void> follow();
  // One stream, until its end: why it ended.
  base::Task<base::Error> follow_once();
  base::Result<void> take(const std::string& message);
  void complain(const base::Error& error);

  base::Scheduler& scheduler_;
  rpc::Transport& transport_;
  const std::string url_;
  std::shared_ptr<const Identity> current_;
  std::function<void()> on_change_ = [] {};
  std::uint64_t rotations_ = 0;
  base::OneShot<base::Result<bool>> first_;
  std::set<std::string> complaints_;  // logged since the API worked last
  std::string last_complaint_ = "it has not answered";
  base::TaskScope background_;
};

}  // namespace identity
