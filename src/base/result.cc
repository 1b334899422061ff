// SPDX-License-Identifier: Apache-2.0
#include "base/result.h"

#include <array>
#include <cerrno>
#include <system_error>

namespace base {

std::string_view name_of(Code code) {
  static constexpr std::array<std::string_view, 17> names{
      "OK",       "Canceled",       "Unknown",          "InvalidArgument",   "DeadlineExceeded",
      "NotFound", "AlreadyExists",  "PermissionDenied", "ResourceExhausted", "FailedPrecondition",
      "Aborted",  "OutOfRange",     "Unimplemented",    "Internal",          "Unavailable",
      "DataLoss", "Unauthenticated"};
  const auto index = static_cast<std::size_t>(code);
  return index < names.size() ? names[index] : "Unknown";
}

std::unexpected<Error> fail_errno(int error_number, std::string_view what) {
  Code code = Code::internal;
  switch (error_number) {
    case EPERM:
    case EACCES:
      code = Code::permission_denied;
      break;
    case ENOENT:
    case ENODEV:
      code = Code::not_found;
      break;
    case EEXIST:
    case EADDRINUSE:
      code = Code::already_exists;
      break;
    case EINVAL:
      code = Code::invalid_argument;
      break;
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case ENOSPC:
      code = Code::resource_exhausted;
      break;
    case ECONNREFUSED:
    case ECONNRESET:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EPIPE:
      code = Code::unavailable;
      break;
    case ETIMEDOUT:
      code = Code::deadline_exceeded;
      break;
    case ENOSYS:
    case EOPNOTSUPP:
      code = Code::unimplemented;
      break;
    default:
      break;
  }
  return fail(code, "{}: {}", what, std::system_category().message(error_number));
}

}  // namespace base
