// SPDX-License-Identifier: Apache-2.0
#include "base/base64url.h"

#include <gtest/gtest.h>

namespace base {
namespace {

TEST(Base64UrlTest, GoesBothWays) {
  for (const std::string bytes : {"", "a", "ab", "abc", "\xff\xfe\xfd\x00z"}) {
    EXPECT_EQ(base64url_decode(base64url_encode(bytes)), bytes);
  }
  EXPECT_EQ(base64url_encode("\xfb\xff"), "-_8");
}

TEST(Base64UrlTest, RefusesOtherLettersLengthsAndSpareBits) {
  for (const std::string text : {"a", "ab=", "a+bc", "a/bc", "ab c", "-_9"}) {
    EXPECT_EQ(base64url_decode(text), std::nullopt) << text;
  }
}

}  // namespace
}  // namespace base
