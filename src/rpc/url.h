// SPDX-License-Identifier: Apache-2.0
// Where a peer listens, in the forms NSM uses: unix:///path, tcp://host:port, a bare host:port, inode://device/inode.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace rpc {

enum class UrlScheme { unix_socket, tcp, inode };

struct Url {
  UrlScheme scheme = UrlScheme::tcp;
  std::string path;        // unix_socket
  std::string host;        // tcp; empty means every address, when listening. IPv6 without brackets
  std::uint16_t port = 0;  // tcp
  std::string text;        // as it was given

  // Local peers share this machine's kernel: connections to them need no tunnel.
  bool local() const { return scheme != UrlScheme::tcp; }
};

base::Result<Url> parse_url(std::string_view text);

}  // namespace rpc
