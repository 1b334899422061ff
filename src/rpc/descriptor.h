// SPDX-License-Identifier: Apache-2.0
// A file handed from process to process beside a call: an open descriptor and the (device, inode) pair that messages
// name it by, written inode://DEVICE/INODE in decimal. Copies share the descriptor; the last one closes it.
#pragma once

#include <compare>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"

namespace rpc {

struct InodeKey {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  auto operator<=>(const InodeKey&) const = default;
};

std::string inode_url(InodeKey key);
// Nothing if the text is not an inode URL.
std::optional<InodeKey> parse_inode_url(std::string_view text);

class Descriptor {
 public:
  // Opens the path as O_PATH: enough to name, connect to and pass on, not to read.
  static base::Result<Descriptor> open(const std::string& path);
  // Takes over a received descriptor; its key is what fstat says.
  static base::Result<Descriptor> adopt(base::UniqueFd fd);
  // A key without a file, for the simulator, whose kernel knows namespaces by key alone.
  static Descriptor simulated(InodeKey key) { return {key, nullptr}; }

  InodeKey key() const { return key_; }
  std::string url() const { return inode_url(key_); }
  int fd() const { return fd_ ? fd_->get() : -1; }
  // A path that opens the file while this object lives.
  std::string path() const;

  // Refers to the descriptor without keeping it open.
  std::weak_ptr<const base::UniqueFd> watch() const { return fd_; }
  const std::shared_ptr<const base::UniqueFd>& shared() const { return fd_; }
  Descriptor(InodeKey key, std::shared_ptr<const base::UniqueFd> fd) : key_(key), fd_(std::move(fd)) {}

 private:
  InodeKey key_;
  std::shared_ptr<const base::UniqueFd> fd_;
};

}  // namespace rpc
