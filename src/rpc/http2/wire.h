// SPDX-License-Identifier: Apache-2.0
// gRPC's spelling on the wire: timeouts, statuses, metadata, and messages behind a five-byte prefix. Pure functions.
// Reference: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/scheduler.h"
#include "rpc/transport.h"

namespace rpc::http2 {

// grpc-timeout: at most eight digits and a unit. Rounds up, so that the peer never gives up before us.
std::string encode_timeout(base::Duration timeout);
std::optional<base::Duration> decode_timeout(std::string_view text);

// grpc-message: bytes outside printable ASCII, and '%', as %XX. Decoding keeps what is not a valid escape as it is.
std::string percent_encode(std::string_view text);
std::string percent_decode(std::string_view text);

// Values of keys ending in "-bin" are bytes for us and base64 on the wire; padding is optional when read.
std::string base64_encode(std::string_view bytes);
std::optional<std::string> base64_decode(std::string_view text);
inline bool binary_key(std::string_view key) { return key.ends_with("-bin"); }

// Whether a call may carry this pair: the alphabet of the specification, and not one of the transport's own keys.
base::Result<void> check_metadata(std::string_view key, std::string_view value);
// Keys that belong to the transport; never shown to, or taken from, whoever makes a call.
bool reserved_key(std::string_view key);
// Adds a header that came in to the metadata, decoding binary values; reserved keys are skipped.
void add_header(Metadata& metadata, std::string_view key, std::string_view value);

base::Code code_of_status(std::string_view grpc_status);
base::Code code_of_http_status(int status);
base::Code code_of_reset(std::uint32_t http2_error);
std::string_view name_of_reset(std::uint32_t http2_error);

inline constexpr std::size_t kPrefixSize = 5;
std::array<char, kPrefixSize> message_prefix(std::size_t length);

// Cuts a stream of bytes into messages. A message over the limit is refused when its prefix is read.
class MessageReader {
 public:
  explicit MessageReader(std::size_t limit) : limit_(limit) {}

  // What grpc-encoding said; anything but identity makes a compressed message an error.
  void set_encoding(std::string_view encoding) { encoding_ = encoding; }

  base::Result<void> feed(std::string_view bytes, const std::function<void(Bytes)>& on_message);
  bool between_messages() const { return have_ == 0; }
  std::size_t held() const { return body_.size(); }

 private:
  base::Result<void> start_message();

  const std::size_t limit_;
  std::string encoding_ = "identity";
  std::array<char, kPrefixSize> prefix_{};
  std::size_t have_ = 0;  // bytes of the prefix
  std::size_t length_ = 0;
  Bytes body_;
};

}  // namespace rpc::http2
