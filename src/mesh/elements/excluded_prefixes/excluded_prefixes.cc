// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/excluded_prefixes/excluded_prefixes.h"

#include <algorithm>

#include "mesh/elements/client_info/client_info.h"

namespace mesh {

using base::Code;
using base::fail;
using base::Result;
using base::Task;
using connectioncontext::IPContext;
using wire::IpAddress;
using wire::Prefix;

namespace {

std::set<IpAddress> own_addresses(const IPContext& ip) {
  std::set<IpAddress> all;
  for (const auto* field : {&ip.src_ip_addrs(), &ip.dst_ip_addrs()}) {
    for (const std::string& text : *field) {
      if (const auto prefix = Prefix::parse_or_host(text)) all.insert(prefix->address());
    }
  }
  return all;
}

// With the host routes: what the others must leave alone.
std::set<IpAddress> used_addresses(const IPContext& ip) {
  std::set<IpAddress> all = own_addresses(ip);
  for (const auto* field : {&ip.src_routes(), &ip.dst_routes()}) {
    for (const auto& route : *field) {
      const auto prefix = Prefix::parse_or_host(route.prefix());
      if (prefix && prefix->is_host()) all.insert(prefix->address());
    }
  }
  return all;
}

// Labels that say where the client runs are not part of what it asks for, unless the group's URL has them.
bool same_labels(const Labels& wanted, const Labels& asked) {
  const auto where = [](const std::string& key) {
    return key == kNodeNameLabel || key == kPodNameLabel || key == kClusterNameLabel;
  };
  for (const auto& [key, value] : asked) {
    const auto found = wanted.find(key);
    if (found == wanted.end() ? !where(key) : found->second != value) return false;
  }
  return std::ranges::all_of(wanted, [&](const auto& one) { return asked.contains(one.first); });
}

bool matches(const NetworkServiceUrl& url, const Connection& connection, const Labels& labels,
             const Mechanism& mechanism) {
  if (url.service != connection.network_service() || url.mechanism != mechanism.type()) return false;
  if (!url.interface_name.empty() && url.interface_name != mechanism_parameter(mechanism, parameter::kName))
    return false;
  return same_labels(url.labels, labels);
}

}  // namespace

std::set<std::size_t> ExcludedPrefixes::groups_of(const NetworkServiceRequest& request) const {
  const Connection& connection = request.connection();
  const Labels labels = ordered(connection.labels());
  const auto is_member = [&](const NetworkServiceUrl& url) {
    if (!connection.mechanism().type().empty()) return matches(url, connection, labels, connection.mechanism());
    return std::ranges::any_of(request.mechanism_preferences(),
                               [&](const Mechanism& one) { return matches(url, connection, labels, one); });
  };
  std::set<std::size_t> found;
  for (std::size_t i = 0; i < groups_.size(); ++i) {
    if (std::ranges::any_of(groups_[i], is_member)) found.insert(i);
  }
  return found;
}

std::set<std::string> ExcludedPrefixes::used_by_others(const std::string& id, const Use& own) const {
  std::set<std::string> used;
  for (const auto& [other_id, other] : uses_) {
    const bool aware = std::ranges::any_of(other.groups, [&](std::size_t group) { return own.groups.contains(group); });
    if (other_id == id || aware) continue;
    for (const IpAddress& address : other.addresses) used.insert(Prefix::host(address).to_string());
    used.insert(other.told.begin(), other.told.end());
  }
  for (const IpAddress& address : own.addresses) used.erase(Prefix::host(address).to_string());
  return used;
}

Result<void> ExcludedPrefixes::validate(const Connection& connection, const Use& own,
                                        const std::set<std::string>& excluded) const {
  std::set<IpAddress> taken;
  for (const std::string& text : excluded) {
    const auto prefix = Prefix::parse_or_host(text);
    if (prefix && prefix->is_host()) taken.insert(prefix->address());
  }
  // Another request may have been answered while this one was on its way.
  for (const std::string& text : used_by_others(connection.id(), own)) {
    const auto prefix = Prefix::parse_or_host(text);
    if (prefix && prefix->is_host()) taken.insert(prefix->address());
  }
  for (const IpAddress& address : own_addresses(connection.context().ip_context())) {
    if (!taken.contains(address)) continue;
    return fail(
        Code::failed_precondition,
        "{} was given {}, which the request excluded because another connection uses it: give the endpoints different "
        "prefixes, or put them into one awareness group",
        describe(connection), address.to_string());
  }
  return {};
}

Task<Result<Connection>> ExcludedPrefixes::request(Call& call, NetworkServiceRequest request) {
  const std::string id = request.connection().id();
  IPContext& ip = *request.mutable_connection()->mutable_context()->mutable_ip_context();
  Use use;
  use.groups = groups_of(request);
  use.addresses = used_addresses(ip);
  std::set<std::string> excluded(ip.excluded_prefixes().begin(), ip.excluded_prefixes().end());
  std::set<std::string> added;
  for (const std::string& prefix : used_by_others(id, use)) {
    if (!excluded.insert(prefix).second) continue;
    added.insert(prefix);
    ip.add_excluded_prefixes(prefix);
  }

  auto connection = co_await call.next(std::move(request));
  if (!connection) co_return connection;
  if (auto valid = validate(*connection, use, excluded); !valid) {
    co_await call.undo_below(*connection);
    co_return std::unexpected(valid.error());
  }
  IPContext& answer = *connection->mutable_context()->mutable_ip_context();
  auto& told = *answer.mutable_excluded_prefixes();
  told.erase(std::remove_if(told.begin(), told.end(), [&](const std::string& one) { return added.contains(one); }),
             told.end());
  use.addresses = used_addresses(answer);
  use.told = std::set<std::string>(told.begin(), told.end());
  uses_.insert_or_assign(id, std::move(use));
  co_return connection;
}

Task<Result<void>> ExcludedPrefixes::close(Call& call, Connection connection) {
  const std::string id = connection.id();
  auto closed = co_await call.next_close(std::move(connection));
  uses_.erase(id);
  co_return closed;
}

}  // namespace mesh
