// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/begin/begin.h"

#include <google/protobuf/util/message_differencer.h>

#include <algorithm>
#include <chrono>

#include "base/log.h"

namespace mesh {

using base::Code;
using base::fail;
using base::Result;
using base::StopToken;
using base::Task;
using google::protobuf::util::MessageDifferencer;

namespace {

// What the hops up to this one say now. The rest stays as it was, and with it the way a Close takes.
void renew_tokens(Path& kept, const Path& brought) {
  const int hops = std::min({kept.path_segments_size(), brought.path_segments_size(), int(brought.index()) + 1});
  for (int i = 0; i < hops; ++i) {
    if (kept.path_segments(i).id() == brought.path_segments(i).id()) {
      *kept.mutable_path_segments(i) = brought.path_segments(i);
    }
  }
}

}  // namespace

struct Begin::Entry {
  Entry(std::string i, base::Scheduler& scheduler) : id(std::move(i)), mutex(scheduler) {}

  const std::string id;
  base::AsyncMutex mutex;
  bool established = false;
  bool gone = false;  // closed or never established: whoever waited for the lock must look anew
  std::shared_ptr<ConnectionState> state = std::make_shared<ConnectionState>();
  std::shared_ptr<ConnectionEvents> events;
  NetworkServiceRequest last_request;
  Connection last_connection;                          // as the elements below left it
  Connection returned;                                 // as the caller saw it
  connectioncontext::ConnectionContext asked_context;  // that the caller itself asked for, before any endpoint answered
  base::Duration allowance{};                          // what the last call from outside had to spend
  const Chain* chain = nullptr;
  std::size_t below = 0;  // where the elements below this one start
};

class Begin::Events final : public ConnectionEvents {
 public:
  Events(Begin& begin, std::weak_ptr<Entry> entry) : begin_(begin), entry_(std::move(entry)) {}

  Task<Result<Connection>> request_again(Reselect reselect, StopToken stop) override {
    auto entry = entry_.lock();
    if (!entry) co_return fail(Code::cancelled, "the connection is closed");
    co_return co_await begin_.request_again(std::move(entry), reselect, std::move(stop));
  }
  Task<void> close() override {
    if (auto entry = entry_.lock()) {
      const auto deadline = base::saturating_add(begin_.scheduler_.now(), entry->allowance);
      co_await begin_.close_entry(std::move(entry), deadline);
    }
  }
  bool closed() const override {
    const auto entry = entry_.lock();
    return !entry || entry->gone;
  }
  void close_soon() override {
    if (auto entry = entry_.lock()) {
      const auto deadline = base::saturating_add(begin_.scheduler_.now(), entry->allowance);
      begin_.tasks_.spawn(begin_.close_entry(std::move(entry), deadline));
    }
  }

