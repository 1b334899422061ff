// SPDX-License-Identifier: Apache-2.0
#include "rpc/http2/transport.h"

#include "rpc/http2/channel.h"
#include "rpc/http2/listener.h"

namespace rpc::http2 {

using base::Code;
using base::fail;

namespace {

NoCredentials& no_credentials() {
  static NoCredentials none;
  return none;
}

Plaintext& plaintext() {
  static Plaintext plain;
  return plain;
}

// One name for the spellings of a peer.
std::string key_of(const Url& url) {
  switch (url.scheme) {
    case UrlScheme::unix_socket:
      return "unix:" + url.path;
    case UrlScheme::tcp:
      return fmt::format("tcp:{}:{}", url.host, url.port);
    case UrlScheme::inode:
      return url.text;
  }
  return url.text;
}

}  // namespace

Transport::Transport(base::EventLoop& loop, const Limits& limits)
    : Transport(loop, no_credentials(), plaintext(), limits) {}

Transport::Transport(base::EventLoop& loop, CallCredentials& credentials, Security& security, const Limits& limits)
    : loop_(loop),
      limits_(limits),
      security_(security),
      client_core_(std::make_shared<ClientCore>(loop, limits, credentials, security)),
      sweep_(loop) {}

Transport::~Transport() = default;

base::Result<std::shared_ptr<Channel>> Transport::channel(const std::string& url, std::optional<Descriptor> socket) {
  auto parsed = parse_url(url);
  if (!parsed) return std::unexpected(parsed.error());
  if (parsed->scheme == UrlScheme::inode) {
    if (!socket || socket->fd() < 0) {
      return fail(Code::failed_precondition, "cannot reach {}: the socket's descriptor has to come with its URL", url);
    }
    if (socket->key() != parse_inode_url(url)) {
      return fail(Code::invalid_argument, "cannot reach {}: the descriptor given is that of {}", url, socket->url());
    }
  } else {
    socket.reset();  // the path or the address says all
  }
  const auto key = key_of(*parsed);
  const auto known = channels_.find(key);
  auto channel = known == channels_.end() ? nullptr : known->second.lock();
  if (!channel) {
    std::erase_if(channels_, [](const auto& entry) { return entry.second.expired(); });
    channel = std::make_shared<Http2Channel>(client_core_, std::move(*parsed), std::move(socket));
    channels_[key] = channel;
  }
  if (limits_.linger > base::Duration::zero()) {
    if (lingering_.empty()) sweep_.set(loop_.now() + limits_.linger, [this] { sweep(); });
    lingering_[key] = {channel, loop_.now() + limits_.linger};
  }
  return channel;
}

void Transport::sweep() {
  const auto now = loop_.now();
  std::erase_if(lingering_, [now](const auto& entry) { return entry.second.until <= now; });
  if (!lingering_.empty()) sweep_.set(now + limits_.linger / 2, [this] { sweep(); });
}

base::Result<std::unique_ptr<Listener>> Transport::listen(const std::string& url, const Services& services) {
  const auto parsed = parse_url(url);
  if (!parsed) return std::unexpected(parsed.error());
  return http2::listen(loop_, *parsed, services, limits_, security_);
}

}  // namespace rpc::http2
