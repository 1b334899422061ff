// SPDX-License-Identifier: Apache-2.0
#include "sim/network.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "sim/connection.h"

namespace sim {

using base::Code;
using base::fail;

Faults Faults::drawn(base::Random& random) {
  Faults faults;
  const auto odds = [&random](std::uint32_t most) {
    return chance(random, 250'000) ? 0 : static_cast<std::uint32_t>(base::uniform(random, most + 1));
  };
  faults.remote_max = between(random, microseconds(300), milliseconds(30));
  faults.local_max = between(random, microseconds(50), milliseconds(2));
  faults.retransmit = odds(20'000);
  faults.reset = odds(5'000);
  faults.half_open = odds(500'000);
  faults.late_descriptor = odds(300'000);
  return faults;
}

Network::Network(World& world, Faults faults)
    : world_(world), random_(world.random_for("network")), faults_(std::move(faults)) {}

void Network::add_node(const std::string& node, const std::string& address) {
  addresses_[node] = address;
  hosts_[node] = node;
  hosts_[address] = node;
}

void Network::add_alias(const std::string& host, const std::string& node) { hosts_[host] = node; }

void Network::partition(const std::string& a, const std::string& b) {
  if (!partitions_.emplace(std::min(a, b), std::max(a, b)).second) return;
  world_.god().log(fmt::format("partition between {} and {}", a, b));
  // Idle connections across it: keepalive notices, if it lasts.
  const auto generation = ++partition_generation_;
  for (const auto& [key, weak] : ends_) {
    const auto end = weak.lock();
    if (!end || end->broken() || !end->crosses(a, b)) continue;
    end->process().post_at(world_.now() + keepalive(), [this, weak, a, b, generation] {
      const auto stuck = weak.lock();
      if (!stuck || generation != partition_generation_ || reachable(a, b)) return;
      stuck->give_up();
    });
  }
}

void Network::heal(const std::string& a, const std::string& b) {
  if (partitions_.erase({std::min(a, b), std::max(a, b)}) == 0) return;
  ++partition_generation_;
  world_.god().log(fmt::format("{} and {} reach each other again", a, b));
}

void Network::heal_all() {
  const auto all = partitions_;
  for (const auto& [a, b] : all) heal(a, b);
}

bool Network::reachable(const std::string& a, const std::string& b) const {
  return a == b || !partitions_.contains({std::min(a, b), std::max(a, b)});
}

base::Result<rpc::Descriptor> Network::open_socket(const std::string& node, const std::string& path) const {
  const auto found = by_address_.find(node + " " + path);
  const auto listener = found == by_address_.end() ? nullptr : found->second.lock();
  if (!listener) return fail(Code::not_found, "cannot open {} on {}: nothing listens there", path, node);
  return rpc::Descriptor(listener->inode, std::make_shared<const base::UniqueFd>());
}

std::size_t Network::connections() const {
  return static_cast<std::size_t>(std::ranges::count_if(ends_, [](const auto& entry) {
    const auto end = entry.second.lock();
    return end && !end->broken();
  }));
}

std::map<std::uint64_t, std::size_t> Network::open_calls() const {
  std::map<std::uint64_t, std::size_t> calls;
  for (const auto& [key, weak] : ends_) {
    if (const auto end = weak.lock(); end && !end->broken()) calls[key.first] += end->open_calls();
  }
  return calls;
}

base::Result<std::string> Network::node_of(const rpc::Url& url, const std::string& from) const {
  if (url.local()) return from;
  if (url.host.empty() || url.host == "0.0.0.0" || url.host == "::" || url.host == "127.0.0.1" ||
      url.host == "localhost") {
    return from;
  }
  const auto found = hosts_.find(url.host);
  if (found == hosts_.end()) return fail(Code::unavailable, "cannot resolve '{}': no node has this name", url.host);
  return found->second;
}

std::string Network::tcp_key(const std::string& node, std::uint16_t port) const {
  return fmt::format("{} :{}", node, port);
}

std::shared_ptr<ListenerState> Network::find(const rpc::Url& url, const std::string& from,
                                             const std::optional<rpc::Descriptor>& socket) const {
  if (url.scheme == rpc::UrlScheme::inode) {
    const auto key = socket ? std::optional(socket->key()) : rpc::parse_inode_url(url.text);
    const auto found = by_inode_.find(*key);
    return found == by_inode_.end() ? nullptr : found->second.lock();
  }
  const auto node = node_of(url, from);
  if (!node) return nullptr;
  const auto found =
      by_address_.find(url.scheme == rpc::UrlScheme::tcp ? tcp_key(*node, url.port) : from + " " + url.path);
  return found == by_address_.end() ? nullptr : found->second.lock();
}

base::Result<std::string> Network::enlist(const rpc::Url& url, const std::shared_ptr<ListenerState>& listener) {
  const std::string& node = listener->process().node();
  std::string key = node + " " + url.path;
  std::string text = url.text;
  if (url.scheme == rpc::UrlScheme::tcp) {
    const auto bound = node_of(url, node);
    if (!bound || *bound != node) {
      return fail(Code::invalid_argument, "cannot listen on '{}': the address is not {}'s", url.text, node);
    }
    std::uint16_t port = url.port;
    while (port == 0) {
      last_port_ = last_port_ == 60999 ? 32769 : static_cast<std::uint16_t>(last_port_ + 1);
      if (!by_address_.contains(tcp_key(node, last_port_))) port = last_port_;
    }
    key = tcp_key(node, port);
    const auto host = url.host.find(':') == std::string::npos ? url.host : "[" + url.host + "]";
    text = fmt::format("tcp://{}:{}", host, port);
  }
  if (const auto live = by_address_.find(key); live != by_address_.end() && !live->second.expired()) {
    return fail(Code::already_exists, "cannot listen on '{}': another process listens there", url.text);
  }
  listener->inode = {1, ++last_inode_};
  listener->url = text;
  by_address_[key] = listener;
  by_inode_[listener->inode] = listener;
  return text;
}

void Network::delist(const ListenerState& listener) {
  by_inode_.erase(listener.inode);
  std::erase_if(by_address_, [&listener](const auto& entry) {
    const auto known = entry.second.lock();
    return !known || known.get() == &listener;
  });
}

void Network::enlist(const std::shared_ptr<End>& end) {
  watch(end->process());
  ends_[{end->process().id(), end->serial()}] = end;
}

void Network::delist(const End& end) { ends_.erase({end.process().id(), end.serial()}); }

base::Duration Network::latency(bool local) {
  return local ? between(random_, faults_.local_min, faults_.local_max)
               : between(random_, faults_.remote_min, faults_.remote_max);
}

base::Duration Network::keepalive() { return between(random_, faults_.keepalive_min, faults_.keepalive_max); }

void Network::watch(Process& process) {
  if (!watched_.insert(process.id()).second) return;
  process.on_death([this, &process] { died(process); });
}

void Network::died(const Process& process) {
  std::vector<std::shared_ptr<ListenerState>> listeners;
  for (const auto& [inode, weak] : by_inode_) {
    if (auto listener = weak.lock(); listener && &listener->process() == &process) listeners.push_back(listener);
  }
  for (const auto& listener : listeners) listener->refuse();
  std::vector<std::shared_ptr<End>> ends;
  for (auto entry = ends_.lower_bound({process.id(), 0}); entry != ends_.end() && entry->first.first == process.id();
       ++entry) {
    if (auto end = entry->second.lock()) ends.push_back(std::move(end));
  }
  for (const auto& end : ends) end->die();
}

}  // namespace sim
