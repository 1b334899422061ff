// SPDX-License-Identifier: Apache-2.0
// Addresses: what is accepted and how it is printed, what is refused and in which words, and the arithmetic's ends.
#include "wire/address.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace wire {
namespace {

using testing::AllOf;
using testing::HasSubstr;

IpAddress ip(std::string_view text) { return IpAddress::parse(text).value(); }
Prefix prefix(std::string_view text) { return Prefix::parse(text).value(); }

TEST(IpAddress, PrintsTheCanonicalForm) {
  const std::pair<const char*, const char*> cases[] = {
      {"192.0.2.1", "192.0.2.1"},
      {"2001:DB8:0:0:0:0:0:1", "2001:db8::1"},
      {"::", "::"},
      {"::1", "::1"},
      {"1::", "1::"},
      {"0:0:1:0:0:0:1:0", "0:0:1::1:0"},
      {"1:0:0:2:0:0:3:4", "1::2:0:0:3:4"},
      {"1:0:2:3:4:5:6:7", "1:0:2:3:4:5:6:7"},
      {"::ffff:192.0.2.1", "::ffff:192.0.2.1"},
      {"::1:2", "::1:2"},
      {"1:2:3:4:5:6:0:0", "1:2:3:4:5:6::"},
  };
  for (const auto& [text, canonical] : cases) EXPECT_EQ(ip(text).to_string(), canonical) << text;
}

TEST(IpAddress, RefusesWhatIsNotOne) {
  for (const char* text : {"", " ", "1.2.3", "1.2.3.4.5", "1.2.3.256", "01.2.3.4", "1.2.3.4 ", " 1.2.3.4", "1.2.3.4/32",
                           "::1%eth0", ":::", "1::2::3", "g::", "localhost"}) {
    const auto parsed = IpAddress::parse(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_EQ(parsed.error().code(), base::Code::invalid_argument);
    EXPECT_THAT(parsed.error().message(), AllOf(HasSubstr(text), HasSubstr("is not an IP address")));
  }
  EXPECT_FALSE(IpAddress::parse(std::string_view("1.2.3.4\0x", 9)));
  EXPECT_LT(IpAddress::parse(std::string(100000, '1')).error().message().size(), 300U);
}

TEST(IpAddress, ComparesByThe16ByteForm) {
  EXPECT_LT(ip("10.0.0.1"), ip("10.0.0.2"));
  EXPECT_LT(ip("::1"), ip("10.0.0.1"));
  EXPECT_LT(ip("255.255.255.255"), ip("2001:db8::1"));
  EXPECT_NE(ip("::ffff:10.0.0.1"), ip("10.0.0.1"));
  EXPECT_EQ(ip("::ffff:10.0.0.1").mapped(), ip("10.0.0.1").mapped());
}

TEST(IpAddress, CountsUpAndDownWithinItsFamily) {
  EXPECT_EQ(ip("10.0.0.255").next(), ip("10.0.1.0"));
  EXPECT_EQ(ip("2001:db8::ffff:ffff").next(), ip("2001:db8::1:0:0"));
  EXPECT_EQ(ip("10.0.1.0").previous(), ip("10.0.0.255"));
  EXPECT_EQ(ip("255.255.255.255").next(), std::nullopt);
  EXPECT_EQ(ip("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff").next(), std::nullopt);
  EXPECT_EQ(ip("0.0.0.0").previous(), std::nullopt);
}

TEST(IpAddress, TakesRawBytesOfEitherLength) {
  const auto four = ip("192.0.2.1");
  EXPECT_EQ(IpAddress::from_bytes(four.bytes()), four);
  const auto sixteen = ip("2001:db8::1");
  EXPECT_EQ(IpAddress::from_bytes(sixteen.bytes()), sixteen);
  EXPECT_EQ(IpAddress::from_bytes(sixteen.bytes().first(5)), std::nullopt);
}

TEST(IpAddress, KnowsItsKind) {
  EXPECT_TRUE(ip("0.0.0.0").is_unspecified() && ip("::").is_unspecified() && !ip("::1").is_unspecified());
  EXPECT_TRUE(ip("127.1.2.3").is_loopback() && ip("::1").is_loopback() && !ip("1::1").is_loopback());
  EXPECT_TRUE(ip("169.254.1.1").is_link_local() && ip("fe80::1").is_link_local() && !ip("fec0::1").is_link_local());
  EXPECT_TRUE(ip("224.0.0.1").is_multicast() && ip("ff02::1").is_multicast() && !ip("223.0.0.1").is_multicast());
}

TEST(Prefix, KeepsHostBitsAndPrintsThem) {
  EXPECT_EQ(prefix("10.0.0.7/24").to_string(), "10.0.0.7/24");
  EXPECT_EQ(prefix("10.0.0.7/24").network(), prefix("10.0.0.0/24"));
  EXPECT_EQ(prefix("2001:db8::7/64").network().to_string(), "2001:db8::/64");
  EXPECT_EQ(prefix("10.0.0.7/25").first(), ip("10.0.0.0"));
  EXPECT_EQ(prefix("10.0.0.7/25").last(), ip("10.0.0.127"));
  EXPECT_EQ(prefix("10.1.2.3/0").first(), ip("0.0.0.0"));
  EXPECT_EQ(prefix("10.1.2.3/0").last(), ip("255.255.255.255"));
  EXPECT_EQ(prefix("2001:db8::/33").last(), ip("2001:db8:7fff:ffff:ffff:ffff:ffff:ffff"));
  EXPECT_EQ(prefix("10.1.2.3/32").last(), ip("10.1.2.3"));
}

TEST(Prefix, ContainsOnlyItsOwnFamily) {
  EXPECT_TRUE(prefix("0.0.0.0/0").contains(ip("1.2.3.4")));
  EXPECT_FALSE(prefix("0.0.0.0/0").contains(ip("::1")));
  EXPECT_FALSE(prefix("::/0").contains(ip("1.2.3.4")));
  EXPECT_TRUE(prefix("10.0.0.9/24").contains(ip("10.0.0.255")));
  EXPECT_FALSE(prefix("10.0.0.9/24").contains(ip("10.0.1.0")));
  EXPECT_TRUE(prefix("10.0.0.0/23").contains(prefix("10.0.1.0/24")));
  EXPECT_FALSE(prefix("10.0.1.0/24").contains(prefix("10.0.0.0/23")));
  EXPECT_TRUE(prefix("10.0.1.0/24").overlaps(prefix("10.0.0.0/23")));
  EXPECT_FALSE(prefix("10.0.1.0/24").overlaps(prefix("10.0.2.0/24")));
}

TEST(Prefix, RefusesWhatIsNotOne) {
  for (const char* text :
       {"", "/", "10.0.0.1", "10.0.0.1/", "10.0.0.1/33", "::/129", "10.0.0.1/-1", "10.0.0.1/+1", "10.0.0.1/1x",
        "10.0.0.1/ 1", "10.0.0.1/01", "x/8", "10.0.0.1/8/8", "10.0.0.1/99999999999"}) {
    const auto parsed = Prefix::parse(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_EQ(parsed.error().code(), base::Code::invalid_argument);
    EXPECT_THAT(parsed.error().message(), AllOf(HasSubstr(text), HasSubstr("ADDRESS/LENGTH")));
  }
}

TEST(Prefix, TakesAnAddressForItselfAloneWhereAsked) {
  EXPECT_EQ(Prefix::parse_or_host("10.0.0.1"), prefix("10.0.0.1/32"));
  EXPECT_EQ(Prefix::parse_or_host("::1"), prefix("::1/128"));
  EXPECT_EQ(Prefix::parse_or_host("10.0.0.0/8"), prefix("10.0.0.0/8"));
  EXPECT_FALSE(Prefix::parse_or_host("ten"));
  EXPECT_TRUE(prefix("::1/128").is_host());
  EXPECT_FALSE(prefix("::1/32").is_host());
}

TEST(MacAddress, ParsesAndPrints) {
  EXPECT_EQ(MacAddress::parse("02:00:5E:10:00:fF").value().to_string(), "02:00:5e:10:00:ff");
  EXPECT_EQ(MacAddress::parse("02-00-5e-10-00-01").value().to_string(), "02:00:5e:10:00:01");
  EXPECT_TRUE(MacAddress::parse("01:00:5e:00:00:01").value().is_multicast());
  for (const char* text : {"", "02:00:5e:10:00", "02:00:5e:10:00:0", "02:00:5e:10:00:011", "02:00:5e:10:00:0g",
                           "02:00-5e:10:00:01", "02005e100001", "02.00.5e.10.00.01"}) {
    const auto parsed = MacAddress::parse(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_THAT(parsed.error().message(), AllOf(HasSubstr(text), HasSubstr("is not an Ethernet address")));
  }
}

}  // namespace
}  // namespace wire
