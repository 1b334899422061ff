// SPDX-License-Identifier: Apache-2.0
#include "rpc/http2/wire.h"

#include <gtest/gtest.h>
#include <nghttp2/nghttp2.h>

namespace rpc::http2 {
namespace {

using namespace std::chrono_literals;

TEST(Timeout, IsWrittenInAtMostEightDigitsRoundedUp) {
  EXPECT_EQ(encode_timeout(0ns), "0n");
  EXPECT_EQ(encode_timeout(-5s), "0n");
  EXPECT_EQ(encode_timeout(99'999'999ns), "99999999n");
  EXPECT_EQ(encode_timeout(100'000'000ns), "100000u");
  EXPECT_EQ(encode_timeout(100'000'001ns), "100001u");
  EXPECT_EQ(encode_timeout(15s), "15000000u");
  EXPECT_EQ(encode_timeout(24h), "86400000m");
}

TEST(Timeout, LongestIsReadAsForEver) {
  const auto text = encode_timeout(base::Duration::max());
  EXPECT_LE(text.size(), 9U);
  EXPECT_GE(decode_timeout(text).value_or(0ns), base::Duration::max() - 1h);
  EXPECT_EQ(decode_timeout("99999999H"), base::Duration::max());
}

TEST(Timeout, IsReadInAllItsUnits) {
  EXPECT_EQ(decode_timeout("1H"), 1h);
  EXPECT_EQ(decode_timeout("2M"), 2min);
  EXPECT_EQ(decode_timeout("3S"), 3s);
  EXPECT_EQ(decode_timeout("4m"), 4ms);
  EXPECT_EQ(decode_timeout("5u"), 5us);
  EXPECT_EQ(decode_timeout("6n"), 6ns);
}

TEST(Timeout, GarbageIsRefused) {
  for (const auto* text : {"", "S", "1", "1x", "-1S", "+1S", "1.5S", " 1S", "123456789S", "1S "}) {
    EXPECT_EQ(decode_timeout(text), std::nullopt) << text;
  }
}

TEST(PercentEncoding, KeepsPrintableAsciiAndEscapesTheRest) {
  EXPECT_EQ(percent_encode("plain text!"), "plain text!");
  EXPECT_EQ(percent_encode("100%\n\xc3\xa4\x7f"), "100%25%0A%C3%A4%7F");
  EXPECT_EQ(percent_decode("100%25%0a%C3%a4"), "100%\n\xc3\xa4");
}

TEST(PercentEncoding, InvalidEscapesAreKept) {
  for (const auto* text : {"%", "%1", "%zz", "100% sure", "%G0"}) EXPECT_EQ(percent_decode(text), text);
  EXPECT_EQ(percent_decode("%%41"), "%A");
}

TEST(Base64, RoundTripsWithAndWithoutPadding) {
  std::string bytes;
  for (int i = 0; i < 64; ++i) {
    auto text = base64_encode(bytes);
    EXPECT_EQ(base64_decode(text), bytes) << i;
    while (text.size() % 4 != 0) text += '=';
    EXPECT_EQ(base64_decode(text), bytes) << i;
    bytes += static_cast<char>(i * 37 + 200);
  }
  EXPECT_EQ(base64_encode("hello"), "aGVsbG8");
  EXPECT_EQ(base64_decode("a"), std::nullopt);
  EXPECT_EQ(base64_decode("a?=="), std::nullopt);
}

TEST(MetadataRules, KeysAndValuesHaveTheirAlphabets) {
  EXPECT_TRUE(check_metadata("a-key_1.x", "some value~"));
  EXPECT_TRUE(check_metadata("raw-bin", std::string("\0\xff", 2)));
  for (const auto* key : {"", "Key", "a key", "k\xc3\xa4", ":path", "grpc-status", "te", "content-type"}) {
    EXPECT_FALSE(check_metadata(key, "x")) << key;
  }
  EXPECT_FALSE(check_metadata("key", "line\nbreak"));
  EXPECT_FALSE(check_metadata("key", "\xc3\xa4"));
}

TEST(MetadataRules, BinaryValuesMayShareAHeader) {
  Metadata metadata;
  add_header(metadata, "x-bin", "aGVsbG8,d29ybGQ=");
  add_header(metadata, "grpc-status", "0");
  EXPECT_EQ(metadata, (Metadata{{"x-bin", "hello"}, {"x-bin", "world"}}));
}

TEST(Codes, FollowTheSpecification) {
  EXPECT_EQ(code_of_status("0"), base::Code::ok);
  EXPECT_EQ(code_of_status("16"), base::Code::unauthenticated);
  for (const auto* text : {"", "17", "-1", "x", "1x"}) EXPECT_EQ(code_of_status(text), base::Code::unknown) << text;
  EXPECT_EQ(code_of_http_status(404), base::Code::unimplemented);
  EXPECT_EQ(code_of_http_status(503), base::Code::unavailable);
  EXPECT_EQ(code_of_http_status(302), base::Code::unknown);
  EXPECT_EQ(code_of_reset(NGHTTP2_REFUSED_STREAM), base::Code::unavailable);
  EXPECT_EQ(code_of_reset(NGHTTP2_CANCEL), base::Code::cancelled);
  EXPECT_EQ(code_of_reset(NGHTTP2_ENHANCE_YOUR_CALM), base::Code::resource_exhausted);
  EXPECT_EQ(code_of_reset(NGHTTP2_PROTOCOL_ERROR), base::Code::internal);
}

struct Reading {
  explicit Reading(std::size_t limit) : reader(limit) {}
  MessageReader reader;
  std::vector<Bytes> messages;
  base::Result<void> feed(std::string_view bytes) {
    return reader.feed(bytes, [this](Bytes message) { messages.push_back(std::move(message)); });
  }
};

TEST(MessageReaderTest, CutsMessagesWhereverTheBytesBreak) {
  const std::string bytes("\0\0\0\0\3abc\0\0\0\0\0\0\0\0\0\1z", 19);
  for (std::size_t step = 1; step <= bytes.size(); ++step) {
    Reading reading(100);
    for (std::size_t at = 0; at < bytes.size(); at += step) ASSERT_TRUE(reading.feed(bytes.substr(at, step)));
    EXPECT_EQ(reading.messages, (std::vector<Bytes>{"abc", "", "z"})) << step;
    EXPECT_TRUE(reading.reader.between_messages());
  }
}

TEST(MessageReaderTest, PartOfAMessageIsNotBetweenMessages) {
  Reading reading(100);
  ASSERT_TRUE(reading.feed(std::string("\0\0", 2)));
  EXPECT_FALSE(reading.reader.between_messages());
}

TEST(MessageReaderTest, LimitIsInclusive) {
  EXPECT_TRUE(Reading(3).feed(std::string("\0\0\0\0\3abc", 8)));
  const auto over = Reading(3).feed(std::string("\0\0\0\0\4", 5));
  ASSERT_FALSE(over);
  EXPECT_EQ(over.error().code(), base::Code::resource_exhausted);
}

TEST(MessageReaderTest, CompressedMessageIsUnimplemented) {
  Reading reading(100);
  reading.reader.set_encoding("gzip");
  const auto fed = reading.feed(std::string("\1\0\0\0\1x", 6));
  ASSERT_FALSE(fed);
  EXPECT_EQ(fed.error().code(), base::Code::unimplemented);
}

TEST(MessageReaderTest, IdentityEncodingIgnoresTheFlag) {
  Reading reading(100);
  ASSERT_TRUE(reading.feed(std::string("\1\0\0\0\1x", 6)));
  EXPECT_EQ(reading.messages, (std::vector<Bytes>{"x"}));
}

TEST(MessageReaderTest, UnknownFlagIsRefused) { EXPECT_FALSE(Reading(100).feed(std::string("\2\0\0\0\1x", 6))); }

}  // namespace
}  // namespace rpc::http2
