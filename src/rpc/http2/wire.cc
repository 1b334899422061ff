// SPDX-License-Identifier: Apache-2.0
#include "rpc/http2/wire.h"

#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <charconv>

namespace rpc::http2 {

using base::Code;
using base::fail;

namespace {

struct TimeoutUnit {
  char letter;
  std::int64_t nanoseconds;
};
constexpr std::array kTimeoutUnits{
    TimeoutUnit{'n', 1},
    TimeoutUnit{'u', 1'000},
    TimeoutUnit{'m', 1'000'000},
    TimeoutUnit{'S', 1'000'000'000},
    TimeoutUnit{'M', 60'000'000'000},
    TimeoutUnit{'H', 3'600'000'000'000},
};
constexpr std::int64_t kTimeoutLimit = 99'999'999;  // eight digits

constexpr std::string_view kHexDigits = "0123456789ABCDEF";

int hex_value(char digit) {
  if (digit >= '0' && digit <= '9') return digit - '0';
  if (digit >= 'A' && digit <= 'F') return digit - 'A' + 10;
  if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
  return -1;
}

constexpr std::string_view kBase64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

bool key_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
}

}  // namespace

std::string encode_timeout(base::Duration timeout) {
  const std::int64_t nanoseconds = std::max<std::int64_t>(timeout.count(), 0);
  for (const auto& unit : kTimeoutUnits) {
    const std::int64_t value = nanoseconds / unit.nanoseconds + (nanoseconds % unit.nanoseconds != 0 ? 1 : 0);
    if (value <= kTimeoutLimit) return fmt::format("{}{}", value, unit.letter);
  }
  return fmt::format("{}H", kTimeoutLimit);
}

std::optional<base::Duration> decode_timeout(std::string_view text) {
  if (text.size() < 2 || text.size() > 9) return std::nullopt;
  std::int64_t value = 0;
  const char* const last = text.data() + text.size() - 1;
  const auto [end, error] = std::from_chars(text.data(), last, value);
  if (error != std::errc{} || end != last || value < 0) return std::nullopt;
  for (const auto& unit : kTimeoutUnits) {
    if (unit.letter != text.back()) continue;
    std::int64_t nanoseconds = 0;
    if (__builtin_mul_overflow(value, unit.nanoseconds, &nanoseconds)) return base::Duration::max();
    return base::Duration(nanoseconds);
  }
  return std::nullopt;
}

std::string percent_encode(std::string_view text) {
  std::string encoded;
  encoded.reserve(text.size());
  for (const char c : text) {
    if (c >= 0x20 && c <= 0x7e && c != '%') {
      encoded += c;
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    encoded += '%';
    encoded += kHexDigits[byte >> 4];
    encoded += kHexDigits[byte & 15];
  }
  return encoded;
}

std::string percent_decode(std::string_view text) {
  std::string decoded;
  decoded.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size()) {
      const int high = hex_value(text[i + 1]);
      const int low = hex_value(text[i + 2]);
      if (high >= 0 && low >= 0) {
        decoded += static_cast<char>(high * 16 + low);
        i += 2;
        continue;
      }
    }
    decoded += text[i];
  }
  return decoded;
}

std::string base64_encode(std::string_view bytes) {
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  std::uint32_t bits = 0;
  int count = 0;
  for (const char c : bytes) {
    bits = bits << 8 | static_cast<unsigned char>(c);
    count += 8;
    for (; count >= 6; count -= 6) text += kBase64[bits >> (count - 6) & 63];
  }
  if (count > 0) text += kBase64[bits << (6 - count) & 63];
  return text;
}

std::optional<std::string> base64_decode(std::string_view text) {
  while (text.ends_with('=')) text.remove_suffix(1);
  if (text.size() % 4 == 1) return std::nullopt;
  std::string bytes;
  bytes.reserve(text.size() * 3 / 4);
  std::uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    const auto value = kBase64.find(c);
    if (value == std::string_view::npos) return std::nullopt;
    bits = bits << 6 | static_cast<std::uint32_t>(value);
    count += 6;
    if (count >= 8) {
      count -= 8;
      bytes += static_cast<char>(bits >> count & 255);
    }
  }
  return bytes;
}

bool reserved_key(std::string_view key) {
  static constexpr std::array<std::string_view, 15> reserved{"te",
                                                             "content-type",
                                                             "content-length",
                                                             "user-agent",
                                                             "grpc-timeout",
                                                             "grpc-status",
                                                             "grpc-message",
                                                             "grpc-encoding",
                                                             "host",
                                                             "grpc-accept-encoding",
                                                             "connection",
                                                             "grpc-status-details-bin",
                                                             "grpc-message-type",
                                                             "transfer-encoding",
                                                             "upgrade"};
  return key.starts_with(':') || std::ranges::find(reserved, key) != reserved.end();
}

base::Result<void> check_metadata(std::string_view key, std::string_view value) {
  if (key.empty() || !std::ranges::all_of(key, key_character)) {
    return fail(Code::invalid_argument, "metadata key '{}': a key is made of a-z, 0-9, '_', '-' and '.'",
                percent_encode(key));
  }
  if (reserved_key(key)) {
    return fail(Code::invalid_argument, "metadata key '{}' belongs to the transport: choose another", key);
  }
  if (!binary_key(key) && !std::ranges::all_of(value, [](char c) { return c >= 0x20 && c <= 0x7e; })) {
    return fail(Code::invalid_argument,
                "metadata '{}' has a value outside printable ASCII: end the key in -bin to carry bytes", key);
  }
  return {};
}

void add_header(Metadata& metadata, std::string_view key, std::string_view value) {
  if (reserved_key(key)) return;
  if (!binary_key(key)) {
    metadata.emplace(key, value);
    return;
  }
  while (true) {  // several binary values may share a header, separated by commas
    const auto comma = value.find(',');
    if (auto bytes = base64_decode(value.substr(0, comma))) metadata.emplace(key, std::move(*bytes));
    if (comma == std::string_view::npos) return;
    value.remove_prefix(comma + 1);
  }
}

base::Code code_of_status(std::string_view grpc_status) {
  int value = 0;
  const auto [end, error] = std::from_chars(grpc_status.data(), grpc_status.data() + grpc_status.size(), value);
  if (grpc_status.empty() || error != std::errc{} || end != grpc_status.data() + grpc_status.size())
    return Code::unknown;
  return value >= 0 && value <= static_cast<int>(Code::unauthenticated) ? static_cast<Code>(value) : Code::unknown;
}

base::Code code_of_http_status(int status) {
  switch (status) {
    case 400:
      return Code::internal;
    case 401:
      return Code::unauthenticated;
    case 403:
      return Code::permission_denied;
    case 404:
      return Code::unimplemented;
    case 429:
    case 502:
    case 503:
    case 504:
      return Code::unavailable;
    default:
      return Code::unknown;
  }
}

base::Code code_of_reset(std::uint32_t http2_error) {
  switch (http2_error) {
    case NGHTTP2_REFUSED_STREAM:
      return Code::unavailable;
    case NGHTTP2_CANCEL:
      return Code::cancelled;
    case NGHTTP2_ENHANCE_YOUR_CALM:
      return Code::resource_exhausted;
    case NGHTTP2_INADEQUATE_SECURITY:
      return Code::permission_denied;
    default:
      return Code::internal;
  }
}

std::string_view name_of_reset(std::uint32_t http2_error) { return nghttp2_http2_strerror(http2_error); }

std::array<char, kPrefixSize> message_prefix(std::size_t length) {
  return {0, static_cast<char>(length >> 24 & 255), static_cast<char>(length >> 16 & 255),
          static_cast<char>(length >> 8 & 255), static_cast<char>(length & 255)};
}

base::Result<void> MessageReader::start_message() {
  length_ = 0;
  for (std::size_t i = 1; i < kPrefixSize; ++i) length_ = length_ << 8 | static_cast<unsigned char>(prefix_[i]);
  if (prefix_[0] != 0 && prefix_[0] != 1) {
    return fail(Code::internal, "a message begins with the flag {}: 0 and 1 are the known ones",
                static_cast<unsigned char>(prefix_[0]));
  }
  if (prefix_[0] == 1 && encoding_ != "identity") {
    return fail(Code::unimplemented, "a message is compressed with '{}': send it as it is, with grpc-encoding identity",
                percent_encode(encoding_));
  }
  if (length_ > limit_) {
    return fail(Code::resource_exhausted, "a message has {} bytes, the limit is {}: send a smaller one", length_,
                limit_);
  }
  body_.clear();
  // Room is made as bytes come, not as they are announced.
  body_.reserve(std::min<std::size_t>(length_, 16384));
  return {};
}

base::Result<void> MessageReader::feed(std::string_view bytes, const std::function<void(Bytes)>& on_message) {
  while (true) {
    if (have_ < kPrefixSize) {
      const auto part = std::min(bytes.size(), kPrefixSize - have_);
      std::copy_n(bytes.data(), part, prefix_.data() + have_);
      have_ += part;
      bytes.remove_prefix(part);
      if (have_ < kPrefixSize) return {};
      if (auto started = start_message(); !started) return started;
    }
    const auto part = std::min(bytes.size(), length_ - body_.size());
    body_.append(bytes.substr(0, part));
    bytes.remove_prefix(part);
    if (body_.size() < length_) return {};
    have_ = 0;
    on_message(std::exchange(body_, Bytes{}));
    if (bytes.empty()) return {};
  }
}

}  // namespace rpc::http2
