// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/timeout/timeout.h"

#include "base/log.h"

namespace mesh {

using base::Code;
using base::fail;
using base::Result;
using base::Task;

namespace {

struct Expiry {
  explicit Expiry(base::Scheduler& scheduler) : timer(scheduler) {}
  base::Timer timer;
  base::TimePoint due = base::kNoDeadline;
};

void arm(Expiry& expiry, base::Scheduler& scheduler, const std::shared_ptr<ConnectionEvents>& events,
         const std::string& what) {
  if (expiry.due == base::kNoDeadline) return;
  expiry.timer.set(std::max(expiry.due, scheduler.now()), [events, what] {
    base::log::info("{} was not refreshed in time: closing it", what);
    events->close_soon();
  });
}

}  // namespace

Task<Result<Connection>> Timeout::request(Call& call, NetworkServiceRequest request) {
  base::Scheduler& scheduler = call.scheduler();
  const Path& path = request.connection().path();
  const int previous = static_cast<int>(path.index()) - 1;
  if (previous < 0 || !path.path_segments(previous).has_expires()) {
    co_return fail(Code::unknown, "expiration for the previous path segment cannot be nil");
  }
  const base::Duration left = to_wall(path.path_segments(previous).expires()) - scheduler.wall_now();
  const base::TimePoint expires = base::saturating_add(scheduler.now(), left);
  const std::string what = describe(request.connection());
  const auto state = call.context().state;
  state->get<Expiry>(scheduler).timer.cancel();

  auto connection = co_await call.next(std::move(request));

  Expiry& expiry = state->get<Expiry>(scheduler);
  if (connection) {
    const base::Duration reserve =
        call.context().allowance == base::Duration::max() ? base::Duration{} : call.context().allowance;
    expiry.due = expires - std::min(reserve, std::max(left, base::Duration{}));
  }
  if (connection || call.context().established) arm(expiry, scheduler, call.context().events, what);
  co_return connection;
}

Task<Result<void>> Timeout::close(Call& call, Connection connection) {
  if (auto* expiry = call.state().find<Expiry>()) expiry->timer.cancel();
  co_return co_await call.next_close(std::move(connection));
}

}  // namespace mesh
