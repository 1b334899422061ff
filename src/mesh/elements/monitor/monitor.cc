// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/monitor/monitor.h"

#include <google/protobuf/util/message_differencer.h>

#include <algorithm>

#include "base/log.h"
#include "mesh/elements/connect/next_hop.h"
#include "rpc/typed.h"

namespace mesh {

using base::Code;
using base::fail;
using base::Result;
using base::Task;
using google::protobuf::util::MessageDifferencer;

namespace {

constexpr std::size_t kMaxWaitingEvents = 4096;  // a subscriber that far behind is not reading

bool segment_matches(const PathSegment& pattern, const PathSegment& segment) {
  return (pattern.name().empty() || pattern.name() == segment.name()) &&
         (pattern.id().empty() || pattern.id() == segment.id()) &&
         (pattern.token().empty() || pattern.token() == segment.token());
}

// An id that every connection of the selector has on its path; "" if it names none.
std::string named_id(const MonitorScopeSelector& selector) {
  const auto named = std::ranges::find_if(selector.path_segments(), [](const auto& one) { return !one.id().empty(); });
  return named == selector.path_segments().end() ? std::string() : named->id();
}

}  // namespace

bool selects(const MonitorScopeSelector& selector, const Connection& connection) {
  if (selector.network_services_size() > 0 &&
      std::ranges::find(selector.network_services(), connection.network_service()) ==
          selector.network_services().end()) {
    return false;
  }
  if (selector.path_segments_size() == 0) return true;
  return !std::ranges::search(
              connection.path().path_segments(), selector.path_segments(),
              [](const PathSegment& segment, const PathSegment& pattern) { return segment_matches(pattern, segment); })
              .empty();
}

struct Monitor::Subscriber {
  Subscriber(base::Scheduler& scheduler, MonitorScopeSelector s) : selector(std::move(s)), events(scheduler) {}
  MonitorScopeSelector selector;
  base::AsyncQueue<ConnectionEvent> events;
  bool overrun = false;
};

// Kept with the connection; ends the subscription at the next hop when dropped.
struct Monitor::Followed {
  ~Followed() { stop.request_stop(); }
  base::StopSource stop;
  NextHop hop;
};

Task<Result<Connection>> Monitor::request(Call& call, NetworkServiceRequest request) {
  const std::string id = request.connection().id();
  const auto state = call.context().state;
  auto& slot = state->get<std::shared_ptr<Followed>>();
  const bool was_followed = slot != nullptr;
  if (slot) slot->stop.request_stop();
  slot = nullptr;

  auto connection = co_await call.next(std::move(request));

  if (!connection) {
    if (was_followed) set_down(id);
    co_return connection;
  }
  Connection recorded = *connection;
  recorded.set_state(connection::UP);
  put(id, recorded);
  emit(connection::UPDATE, recorded);
  if (call.context().answered_below) follow(call, recorded);
  co_return connection;
}

Task<Result<void>> Monitor::close(Call& call, Connection connection) {
  const std::string id = connection.id();
  if (auto* slot = call.state().find<std::shared_ptr<Followed>>()) *slot = nullptr;
  auto closed = co_await call.next_close(std::move(connection));
  if (const auto last = take(id)) emit(connection::DELETE, *last);
  co_return closed;
}

void Monitor::put(const std::string& id, Connection connection) {
  take(id);
  for (const PathSegment& segment : connection.path().path_segments()) by_segment_[segment.id()].insert(id);
  connections_.emplace(id, std::move(connection));
}

std::optional<Connection> Monitor::take(const std::string& id) {
  auto node = connections_.extract(id);
  if (node.empty()) return std::nullopt;
  for (const PathSegment& segment : node.mapped().path().path_segments()) {
    const auto found = by_segment_.find(segment.id());
    if (found == by_segment_.end()) continue;
    found->second.erase(id);
    if (found->second.empty()) by_segment_.erase(found);
  }
  return std::move(node.mapped());
}

void Monitor::emit(connection::ConnectionEventType type, const Connection& connection) {
  std::set<std::string> names{""};
  for (const PathSegment& segment : connection.path().path_segments()) names.insert(segment.id());
  for (const std::string& name : names) {
    for (auto [at, end] = subscribers_.equal_range(name); at != end; ++at) {
      Subscriber& subscriber = *at->second;
      if (!selects(subscriber.selector, connection)) continue;
      if (subscriber.events.size() >= kMaxWaitingEvents) {
        subscriber.overrun = true;
        subscriber.events.close();
        continue;
      }
      ConnectionEvent event;
      event.set_type(type);
      (*event.mutable_connections())[connection.id()] = connection;
      subscriber.events.push(std::move(event));
    }
  }
}

Task<Result<void>> Monitor::serve(rpc::ServerCall& call, MonitorScopeSelector selector, rpc::ServerStream& stream) {
  if (ended_) co_return fail(Code::unavailable, "this process is stopping");
  auto subscriber = std::make_shared<Subscriber>(scheduler_, std::move(selector));
  const std::string name = named_id(subscriber->selector);
  const auto place = subscribers_.emplace(name, subscriber);
  auto stopped = call.stop.on_stop([subscriber] { subscriber->events.close(); });

  ConnectionEvent initial;
  initial.set_type(connection::INITIAL_STATE_TRANSFER);
  const auto add = [&](const std::string& id, const Connection& connection) {
    if (selects(subscriber->selector, connection)) (*initial.mutable_connections())[id] = connection;
  };
  if (name.empty()) {
    for (const auto& [id, connection] : connections_) add(id, connection);
  } else if (const auto found = by_segment_.find(name); found != by_segment_.end()) {
    for (const std::string& id : found->second) add(id, connections_.at(id));
  }
  auto written = co_await stream.write(initial.SerializeAsString(), {});
  while (written) {
    auto event = co_await subscriber->events.pop();
    if (!event) break;
    written = co_await stream.write(event->SerializeAsString(), {});
  }
  subscribers_.erase(place);
  if (subscriber->overrun) {
    co_return fail(Code::resource_exhausted, "the subscriber left {} events unread: subscribe again",
                   kMaxWaitingEvents);
  }
  if (!written) co_return written;
  co_return fail(Code::unavailable, "this process is stopping");
}

void Monitor::follow(Call& call, const Connection& connection) {
  const auto* hop = call.state().find<NextHop>();
  if (hop == nullptr || ended_) return;
  auto followed = std::make_shared<Followed>();
  followed->hop = *hop;
  call.state().get<std::shared_ptr<Followed>>() = followed;
  followers_.spawn(
      follow_hop(connection.id(), own_segment(connection).name(), connection.path().index(), std::move(followed)));
}

Task<void> Monitor::follow_hop(std::string id, std::string name, std::uint32_t index, std::shared_ptr<Followed> kept) {
  // Not kept alive from here: dropping it with the connection is what ends this task.
  const base::StopToken stop = kept->stop.token();
  const NextHop hop = kept->hop;
  kept = nullptr;

  MonitorScopeSelector selector;
  PathSegment* segment = selector.add_path_segments();
  segment->set_name(name);
  segment->set_id(id);

  auto channel = transport_.channel(hop.url, hop.socket);
  if (!channel) {
    set_down(id);
    co_return;
  }
  rpc::CallOptions options;
  options.stop = stop;
  auto stream = co_await (*channel)->stream(method::kMonitor, selector.SerializeAsString(), std::move(options));
  while (stream && !stop.stopped()) {
    auto bytes = co_await (*stream)->read();
    if (stop.stopped() || !bytes || !*bytes) break;
    auto event = rpc::parse<ConnectionEvent>(**bytes, method::kMonitor);
    if (!event) break;
    apply(id, index, *event);
  }
  if (!stop.stopped()) {
    base::log::info("lost sight of connection {} at {}", id, hop.url);
    set_down(id);
  }
}

void Monitor::apply(const std::string& id, std::uint32_t index, const ConnectionEvent& event) {
  auto own = connections_.find(id);
  if (own == connections_.end()) return;
  std::map<std::string, const Connection*> ordered_connections;
  for (const auto& [key, received] : event.connections()) ordered_connections.emplace(key, &received);
  for (const auto& [key, received] : ordered_connections) {
    const Path& path = received->path();
    if (path.path_segments_size() <= static_cast<int>(index) || path.path_segments(static_cast<int>(index)).id() != id)
      continue;
    if (path.index() != index && path.index() != index + 1) continue;
    if (event.type() == connection::DELETE) {
      set_down(id);
      return;
    }
    if (event.type() == connection::INITIAL_STATE_TRANSFER && received->state() == own->second.state()) continue;
    Connection updated = own->second;
    *updated.mutable_path() = path;
    updated.mutable_path()->set_index(index);
    *updated.mutable_context() = received->context();
    updated.set_state(received->state());
    if (MessageDifferencer::Equals(updated, own->second)) continue;
    put(id, updated);
    own = connections_.find(id);
    emit(connection::UPDATE, updated);
  }
}

void Monitor::set_down(const std::string& id) {
  const auto own = connections_.find(id);
  if (own == connections_.end() || own->second.state() == connection::DOWN) return;
  own->second.set_state(connection::DOWN);
  emit(connection::UPDATE, own->second);
}

Task<void> Monitor::finish() {
  ended_ = true;
  for (const auto& [name, subscriber] : subscribers_) subscriber->events.close();
  co_await followers_.finish();
}

}  // namespace mesh
