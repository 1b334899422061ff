// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/refresh/refresh.h"

#include <algorithm>

#include "base/log.h"

namespace mesh {

using base::Result;
using base::Task;
using namespace std::chrono_literals;

namespace {

constexpr base::Duration kRetry = 200ms;

}  // namespace

struct Refresh::Due {
  explicit Due(base::Scheduler& scheduler, std::shared_ptr<ConnectionEvents> e)
      : timer(scheduler), events(std::move(e)) {}
  base::Timer timer;
  std::shared_ptr<ConnectionEvents> events;
  base::StopSource stop;
};

base::Duration refresh_delay(const Path& path, base::WallTime now) {
  base::Duration left = base::Duration::max();
  for (const PathSegment& segment : path.path_segments()) {
    if (segment.has_expires()) left = std::min(left, to_wall(segment.expires()) - now);
  }
  if (left == base::Duration::max() || left <= base::Duration{}) return 1ns;
  const double scale = path.path_segments_size() <= 1
                           ? 1.0 / 3.0
                           : 0.2 + 0.2 * static_cast<double>(path.index()) / path.path_segments_size();
  return base::Duration(static_cast<std::int64_t>(static_cast<double>(left.count()) * scale));
}

Task<Result<Connection>> Refresh::request(Call& call, NetworkServiceRequest request) {
  const auto state = call.context().state;
  auto connection = co_await call.next(std::move(request));
  if (connection) {
    auto& due = state->get<std::shared_ptr<Due>>();
    if (!due) due = std::make_shared<Due>(scheduler_, call.context().events);
    arm(due, refresh_delay(connection->path(), scheduler_.wall_now()));
  }
  co_return connection;
}

Task<Result<void>> Refresh::close(Call& call, Connection connection) {
  if (auto* due = call.state().find<std::shared_ptr<Due>>(); due != nullptr && *due) {
    (*due)->timer.cancel();
    (*due)->stop.request_stop();
    *due = nullptr;
  }
  co_return co_await call.next_close(std::move(connection));
}

void Refresh::arm(std::shared_ptr<Due> due, base::Duration delay) {
  base::Timer& timer = due->timer;
  timer.set(base::saturating_add(scheduler_.now(), delay), [this, weak = std::weak_ptr(due)] {
    if (auto still = weak.lock()) tasks_.spawn(refresh(std::move(still)));
  });
}

Task<void> Refresh::refresh(std::shared_ptr<Due> due) {
  auto again = co_await due->events->request_again(Reselect::no, due->stop.token());
  if (again || due->events->closed() || due->stop.stopped() || tasks_.stop_token().stopped()) co_return;
  base::log::warning("refresh failed, trying again: {}", again.error().message());
  arm(due, kRetry);
}

}  // namespace mesh
