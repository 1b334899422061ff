// SPDX-License-Identifier: Apache-2.0
#include "forwarder/vni_allocator.h"

#include <gmock/gmock.h>

namespace forwarder {
namespace {

using base::Code;
using ::testing::HasSubstr;

class VniAllocatorTest : public ::testing::Test {
 protected:
  static wire::IpAddress ip(const char* text) { return wire::IpAddress::parse(text).value(); }

  base::SeededRandom random{5};
  VniAllocator vnis{random};
  wire::IpAddress low = ip("10.0.0.1");
  wire::IpAddress high = ip("10.0.0.2");
};

TEST_F(VniAllocatorTest, IsEvenFromTheLowerAddressAndOddFromTheHigher) {
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(vnis.allocate("up" + std::to_string(i), 0, low, high).value() % 2, 0U);
    EXPECT_EQ(vnis.allocate("down" + std::to_string(i), 0, high, low).value() % 2, 1U);
  }
}

TEST_F(VniAllocatorTest, ComparesFamiliesInTheir16ByteForm) {
  // ::1 is below ::ffff:10.0.0.1, and 2001:db8::1 above it.
  EXPECT_EQ(vnis.allocate("a", 0, ip("::1"), low).value() % 2, 0U);
  EXPECT_EQ(vnis.allocate("b", 0, ip("2001:db8::1"), low).value() % 2, 1U);
}

TEST_F(VniAllocatorTest, EqualAddressesGetAnEvenOne) { EXPECT_EQ(vnis.allocate("a", 0, low, low).value() % 2, 0U); }

TEST_F(VniAllocatorTest, AConnectionKeepsItsOwn) {
  const auto first = vnis.allocate("a", 0, low, high).value();
  EXPECT_EQ(vnis.allocate("a", 0, low, high).value(), first);
  EXPECT_EQ(vnis.allocate("a", first, low, high).value(), first);
  EXPECT_EQ(vnis.size(), 1U);
}

TEST_F(VniAllocatorTest, GivesTheOneWanted) { EXPECT_EQ(vnis.allocate("a", 77, low, high).value(), 77U); }

TEST_F(VniAllocatorTest, RefusesOneInUseAndNamesItsOwner) {
  ASSERT_TRUE(vnis.allocate("a", 77, low, high));
  const auto refused = vnis.allocate("b", 77, low, high);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::already_exists);
  EXPECT_THAT(refused.error().message(), HasSubstr("VNI 77 is in use on this node by connection a"));
  EXPECT_EQ(vnis.size(), 1U);
}

TEST_F(VniAllocatorTest, RefusesMoreThan24Bits) {
  EXPECT_EQ(vnis.allocate("a", 0x1000000, low, high).error().code(), Code::invalid_argument);
  EXPECT_TRUE(vnis.allocate("a", 0xFFFFFF, low, high));
}

TEST_F(VniAllocatorTest, AWishOtherThanItsOwnFreesTheOld) {
  ASSERT_TRUE(vnis.allocate("a", 77, low, high));
  ASSERT_TRUE(vnis.allocate("a", 78, low, high));
  EXPECT_TRUE(vnis.allocate("b", 77, low, high));
  EXPECT_EQ(vnis.size(), 2U);
}

TEST_F(VniAllocatorTest, WhatIsReleasedIsFree) {
  ASSERT_TRUE(vnis.allocate("a", 77, low, high));
  vnis.release("a");
  vnis.release("a");
  EXPECT_TRUE(vnis.allocate("b", 77, low, high));
}

}  // namespace
}  // namespace forwarder
