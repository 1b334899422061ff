// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/heal/heal.h"

#include <algorithm>
#include <array>

#include "base/log.h"
#include "rpc/typed.h"

namespace mesh {

using base::Code;
using base::fail;
using base::Result;
using base::Task;
using namespace std::chrono_literals;

namespace {

// Pauses between attempts: short at first, since most causes pass in milliseconds; then one attempt a second or so, so
// that hundreds of clients of a dead node do not keep its neighbours busy.
constexpr std::array<base::Duration, 6> kPauses{20ms, 50ms, 100ms, 200ms, 500ms, 1000ms};

bool is_down(const ConnectionEvent& event, const std::string& name, const std::string& id) {
  for (const auto& [key, connection] : event.connections()) {
    if (connection.path().path_segments_size() == 0) continue;
    const PathSegment& first = connection.path().path_segments(0);
    if (first.name() != name || first.id() != id) continue;
    if (event.type() == connection::DELETE || connection.state() == connection::DOWN) return true;
  }
  return false;
}

bool wants_refresh(const ConnectionEvent& event) {
  return event.type() == connection::UPDATE && std::ranges::any_of(event.connections(), [](const auto& entry) {
           return entry.second.state() == connection::REFRESH_REQUESTED;
         });
}

}  // namespace

struct Heal::Session {
  Session(base::Scheduler& scheduler, Connection c, std::shared_ptr<ConnectionEvents> e,
          std::unique_ptr<rpc::ClientStream> s)
      : connection(std::move(c)), events(std::move(e)), stream(std::move(s)), troubles(scheduler) {}

  const Connection connection;
  const std::shared_ptr<ConnectionEvents> events;
  std::unique_ptr<rpc::ClientStream> stream;
  base::StopSource stop;    // of the watching
  base::StopSource closed;  // of the whole session
  base::AsyncQueue<Trouble> troubles;
  bool repairing = false;

  void stop_watching() {
    stop.request_stop();
    if (stream) stream->cancel();
  }
  void end() {
    stop_watching();
    closed.request_stop();
    troubles.close();
  }
};

Task<Result<Connection>> Heal::request(Call& call, NetworkServiceRequest request) {
  const auto state = call.context().state;
  const auto previous = state->get<std::shared_ptr<Session>>();
  if (previous && !previous->repairing) previous->stop_watching();

  auto connection = co_await call.next(std::move(request));
  if (!connection) {
    if (previous && !previous->repairing && call.context().established) previous->troubles.push(Trouble::control_plane);
    co_return connection;
  }

  const NextHop hop = call.state().get<NextHop>();
  MonitorScopeSelector selector;
  PathSegment* segment = selector.add_path_segments();
  segment->set_name(own_segment(*connection).name());
  segment->set_id(connection->id());
  rpc::CallOptions options;
  auto channel = transport_.channel(hop.url, hop.socket);
  Result<std::unique_ptr<rpc::ClientStream>> stream = std::unexpected(base::Error(Code::unavailable, "no channel"));
  if (channel) {
    stream = co_await (*channel)->stream(method::kMonitor, selector.SerializeAsString(), std::move(options));
  } else {
    stream = std::unexpected(channel.error());
  }
  if (!stream) {
    co_await call.undo_below(*connection);
    if (previous && !previous->repairing && call.context().established) previous->troubles.push(Trouble::control_plane);
    co_return std::unexpected(stream.error().wrap("cannot monitor the connection at " + hop.url));
  }
  if (previous && !previous->repairing) previous->end();
  auto session = std::make_shared<Session>(scheduler_, *connection, call.context().events, std::move(*stream));
  state->get<std::shared_ptr<Session>>() = session;
  start(session);
  co_return connection;
}

Task<Result<void>> Heal::close(Call& call, Connection connection) {
  if (auto* session = call.state().find<std::shared_ptr<Session>>(); session != nullptr && *session) {
    // A session that repairs closes the connection itself, to have it selected anew, and must outlive that.
    if (!(*session)->repairing) (*session)->end();
    *session = nullptr;
  }
  co_return co_await call.next_close(std::move(connection));
}

void Heal::start(const std::shared_ptr<Session>& session) {
  tasks_.spawn(watch_control(session));
  if (options_.check_liveness) tasks_.spawn(watch_data(session));
  tasks_.spawn(repair(session));
}

Task<void> Heal::watch_control(std::shared_ptr<Session> session) {
  const std::string name = own_segment(session->connection).name();
  const std::string id = session->connection.id();
  for (;;) {
    auto bytes = co_await session->stream->read();
    if (session->stop.stopped()) co_return;
    if (!bytes && bytes.error().code() == Code::cancelled) co_return;
    if (!bytes || !*bytes) break;
    auto event = rpc::parse<ConnectionEvent>(**bytes, method::kMonitor);
    if (!event || is_down(*event, name, id)) break;
    if (wants_refresh(*event)) session->troubles.push(Trouble::refresh_wanted);
  }
  session->troubles.push(Trouble::control_plane);
}

Task<void> Heal::watch_data(std::shared_ptr<Session> session) {
  const base::StopToken stop = session->stop.token();
  for (;;) {
    const bool due = co_await base::sleep_for(scheduler_, options_.interval, stop);
    if (!due) co_return;
    auto alive = co_await liveness_.alive(session->connection, options_.timeout, stop);
    if (stop.stopped()) co_return;
    if (alive && !*alive) {
      session->troubles.push(Trouble::data_plane);
      co_return;
    }
  }
}

Task<bool> Heal::alive(const Session& session) {
  if (!options_.check_liveness) co_return false;
  auto alive = co_await liveness_.alive(session.connection, options_.timeout, session.closed.token());
  co_return alive && *alive;
}

Task<void> Heal::repair(std::shared_ptr<Session> session) {
  auto ended = tasks_.stop_token().on_stop([session] { session->end(); });
  const std::string id = session->connection.id();
  auto trouble = co_await session->troubles.pop();
  if (!trouble) co_return;
  session->stop_watching();
  session->repairing = true;

  const char* what = *trouble == Trouble::control_plane ? "the control plane is down"
                     : *trouble == Trouble::data_plane  ? "packets do not cross"
                                                        : "the endpoint wants a refresh";
  base::log::warning("{}: {}: healing", describe(session->connection), what);
  if (observer_) observer_(id, what);
  for (std::size_t attempt = 0;; ++attempt) {
    bool reselect = *trouble == Trouble::data_plane;
    if (*trouble == Trouble::control_plane) reselect = !co_await alive(*session);
    if (session->closed.stopped()) co_return;
    auto again =
        co_await session->events->request_again(reselect ? Reselect::endpoint : Reselect::no, session->closed.token());
    if (again) {
      base::log::info("{} is healed{}", describe(*again), reselect ? ", selected anew" : "");
      if (observer_) observer_(id, reselect ? "healed, selected anew" : "healed");
      co_return;
    }
    if (session->events->closed() || session->closed.stopped()) co_return;
    base::log::warning("healing {} (attempt {}): {}", id, attempt + 1, again.error().message());
    const base::Duration pause = kPauses[std::min(attempt, kPauses.size() - 1)];
    const base::Duration jitter(
        static_cast<std::int64_t>(base::uniform(random_, static_cast<std::uint64_t>(pause.count()) / 2 + 1)));
    if (const bool slept = co_await base::sleep_for(scheduler_, pause + jitter, session->closed.token()); !slept)
      co_return;
  }
}

}  // namespace mesh
