// SPDX-License-Identifier: Apache-2.0
#include "wire/address.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <utility>

namespace wire {
namespace {

// The longest text inet_pton can accept is 45 characters; more is refused before it is copied.
constexpr std::size_t kMaxAddressText = 45;
constexpr unsigned kMappedBits = 96;  // an IPv4 address follows these in the 16-byte form

// Bounds what a hostile value may add to a message.
std::string shown(std::string_view text) {
  constexpr std::size_t kMaxShown = 80;
  std::string out;
  for (const char c : text.substr(0, kMaxShown)) out += (c >= ' ' && c <= '~') ? c : '?';
  if (text.size() > kMaxShown) out += "...";
  return out;
}

IpAddress with_host_bits(const IpAddress& address, unsigned length, bool ones) {
  auto bytes = address.mapped();
  for (unsigned bit = length + (address.is_v4() ? kMappedBits : 0); bit < 128;) {
    const unsigned kept = bit % 8;  // leading bits of this byte that belong to the network
    const auto host = static_cast<std::uint8_t>(0xffU >> kept);
    auto& byte = bytes[bit / 8];
    byte = static_cast<std::uint8_t>(ones ? byte | host : byte & ~host);
    bit += 8 - kept;
  }
  if (address.is_v6()) return IpAddress(bytes);
  return IpAddress(std::array<std::uint8_t, 4>{bytes[12], bytes[13], bytes[14], bytes[15]});
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

base::Result<IpAddress> IpAddress::parse(std::string_view text) {
  if (text.size() <= kMaxAddressText && text.find('\0') == std::string_view::npos) {
    const std::string terminated(text);
    std::array<std::uint8_t, 4> four{};
    if (inet_pton(AF_INET, terminated.c_str(), four.data()) == 1) return IpAddress(four);
    Bytes16 sixteen{};
    if (inet_pton(AF_INET6, terminated.c_str(), sixteen.data()) == 1) return IpAddress(sixteen);
  }
  return base::fail(
      base::Code::invalid_argument,
      "\"{}\" is not an IP address: write it like 192.0.2.1 or 2001:db8::1, without prefix length or zone",
      shown(text));
}

std::optional<IpAddress> IpAddress::from_bytes(std::span<const std::uint8_t> bytes) {
  if (bytes.size() == 4) return IpAddress(std::array<std::uint8_t, 4>{bytes[0], bytes[1], bytes[2], bytes[3]});
  if (bytes.size() != 16) return std::nullopt;
  Bytes16 sixteen{};
  std::ranges::copy(bytes, sixteen.begin());
  return IpAddress(sixteen);
}

bool IpAddress::is_unspecified() const {
  return std::ranges::all_of(bytes(), [](std::uint8_t byte) { return byte == 0; });
}

bool IpAddress::is_loopback() const {
  if (is_v4()) return mapped_[12] == 127;
  return mapped_[15] == 1 &&
         std::all_of(mapped_.begin(), mapped_.end() - 1, [](std::uint8_t byte) { return byte == 0; });
}

bool IpAddress::is_link_local() const {
  if (is_v4()) return mapped_[12] == 169 && mapped_[13] == 254;
  return mapped_[0] == 0xfe && (mapped_[1] & 0xc0) == 0x80;
}

bool IpAddress::is_multicast() const { return is_v4() ? (mapped_[12] & 0xf0) == 0xe0 : mapped_[0] == 0xff; }

std::optional<IpAddress> IpAddress::next() const {
  IpAddress out = *this;
  for (std::size_t i = 16; i > (is_v4() ? 12U : 0U); --i) {
    if (++out.mapped_[i - 1] != 0) return out;
  }
  return std::nullopt;
}

std::optional<IpAddress> IpAddress::previous() const {
  IpAddress out = *this;
  for (std::size_t i = 16; i > (is_v4() ? 12U : 0U); --i) {
    if (out.mapped_[i - 1]-- != 0) return out;
  }
  return std::nullopt;
}

std::string IpAddress::to_string() const {
  if (is_v4()) return fmt::format("{}.{}.{}.{}", mapped_[12], mapped_[13], mapped_[14], mapped_[15]);

  std::array<unsigned, 8> groups{};
  for (std::size_t i = 0; i < 8; ++i) groups[i] = mapped_[2 * i] * 256U + mapped_[2 * i + 1];
  if (std::all_of(groups.begin(), groups.begin() + 5, [](unsigned group) { return group == 0; }) &&
      groups[5] == 0xffff) {
    return fmt::format("::ffff:{}.{}.{}.{}", mapped_[12], mapped_[13], mapped_[14], mapped_[15]);
  }
  // RFC 5952 4.2: the first of the longest runs of at least two zero groups is shortened.
  std::size_t run_at = 8;
  std::size_t run_length = 1;
  for (std::size_t i = 0; i < 8; ++i) {
    std::size_t end = i;
    while (end < 8 && groups[end] == 0) ++end;
    if (end - i > run_length) {
      run_at = i;
      run_length = end - i;
    }
  }
  std::string out;
  for (std::size_t i = 0; i < 8; ++i) {
    if (i == run_at) {
      out += "::";
      i += run_length - 1;
      continue;
    }
    if (!out.empty() && out.back() != ':') out += ':';
    out += fmt::format("{:x}", groups[i]);
  }
  return out;
}

base::Result<Prefix> Prefix::parse(std::string_view text) {
  const auto malformed = [text](std::string_view why) {
    return base::fail(base::Code::invalid_argument,
                      "\"{}\" is not a prefix: {}; write it as ADDRESS/LENGTH, like 192.0.2.0/24 or 2001:db8::/64",
                      shown(text), why);
  };
  const auto slash = text.find('/');
  if (slash == std::string_view::npos) return malformed("it has no /LENGTH");
  const auto address = IpAddress::parse(text.substr(0, slash));
  if (!address) return malformed("what stands before the slash is not an IP address");

  const auto digits = text.substr(slash + 1);
  unsigned length = 0;
  const auto [end, status] = std::from_chars(digits.data(), digits.data() + digits.size(), length);
  const bool leading_zero = digits.size() > 1 && digits.front() == '0';
  if (status != std::errc{} || end != digits.data() + digits.size() || leading_zero) {
    return malformed("what follows the slash is not a decimal number");
  }
  if (length > address->bits()) {
    return malformed(address->is_v4() ? "an IPv4 prefix has at most 32 bits" : "an IPv6 prefix has at most 128 bits");
  }
  return Prefix(*address, length);
}

base::Result<Prefix> Prefix::parse_or_host(std::string_view text) {
  if (text.find('/') != std::string_view::npos) return parse(text);
  const auto address = IpAddress::parse(text);
  if (address) return host(*address);
  return base::fail(
      base::Code::invalid_argument,
      "\"{}\" is neither an IP address nor a prefix: write it like 192.0.2.1, 192.0.2.0/24 or 2001:db8::/64",
      shown(text));
}

Prefix Prefix::network() const { return {first(), length_}; }

bool Prefix::contains(const IpAddress& address) const {
  return address.family() == family() && with_host_bits(address, length_, false) == first();
}

bool Prefix::contains(const Prefix& other) const { return other.length_ >= length_ && contains(other.address_); }

IpAddress Prefix::first() const { return with_host_bits(address_, length_, false); }
IpAddress Prefix::last() const { return with_host_bits(address_, length_, true); }

std::string Prefix::to_string() const { return fmt::format("{}/{}", address_.to_string(), length_); }

base::Result<MacAddress> MacAddress::parse(std::string_view text) {
  constexpr std::size_t kLength = 17;
  Bytes bytes{};
  bool well_formed = text.size() == kLength && (text[2] == ':' || text[2] == '-');
  for (std::size_t i = 0; well_formed && i < bytes.size(); ++i) {
    const int high = hex_digit(text[3 * i]);
    const int low = hex_digit(text[3 * i + 1]);
    well_formed = high >= 0 && low >= 0 && (i == bytes.size() - 1 || text[3 * i + 2] == text[2]);
    if (well_formed) bytes[i] = static_cast<std::uint8_t>(high * 16 + low);
  }
  if (well_formed) return MacAddress(bytes);
  return base::fail(base::Code::invalid_argument,
                    "\"{}\" is not an Ethernet address: write six pairs of hexadecimal digits, like 02:00:5e:10:00:01",
                    shown(text));
}

std::string MacAddress::to_string() const {
  return fmt::format("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", bytes_[0], bytes_[1], bytes_[2], bytes_[3], bytes_[4],
                     bytes_[5]);
}

}  // namespace wire
