// SPDX-License-Identifier: Apache-2.0
// Internet and Ethernet addresses as values: parsed strictly, printed canonically, ordered. No I/O, no allocation but
// for text. References: RFC 4632 (prefixes), RFC 5952 (how IPv6 is written).
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace wire {

enum class Family : std::uint8_t { v4, v6 };

// An IPv4 or IPv6 address. Default: 0.0.0.0. Ordered by the 16-byte form, so that IPv4 sorts as ::ffff:a.b.c.d.
class IpAddress {
 public:
  using Bytes16 = std::array<std::uint8_t, 16>;

  constexpr IpAddress() : IpAddress(std::array<std::uint8_t, 4>{}) {}
  constexpr explicit IpAddress(const std::array<std::uint8_t, 4>& bytes)
      : mapped_{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, bytes[0], bytes[1], bytes[2], bytes[3]} {}
  constexpr explicit IpAddress(const Bytes16& bytes) : mapped_(bytes), family_(Family::v6) {}

  // Dotted decimal or RFC 4291 text; no zone, no prefix length, no leading zeros in decimals, no blanks.
  static base::Result<IpAddress> parse(std::string_view text);
  // 4 or 16 bytes in network order; nothing for any other size.
  static std::optional<IpAddress> from_bytes(std::span<const std::uint8_t> bytes);

  constexpr Family family() const { return family_; }
  constexpr bool is_v4() const { return family_ == Family::v4; }
  constexpr bool is_v6() const { return family_ == Family::v6; }
  constexpr unsigned bits() const { return is_v4() ? 32 : 128; }

  // Network order, 4 or 16 bytes; valid while this object lives.
  std::span<const std::uint8_t> bytes() const& { return std::span(mapped_).subspan(is_v4() ? 12 : 0); }
  std::span<const std::uint8_t> bytes() const&& = delete;
  constexpr const Bytes16& mapped() const { return mapped_; }

  bool is_unspecified() const;  // 0.0.0.0 or ::
  bool is_loopback() const;     // 127.0.0.0/8 or ::1
  bool is_link_local() const;   // 169.254.0.0/16 or fe80::/10
  bool is_multicast() const;    // 224.0.0.0/4 or ff00::/8

  // The neighbours in numeric order, of the same family; nothing beyond the last or before the first.
  std::optional<IpAddress> next() const;
  std::optional<IpAddress> previous() const;

  std::string to_string() const;  // RFC 5952 for IPv6

  auto operator<=>(const IpAddress&) const = default;

 private:
  Bytes16 mapped_;
  Family family_ = Family::v4;
};

// ADDRESS/LENGTH. The host bits are kept: 10.0.0.7/24 is an interface's address as well as the network 10.0.0.0/24.
class Prefix {
 public:
  constexpr Prefix() = default;  // 0.0.0.0/0
  // Requires length <= address.bits().
  constexpr Prefix(const IpAddress& address, unsigned length)
      : address_(address), length_(static_cast<std::uint8_t>(length)) {}
  static constexpr Prefix host(const IpAddress& address) { return {address, address.bits()}; }

  static base::Result<Prefix> parse(std::string_view text);
  // Also takes an address without a length, which means itself alone (/32 or /128).
  static base::Result<Prefix> parse_or_host(std::string_view text);

  constexpr const IpAddress& address() const { return address_; }
  constexpr unsigned length() const { return length_; }
  constexpr Family family() const { return address_.family(); }

  Prefix network() const;  // the host bits cleared
  bool is_host() const { return length_ == address_.bits(); }
  bool is_default() const { return length_ == 0; }

  bool contains(const IpAddress& address) const;
  bool contains(const Prefix& other) const;
  bool overlaps(const Prefix& other) const { return contains(other) || other.contains(*this); }

  IpAddress first() const;  // every host bit 0
  IpAddress last() const;   // every host bit 1

  std::string to_string() const;

  auto operator<=>(const Prefix&) const = default;

 private:
  IpAddress address_;
  std::uint8_t length_ = 0;
};

class MacAddress {
 public:
  using Bytes = std::array<std::uint8_t, 6>;

  constexpr MacAddress() = default;
  constexpr explicit MacAddress(const Bytes& bytes) : bytes_(bytes) {}

  // Six pairs of hexadecimal digits, all separated by ':' or all by '-'.
  static base::Result<MacAddress> parse(std::string_view text);

  constexpr const Bytes& bytes() const { return bytes_; }
  bool is_zero() const { return bytes_ == Bytes{}; }
  bool is_multicast() const { return (bytes_[0] & 1) != 0; }
  std::string to_string() const;  // lower case, ':'

  auto operator<=>(const MacAddress&) const = default;

 private:
  Bytes bytes_{};
};

}  // namespace wire
