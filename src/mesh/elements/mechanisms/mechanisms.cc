// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/mechanisms/mechanisms.h"

#include <optional>

#include "base/log.h"

namespace mesh {

using base::Code;
using base::fail;
using base::Result;
using base::Task;

namespace {

struct MechanismInUse {
  Connection connection;  // as last answered; its mechanism's type is the one in use
};

std::string listed(const google::protobuf::RepeatedPtrField<Mechanism>& preferences) {
  std::string text;
  for (const Mechanism& one : preferences) text += (text.empty() ? "" : ", ") + one.type();
  return text;
}

bool over(const CallContext& context) { return context.stop.stopped() || context.scheduler.now() >= context.deadline; }

}  // namespace

Element* Mechanisms::offer(const std::string& type) const {
  const auto found = offers_.find(type);
  return found == offers_.end() ? nullptr : found->second.get();
}

std::string Mechanisms::offered() const {
  std::string text;
  for (const auto& [type, element] : offers_) text += (text.empty() ? "" : ", ") + type;
  return text;
}

Task<Result<Connection>> Mechanisms::request(Call& call, NetworkServiceRequest request) {
  const std::string& named = request.connection().mechanism().type();
  if (!named.empty()) {
    if (offer(named) == nullptr) {
      co_return fail(Code::invalid_argument, "unsupported mechanism {}: ask for one of {}", named, offered());
    }
    co_return co_await attempt(call, std::move(request));
  }
  if (request.mechanism_preferences().empty()) {
    co_return fail(Code::invalid_argument, "{} asks for no mechanism: put one of {} into mechanism_preferences",
                   describe(request.connection()), offered());
  }

  std::optional<base::Error> only;
  std::string failures;
  for (int i = 0; i < request.mechanism_preferences_size(); ++i) {
    const Mechanism& preference = request.mechanism_preferences(i);
    if (offer(preference.type()) == nullptr) continue;
    NetworkServiceRequest copy = request;
    *copy.mutable_connection()->mutable_mechanism() = preference;
    auto connection = co_await attempt(call, std::move(copy));
    if (connection || over(call.context())) co_return connection;
    failures += fmt::format("{}{}: {}", failures.empty() ? "" : "; ", preference.type(), connection.error().message());
    only = only ? base::Error(Code::unknown, "") : connection.error();
  }
  if (!only) {
    co_return fail(Code::invalid_argument, "cannot support any of the requested mechanisms {}: ask for one of {}",
                   listed(request.mechanism_preferences()), offered());
  }
  co_return fail(only->code(), "cannot support any of the requested mechanisms: {}", failures);
}

Task<Result<Connection>> Mechanisms::attempt(Call& call, NetworkServiceRequest request) {
  const std::string type = request.connection().mechanism().type();
  auto& in_use = call.state().get<MechanismInUse>();
  if (const std::string old = in_use.connection.mechanism().type(); !old.empty() && old != type) {
    base::log::info("{} changes its mechanism from {} to {}", describe(request.connection()), old, type);
    Connection stale = std::exchange(in_use.connection, Connection());
    auto closed = co_await offer(old)->close(call, std::move(stale));
    if (!closed)
      base::log::warning("closing {} as {}: {}", describe(request.connection()), old, closed.error().message());
    call.context().established = false;  // nothing is left of it: a failure now undoes all
  }
  auto connection = co_await offer(type)->request(call, std::move(request));
  if (connection) in_use.connection = *connection;
  co_return connection;
}

Task<Result<void>> Mechanisms::close(Call& call, Connection connection) {
  const auto* in_use = call.state().find<MechanismInUse>();
  const std::string& in_state =
      in_use == nullptr ? connection.mechanism().type() : in_use->connection.mechanism().type();
  Element* element = offer(in_state.empty() ? connection.mechanism().type() : in_state);
  if (element == nullptr) co_return co_await call.next_close(std::move(connection));
  co_return co_await element->close(call, std::move(connection));
}

}  // namespace mesh
