// SPDX-License-Identifier: Apache-2.0
// How Patchbay reports failure: a value or an Error. Codes are gRPC's, so that an error can cross a process unchanged.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace base {

// Numbers are those of the gRPC status codes.
enum class Code : std::uint8_t {
  ok = 0,
  cancelled = 1,
  unknown = 2,
  invalid_argument = 3,
  deadline_exceeded = 4,
  not_found = 5,
  already_exists = 6,
  permission_denied = 7,
  resource_exhausted = 8,
  failed_precondition = 9,
  aborted = 10,
  out_of_range = 11,
  unimplemented = 12,
  internal = 13,
  unavailable = 14,
  data_loss = 15,
  unauthenticated = 16,
};

std::string_view name_of(Code code);

// One sentence: the value, the rule it broke, the remedy. Outer layers put their own name in front with wrap().
class Error {
 public:
  Error(Code code, std::string message) : code_(code), message_(std::move(message)) {}

  Code code() const { return code_; }
  const std::string& message() const { return message_; }

  Error wrap(std::string_view prefix) const { return {code_, fmt::format("{}: {}", prefix, message_)}; }

 private:
  Code code_;
  std::string message_;
};

template <typename T>
using Result = std::expected<T, Error>;

template <typename... Args>
std::unexpected<Error> fail(Code code, fmt::format_string<Args...> format, Args&&... args) {
  return std::unexpected<Error>(Error(code, fmt::format(format, std::forward<Args>(args)...)));
}

// The last system call's failure, as "what: reason". The code follows errno (EPERM: permission_denied, ...).
std::unexpected<Error> fail_errno(int error_number, std::string_view what);

}  // namespace base
