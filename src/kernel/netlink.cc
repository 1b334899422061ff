// SPDX-License-Identifier: Apache-2.0
#include "kernel/netlink.h"

#include <sys/socket.h>
#include <sys/time.h>

#include <cerrno>
#include <system_error>
#include <utility>

namespace kernel {
namespace {

constexpr std::size_t kMessageBytes = 4096;
constexpr int kReceiveBufferBytes = 1 << 20;
// The kernel answers within the send; only a dump on a machine in distress takes long.
constexpr int kAnswerTimeoutSeconds = 10;
constexpr int kDumpAttempts = 5;

}  // namespace

Message::Message(std::uint16_t type, std::uint16_t flags) : message_(nlmsg_alloc_size(kMessageBytes)) {
  nlmsg_put(message_.get(), 0, 0, type, 0, flags | NLM_F_REQUEST);
}

void Message::append(const void* bytes, std::size_t size) {
  complete_ &= nlmsg_append(message_.get(), const_cast<void*>(bytes), size, NLMSG_ALIGNTO) == 0;
}

Message& Message::put_bytes(int attribute, std::span<const std::uint8_t> bytes) {
  complete_ &= nla_put(message_.get(), attribute, static_cast<int>(bytes.size()), bytes.data()) == 0;
  return *this;
}

Message& Message::put_text(int attribute, std::string_view text) {
  const std::string terminated(text);
  complete_ &= nla_put_string(message_.get(), attribute, terminated.c_str()) == 0;
  return *this;
}

Object::Object(const nlmsghdr* message)
    : bytes_(reinterpret_cast<const std::uint8_t*>(message),
             reinterpret_cast<const std::uint8_t*>(message) + message->nlmsg_len) {}

std::optional<std::uint32_t> u32_of(const nlattr* attribute) {
  if (attribute == nullptr || nla_len(attribute) < 4) return std::nullopt;
  return nla_get_u32(attribute);
}

std::string text_of(const nlattr* attribute) {
  if (attribute == nullptr) return {};
  const auto* text = static_cast<const char*>(nla_data(attribute));
  return {text, strnlen(text, static_cast<std::size_t>(nla_len(attribute)))};
}

std::optional<wire::IpAddress> address_of(const nlattr* attribute) {
  if (attribute == nullptr) return std::nullopt;
  return wire::IpAddress::from_bytes(
      {static_cast<const std::uint8_t*>(nla_data(attribute)), static_cast<std::size_t>(nla_len(attribute))});
}

std::unexpected<base::Error> fail_reply(const Reply& reply, std::string_view what) {
  if (reply.reason.empty()) return base::fail_errno(reply.error, what);
  return base::fail_errno(reply.error, fmt::format("{} ({})", what, reply.reason));
}

base::Result<std::unique_ptr<RouteSocket>> RouteSocket::open() {
  base::UniqueFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!fd) return base::fail_errno(errno, "cannot open a netlink socket");
  sockaddr_nl local{};
  local.nl_family = AF_NETLINK;
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&local), sizeof local) != 0) {
    return base::fail_errno(errno, "cannot bind a netlink socket");
  }
  const int on = 1;
  // Conveniences that older kernels may refuse: reasons in words, short acknowledgements, filtered dumps.
  ::setsockopt(fd.get(), SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on);
  ::setsockopt(fd.get(), SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on);
  ::setsockopt(fd.get(), SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof on);
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUFFORCE, &kReceiveBufferBytes, sizeof kReceiveBufferBytes);
  const timeval patience{.tv_sec = kAnswerTimeoutSeconds, .tv_usec = 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  return std::unique_ptr<RouteSocket>(new RouteSocket(std::move(fd)));
}

base::Result<std::span<std::uint8_t>> RouteSocket::receive() {
  for (;;) {
    const auto size = ::recv(fd_.get(), buffer_.data(), buffer_.size(), 0);
    if (size >= 0) return std::span(buffer_).first(static_cast<std::size_t>(size));
    if (errno == EINTR) continue;
    if (errno == EAGAIN) {
      return base::fail(base::Code::deadline_exceeded, "the kernel did not answer a netlink request within {} s",
                        kAnswerTimeoutSeconds);
    }
    return base::fail_errno(errno, "cannot read from a netlink socket");
  }
}

