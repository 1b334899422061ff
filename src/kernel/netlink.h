// SPDX-License-Identifier: Apache-2.0
// Route netlink, blocking: requests built with libnl, several in one system call, their answers read together.
// Reference: Linux Documentation/userspace-api/netlink/intro.rst, rtnetlink(7).
#pragma once

#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <netlink/msg.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "wire/address.h"

namespace kernel {

// One request. Every object and attribute of ours is small: 4 KB hold the largest by a factor of four.
class Message {
 public:
  template <typename Header>
  Message(std::uint16_t type, std::uint16_t flags, const Header& header) : Message(type, flags) {
    append(&header, sizeof header);
  }

  template <typename T>
  Message& put(int attribute, const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    return put_bytes(attribute, {reinterpret_cast<const std::uint8_t*>(&value), sizeof value});
  }
  Message& put_bytes(int attribute, std::span<const std::uint8_t> bytes);
  Message& put_text(int attribute, std::string_view text);  // with the terminating zero
  Message& put_address(int attribute, const wire::IpAddress& address) { return put_bytes(attribute, address.bytes()); }

  template <typename Fill>
  Message& nest(int attribute, Fill fill) {
    nlattr* start = nla_nest_start(message_.get(), attribute);
    if (start == nullptr) {
      complete_ = false;
      return *this;
    }
    fill(*this);
    nla_nest_end(message_.get(), start);
    return *this;
  }
  template <typename Header>
  Message& put_header(const Header& header) {  // inside a nest: the peer of a veth starts with one
    append(&header, sizeof header);
    return *this;
  }

  nlmsghdr* raw() { return nlmsg_hdr(message_.get()); }
  bool complete() const { return complete_; }  // nothing was left out for want of room

 private:
  struct Free {
    void operator()(nl_msg* message) const { nlmsg_free(message); }
  };

  Message(std::uint16_t type, std::uint16_t flags);
  void append(const void* bytes, std::size_t size);

  std::unique_ptr<nl_msg, Free> message_;
  bool complete_ = true;
};

// An object the kernel sent: header and attributes, checked against their lengths when they are taken out.
class Object {
 public:
  explicit Object(const nlmsghdr* message);

  std::uint16_t type() const { return header()->nlmsg_type; }
  const nlmsghdr* header() const { return reinterpret_cast<const nlmsghdr*>(bytes_.data()); }

  // Nothing if the message is too short for it.
  template <typename Header>
  const Header* payload() const {
    if (header()->nlmsg_len < NLMSG_LENGTH(sizeof(Header))) return nullptr;
    return static_cast<const Header*>(nlmsg_data(header()));
  }

  // The attributes after the header of that size; indices above the maximum are left out.
  template <std::size_t kMaximum>
  std::array<nlattr*, kMaximum + 1> attributes(std::size_t header_size) const {
    std::array<nlattr*, kMaximum + 1> out{};
    nlmsg_parse(const_cast<nlmsghdr*>(header()), static_cast<int>(header_size), out.data(), kMaximum, nullptr);
    return out;
  }

 private:
  std::vector<std::uint8_t> bytes_;
};

std::optional<std::uint32_t> u32_of(const nlattr* attribute);
std::string text_of(const nlattr* attribute);
std::optional<wire::IpAddress> address_of(const nlattr* attribute);

// What became of one request of a batch.
struct Reply {
  int error = 0;       // errno, 0 if done
  std::string reason;  // the kernel's own words, often empty
  std::vector<Object> objects;
};

// The reply's failure in a sentence that begins with what was tried.
std::unexpected<base::Error> fail_reply(const Reply& reply, std::string_view what);

// A socket belongs for ever to the namespace of the thread that made it, and keeps that namespace alive.
// Thread-safe: calls take turns.
class RouteSocket {
 public:
  static base::Result<std::unique_ptr<RouteSocket>> open();

  // Sends all requests in as few system calls as fit and waits for every answer, in order. The kernel goes on after a
  // request that fails. An Error means that the socket itself failed.
  base::Result<std::vector<Reply>> exchange(std::span<Message> batch);

  // One request; a refusal by the kernel is an Error that begins with what.
  base::Result<std::vector<Object>> request(Message message, std::string_view what);

  // Calls back with each object of the dump. A dump that the kernel says was disturbed is repeated: callers collect by
  // key or tolerate the repetition.
  base::Result<void> dump(Message message, std::string_view what, const std::function<void(const Object&)>& each);

 private:
  explicit RouteSocket(base::UniqueFd fd) : fd_(std::move(fd)), buffer_(kBufferBytes) {}

  // The kernel answers dumps in pieces of at most 32 KB.
  static constexpr std::size_t kBufferBytes = 65536;
  static constexpr std::size_t kBatchBytes = 32768;

  base::Result<std::span<std::uint8_t>> receive();

  std::mutex mutex_;
  base::UniqueFd fd_;
  std::uint32_t sequence_ = 0;
  std::vector<std::uint8_t> buffer_;
};

}  // namespace kernel
