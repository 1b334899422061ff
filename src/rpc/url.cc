// SPDX-License-Identifier: Apache-2.0
#include "rpc/url.h"

#include <charconv>

#include "rpc/descriptor.h"

namespace rpc {

using base::Code;
using base::fail;

base::Result<Url> parse_url(std::string_view text) {
  Url url;
  url.text = std::string(text);
  if (parse_inode_url(text)) {
    url.scheme = UrlScheme::inode;
    return url;
  }
  if (text.starts_with("unix:")) {
    text.remove_prefix(5);
    if (text.starts_with("//")) text.remove_prefix(2);
    if (!text.starts_with('/')) {
      return fail(Code::invalid_argument, "URL '{}' has no absolute path: write unix:///path/to/socket", url.text);
    }
    if (text.size() > 107) {
      return fail(Code::invalid_argument, "URL '{}' names a path of {} bytes, a unix socket's may have 107: shorten it",
                  url.text, text.size());
    }
    url.scheme = UrlScheme::unix_socket;
    url.path = std::string(text);
    return url;
  }
  if (text.starts_with("tcp://")) text.remove_prefix(6);
  const auto colon = text.rfind(':');
  if (text.find('/') != std::string_view::npos || colon == std::string_view::npos) {
    return fail(Code::invalid_argument,
                "URL '{}' is not one Patchbay can reach: write unix:///path, tcp://host:port or host:port", url.text);
  }
  const auto digits = text.substr(colon + 1);
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), url.port);
  if (digits.empty() || error != std::errc{} || end != digits.data() + digits.size()) {
    return fail(Code::invalid_argument, "URL '{}' has the port '{}': a port is a number from 0 to 65535", url.text,
                digits);
  }
  auto host = text.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  url.host = std::string(host);
  return url;
}

}  // namespace rpc