base::Result<std::vector<Reply>> RouteSocket::exchange(std::span<Message> batch) {
  const std::scoped_lock lock(mutex_);
  std::vector<Reply> replies(batch.size());
  std::vector<std::uint8_t> outgoing;
  std::size_t at = 0;
  while (at < batch.size()) {
    // Numbers are never reused, so an answer left over from an earlier failure cannot be mistaken for one of these.
    const std::uint32_t first = sequence_ + 1;
    const std::size_t begin = at;
    outgoing.clear();
    for (; at < batch.size(); ++at) {
      nlmsghdr* message = batch[at].raw();
      if (!batch[at].complete()) return base::fail(base::Code::internal, "a netlink request does not fit its buffer");
      if (!outgoing.empty() && outgoing.size() + message->nlmsg_len > kBatchBytes) break;
      message->nlmsg_flags |= NLM_F_ACK;
      message->nlmsg_seq = ++sequence_;
      const auto* bytes = reinterpret_cast<const std::uint8_t*>(message);
      outgoing.insert(outgoing.end(), bytes, bytes + message->nlmsg_len);
      outgoing.resize(NLMSG_ALIGN(outgoing.size()));
    }
    sockaddr_nl to_kernel{};
    to_kernel.nl_family = AF_NETLINK;
    while (::sendto(fd_.get(), outgoing.data(), outgoing.size(), 0, reinterpret_cast<const sockaddr*>(&to_kernel),
                    sizeof to_kernel) < 0) {
      if (errno != EINTR) return base::fail_errno(errno, "cannot send a netlink request");
    }
    for (std::size_t awaited = at - begin; awaited > 0;) {
      auto received = receive();
      if (!received) return std::unexpected(received.error());
      auto size = static_cast<int>(received->size());
      for (auto* message = reinterpret_cast<nlmsghdr*>(received->data()); nlmsg_ok(message, size);
           message = nlmsg_next(message, &size)) {
        const std::uint32_t offset = message->nlmsg_seq - first;
        if (offset >= at - begin) continue;
        auto& reply = replies[begin + offset];
        if (message->nlmsg_type != NLMSG_ERROR) {
          reply.objects.emplace_back(message);
          continue;
        }
        --awaited;
        const auto* error = static_cast<const nlmsgerr*>(nlmsg_data(message));
        reply.error = -error->error;
        if ((message->nlmsg_flags & NLM_F_ACK_TLVS) == 0) continue;
        std::array<nlattr*, NLMSGERR_ATTR_MAX + 1> attributes{};
        // Requests are not echoed (NETLINK_CAP_ACK), so the attributes follow at once.
        if ((message->nlmsg_flags & NLM_F_CAPPED) == 0) continue;
        nlmsg_parse(message, sizeof(nlmsgerr), attributes.data(), NLMSGERR_ATTR_MAX, nullptr);
        reply.reason = text_of(attributes[NLMSGERR_ATTR_MSG]);
      }
    }
  }
  return replies;
}

base::Result<std::vector<Object>> RouteSocket::request(Message message, std::string_view what) {
  auto replies = exchange({&message, 1});
  if (!replies) return std::unexpected(replies.error().wrap(what));
  auto& reply = replies->front();
  if (reply.error != 0) return fail_reply(reply, what);
  return std::move(reply.objects);
}

base::Result<void> RouteSocket::dump(Message message, std::string_view what,
                                     const std::function<void(const Object&)>& each) {
  const std::scoped_lock lock(mutex_);
  if (!message.complete()) return base::fail(base::Code::internal, "a netlink request does not fit its buffer");
  for (int attempt = 1;; ++attempt) {
    nlmsghdr* request = message.raw();
    request->nlmsg_flags |= NLM_F_DUMP;
    request->nlmsg_seq = ++sequence_;
    sockaddr_nl to_kernel{};
    to_kernel.nl_family = AF_NETLINK;
    while (::sendto(fd_.get(), request, request->nlmsg_len, 0, reinterpret_cast<const sockaddr*>(&to_kernel),
                    sizeof to_kernel) < 0) {
      if (errno != EINTR) return base::fail_errno(errno, what);
    }
    bool done = false;
    bool disturbed = false;
    while (!done) {
      auto received = receive();
      if (!received) return std::unexpected(received.error().wrap(what));
      auto size = static_cast<int>(received->size());
      for (auto* answer = reinterpret_cast<nlmsghdr*>(received->data()); !done && nlmsg_ok(answer, size);
           answer = nlmsg_next(answer, &size)) {
        if (answer->nlmsg_seq != sequence_) continue;
        disturbed |= (answer->nlmsg_flags & NLM_F_DUMP_INTR) != 0;
        if (answer->nlmsg_type == NLMSG_ERROR) {
          const int error = -static_cast<const nlmsgerr*>(nlmsg_data(answer))->error;
          return base::fail_errno(error, what);
        }
        done = answer->nlmsg_type == NLMSG_DONE;
        if (done && nlmsg_datalen(answer) >= static_cast<int>(sizeof(int))) {
          int status = 0;
          std::memcpy(&status, nlmsg_data(answer), sizeof status);
          if (status < 0) return base::fail_errno(-status, what);
        }
        if (!done) each(Object(answer));
      }
    }
    if (!disturbed || attempt == kDumpAttempts) return {};
  }
}

}  // namespace kernel
