// SPDX-License-Identifier: Apache-2.0
#include "base/result.h"

#include <gtest/gtest.h>

#include <cerrno>

namespace base {
namespace {

TEST(Result, CodesBearGrpcsNames) {
  EXPECT_EQ(name_of(Code::ok), "OK");
  EXPECT_EQ(name_of(Code::deadline_exceeded), "DeadlineExceeded");
  EXPECT_EQ(name_of(Code::unauthenticated), "Unauthenticated");
  EXPECT_EQ(name_of(static_cast<Code>(17)), "Unknown");
}

TEST(Result, WrapPutsTheOuterNameInFrontAndKeepsTheCode) {
  const Result<int> failed = fail(Code::not_found, "service '{}' is unknown", "vpn");
  const Error wrapped = failed.error().wrap("manager");
  EXPECT_EQ(wrapped.code(), Code::not_found);
  EXPECT_EQ(wrapped.message(), "manager: service 'vpn' is unknown");
}

TEST(Result, ErrnoBecomesItsCode) {
  for (const auto& [number, code] : {std::pair{EPERM, Code::permission_denied},
                                     {EACCES, Code::permission_denied},
                                     {ENOENT, Code::not_found},
                                     {ENODEV, Code::not_found},
                                     {EEXIST, Code::already_exists},
                                     {EADDRINUSE, Code::already_exists},
                                     {EINVAL, Code::invalid_argument},
                                     {EMFILE, Code::resource_exhausted},
                                     {ENOSPC, Code::resource_exhausted},
                                     {ECONNREFUSED, Code::unavailable},
                                     {EPIPE, Code::unavailable},
                                     {ENETUNREACH, Code::unavailable},
                                     {EHOSTUNREACH, Code::unavailable},
                                     {ETIMEDOUT, Code::deadline_exceeded},
                                     {EOPNOTSUPP, Code::unimplemented},
                                     {EIO, Code::internal}}) {
    EXPECT_EQ(fail_errno(number, "open").error().code(), code) << number;
  }
  EXPECT_EQ(fail_errno(ENOENT, "open /x").error().message(), "open /x: No such file or directory");
}

}  // namespace
}  // namespace base
