// SPDX-License-Identifier: Apache-2.0
#include "mesh/core/chain.h"

#include <cxxabi.h>

#include <cstdlib>
#include <stdexcept>

#include "base/log.h"

namespace mesh {

using base::Result;
using base::Task;

Task<Result<Connection>> Call::next(NetworkServiceRequest request) {
  return chain_.request_at(position_ + 1, context_, std::move(request));
}

Task<Result<void>> Call::next_close(Connection connection) {
  return chain_.close_at(position_ + 1, context_, std::move(connection));
}

Task<void> Call::undo_below(const Connection& connection) {
  if (context_.established) co_return;
  CallContext undo(context_.scheduler, base::saturating_add(context_.scheduler.now(), context_.allowance), {});
  undo.metadata = context_.metadata;
  undo.link = context_.link;
  undo.state = context_.state;
  undo.events = context_.events;
  auto closed = co_await chain_.close_at(position_ + 1, undo, connection);
  if (!closed) base::log::warning("undo of {}: {}", describe(connection), closed.error().message());
}

Task<Result<Connection>> Chain::request_at(std::size_t position, CallContext& context,
                                           NetworkServiceRequest request) const {
  if (position == entries_.size()) co_return std::move(*request.mutable_connection());
  const Entry& entry = entries_[position];
  base::log::trace("request {} enters {}", request.connection().id(), entry.name);
  Call call(context, *this, position);
  auto connection = co_await entry.element->request(call, std::move(request));
  if (!connection) {
    base::log::trace("request fails in or below {}: {}", entry.name, connection.error().message());
  } else {
    base::log::trace("request {} leaves {}", connection->id(), entry.name);
  }
  co_return connection;
}

Task<Result<void>> Chain::close_at(std::size_t position, CallContext& context, Connection connection) const {
  if (position == entries_.size()) co_return Result<void>();
  const Entry& entry = entries_[position];
  base::log::trace("close {} enters {}", connection.id(), entry.name);
  Call call(context, *this, position);
  co_return co_await entry.element->close(call, std::move(connection));
}

std::vector<std::string_view> Chain::names() const {
  std::vector<std::string_view> names;
  names.reserve(entries_.size());
  for (const Entry& entry : entries_) names.emplace_back(entry.name);
  return names;
}

std::string ChainBuilder::type_name(const std::type_info& type) {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> text(abi::__cxa_demangle(type.name(), nullptr, nullptr, &status),
                                                    std::free);
  return status == 0 ? text.get() : type.name();
}

void ChainBuilder::require(const std::string& name, std::type_index type, const std::string& needed) const {
  if (given_.contains(type)) return;
  throw std::logic_error("element " + name + " needs " + needed + ", which no element above it gives");
}

}  // namespace mesh
