// SPDX-License-Identifier: Apache-2.0
// The files one connection has brought: its workload's namespace, an endpoint's namespace. Kept per connection until
// Close, so that a refresh may name them again without sending them. Mechanism parameters name them by inode URL, in
// this process as on the wire.
#pragma once

#include <map>
#include <optional>
#include <string_view>

#include "rpc/descriptor.h"

namespace mesh {

class HeldDescriptors {
 public:
  void hold(rpc::Descriptor descriptor) { held_.insert_or_assign(descriptor.key(), std::move(descriptor)); }

  std::optional<rpc::Descriptor> find(rpc::InodeKey key) const {
    const auto found = held_.find(key);
    return found == held_.end() ? std::nullopt : std::optional(found->second);
  }

  // The file an inode URL names, if this connection has brought it.
  std::optional<rpc::Descriptor> find(std::string_view url) const {
    const auto key = rpc::parse_inode_url(url);
    return key ? find(*key) : std::nullopt;
  }

 private:
  std::map<rpc::InodeKey, rpc::Descriptor> held_;
};

}  // namespace mesh