 private:
  Begin& begin_;
  std::weak_ptr<Entry> entry_;
};

std::shared_ptr<Begin::Entry> Begin::entry(const std::string& id) {
  auto& slot = entries_[id];
  if (!slot) {
    slot = std::make_shared<Entry>(id, scheduler_);
    slot->events = std::make_shared<Events>(*this, slot);
  }
  return slot;
}

void Begin::forget(const std::shared_ptr<Entry>& entry) {
  entry->gone = true;
  entry->established = false;
  entry->state = nullptr;
  const auto found = entries_.find(entry->id);
  if (found != entries_.end() && found->second == entry) entries_.erase(found);
}

Task<Result<Connection>> Begin::request(Call& call, NetworkServiceRequest request) {
  CallContext& context = call.context();
  const std::string id = request.connection().id();
  if (id.empty()) co_return fail(Code::invalid_argument, "a request must carry the connection's id");

  for (;;) {
    auto entry = this->entry(id);
    auto lock = co_await entry->mutex.lock(context.deadline, context.stop);
    if (!lock) co_return std::unexpected(lock.error().wrap("waiting for an earlier call about connection " + id));
    if (entry->gone) continue;
    entry->chain = &call.chain();
    entry->below = call.position() + 1;
    entry->allowance = context.allowance;

    if (entry->established && side_ == Side::client) {
      Connection merged = entry->last_connection;
      const Connection& asked = request.connection();
      if (asked.network_service_endpoint_name() != entry->returned.network_service_endpoint_name()) {
        merged.set_network_service_endpoint_name(asked.network_service_endpoint_name());
      }
      if (!MessageDifferencer::Equals(asked.context(), entry->returned.context()))
        *merged.mutable_context() = asked.context();
      merged.set_state(asked.state());
      *request.mutable_connection() = std::move(merged);
    }
    if (entry->established && request.connection().state() == connection::RESELECT_REQUESTED) {
      CallContext closing(scheduler_, context.deadline, context.stop);
      closing.metadata = context.metadata;
      closing.link = context.link;
      renew_tokens(*entry->last_connection.mutable_path(), request.connection().path());
      auto closed = co_await run_close(entry, closing);
      if (!closed) base::log::warning("closing {} before it is selected anew: {}", id, closed.error().message());
      entry->state = std::make_shared<ConnectionState>();
    }
    co_return co_await run(entry, context, std::move(request));
  }
}

Task<Result<Connection>> Begin::run(std::shared_ptr<Entry> entry, CallContext& context, NetworkServiceRequest request) {
  context.state = entry->state;
  context.events = entry->events;
  context.established = entry->established;
  NetworkServiceRequest kept = request;

  auto connection = co_await entry->chain->request_at(entry->below, context, std::move(request));
  if (!connection) {
    if (!entry->established) forget(entry);
    co_return connection;
  }
  connection->set_state(connection::UP);
  entry->established = true;
  // A client that takes over an earlier life's connection brings the whole path, and a context that is an answer
  // already.
  if (!context.established && kept.connection().path().path_segments_size() <= 1) {
    entry->asked_context = kept.connection().context();
  }
  entry->last_request = std::move(kept);
  entry->last_connection = *connection;
  entry->returned = *connection;
  co_return connection;
}

Task<Result<void>> Begin::run_close(std::shared_ptr<Entry> entry, CallContext& context) {
  context.state = entry->state;
  context.events = entry->events;
  context.established = true;
  Connection last = entry->last_connection;
  entry->established = false;
  co_return co_await entry->chain->close_at(entry->below, context, std::move(last));
}

Task<Result<void>> Begin::close(Call& call, Connection connection) {
  CallContext& context = call.context();
  const auto found = entries_.find(connection.id());
  if (found == entries_.end()) co_return Result<void>();
  auto entry = found->second;
  auto lock = co_await entry->mutex.lock(context.deadline, context.stop);
  if (!lock)
    co_return std::unexpected(lock.error().wrap("waiting for an earlier call about connection " + connection.id()));
  if (entry->gone) co_return Result<void>();
  if (!entry->established) {  // closed to be selected anew, which failed: whoever heals it must stop
    forget(entry);
    co_return Result<void>();
  }
  // The path's tokens are the only news a Close brings.
  if (connection.path().path_segments_size() > 0) *entry->last_connection.mutable_path() = connection.path();
  auto closed = co_await run_close(entry, context);
  forget(entry);
  co_return closed;
}

Task<Result<Connection>> Begin::request_again(std::shared_ptr<Entry> entry, Reselect reselect, StopToken stop) {
  const auto deadline = base::saturating_add(scheduler_.now(), entry->allowance);
  auto lock = co_await entry->mutex.lock(deadline, stop);
  if (!lock) co_return std::unexpected(lock.error());
  if (entry->gone) co_return fail(Code::cancelled, "the connection is closed");

  NetworkServiceRequest request = entry->last_request;
  *request.mutable_connection() = entry->last_connection;
  Connection& connection = *request.mutable_connection();
  connection.set_state(connection::UP);
  if (reselect != Reselect::no) {
    if (entry->established) {
      CallContext closing(scheduler_, deadline, stop);
      auto closed = co_await run_close(entry, closing);
      if (!closed) base::log::info("closing {} before it is selected anew: {}", entry->id, closed.error().message());
      entry->state = std::make_shared<ConnectionState>();
    }
    connection.clear_mechanism();
    connection.clear_network_service_endpoint_name();
    connection.set_state(connection::RESELECT_REQUESTED);
    // What the last endpoint gave is the last endpoint's: the next one would find its addresses taken for the client's.
    *connection.mutable_context() = entry->asked_context;
  }
  CallContext context(scheduler_, base::saturating_add(scheduler_.now(), entry->allowance), std::move(stop));
  context.state = entry->state;
  context.events = entry->events;
  context.established = entry->established;
  auto again = co_await entry->chain->request_at(entry->below, context, std::move(request));
  if (!again) co_return again;  // kept, also if it was closed above: whoever heals tries again
  again->set_state(connection::UP);
  entry->established = true;
  entry->last_connection = *again;
  entry->returned = *again;
  co_return again;
}

Task<void> Begin::close_entry(std::shared_ptr<Entry> entry, base::TimePoint deadline) {
  auto lock = co_await entry->mutex.lock(deadline, {});
  if (!lock) {
    base::log::warning("closing connection {}: {}", entry->id, lock.error().message());
    co_return;
  }
  if (entry->gone) co_return;
  if (entry->established) {
    CallContext context(scheduler_, deadline, {});
    auto closed = co_await run_close(entry, context);
    if (!closed) base::log::warning("closing connection {}: {}", entry->id, closed.error().message());
  }
  forget(entry);
}

std::vector<Connection> Begin::connections() const {
  std::vector<Connection> all;
  for (const auto& [id, entry] : entries_) {
    if (entry->established) all.push_back(entry->last_connection);
  }
  return all;
}

Task<void> Begin::close_all(base::TimePoint deadline) {
  base::TaskScope closing(scheduler_);
  for (const auto& [id, entry] : std::map(entries_)) closing.spawn(close_entry(entry, deadline));
  co_await closing.finish();
}

Task<void> Begin::finish() { co_await tasks_.finish(); }

}  // namespace mesh
