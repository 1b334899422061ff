// SPDX-License-Identifier: Apache-2.0
#include "base/environment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>

namespace base {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;
using namespace std::chrono_literals;

Environment environment_of(std::map<std::string, std::string> values) {
  return [values = std::move(values)](const std::string& name) -> std::optional<std::string> {
    const auto found = values.find(name);
    if (found == values.end()) return std::nullopt;
    return found->second;
  };
}

struct Config {
  std::string name;
  bool enabled = false;
  Duration timeout{};
  std::int32_t count = 0;
  std::uint16_t port = 0;
  TextList services;
  TextMap labels;
  log::Level level = log::Level::off;
  std::string dns;
  std::string policy;
};

std::vector<Option> options(Config& config) {
  return {
      option("NSM_NAME", &config.name, "nsc", "name of the client"),
      option("NSM_ENABLED", &config.enabled, "true", "whether it runs"),
      option("NSM_DIAL_TIMEOUT", &config.timeout, "5s", "how long to dial"),
      option("NSM_COUNT", &config.count, "", "how many"),
      option("NSM_PORT", &config.port, "5001", "where to listen"),
      option("NSM_SERVICES", &config.services, "one,two", "which services"),
      option("NSM_LABELS", &config.labels, "", "labels of the endpoint"),
      option("NSM_LOG_LEVEL", &config.level, "INFO", "what to log"),
      json_option("NSM_DNS_CONFIGS", &config.dns, "[]", "resolvers"),
      choice_option("NSM_IPAM_POLICY", &config.policy, {"polite", "strict"}, "polite",
                    "what to do with the client's wishes"),
  };
}

std::string failure_of(std::map<std::string, std::string> values) {
  Config config;
  const auto done = read_environment(options(config), environment_of(std::move(values)));
  return done ? "no failure" : done.error().message();
}

TEST(Environment, UnsetVariablesTakeTheirDefaults) {
  Config config;
  ASSERT_TRUE(read_environment(options(config), environment_of({})));
  EXPECT_EQ(config.name, "nsc");
  EXPECT_TRUE(config.enabled);
  EXPECT_EQ(config.timeout, 5s);
  EXPECT_EQ(config.count, 0);
  EXPECT_EQ(config.port, 5001);
  EXPECT_THAT(config.services, ElementsAre("one", "two"));
  EXPECT_THAT(config.labels, IsEmpty());
  EXPECT_EQ(config.level, log::Level::info);
  EXPECT_EQ(config.dns, "[]");
  EXPECT_EQ(config.policy, "polite");
}

TEST(Environment, SetVariablesReplaceTheDefaults) {
  Config config;
  const auto done =
      read_environment(options(config), environment_of({{"NSM_NAME", "n"},
                                                        {"NSM_ENABLED", "False"},
                                                        {"NSM_DIAL_TIMEOUT", "-1m"},
                                                        {"NSM_COUNT", "-0x10"},
                                                        {"NSM_PORT", "65535"},
                                                        {"NSM_SERVICES", "a, b"},
                                                        {"NSM_LABELS", "k:v,p2p:true"},
                                                        {"NSM_LOG_LEVEL", "warning"},
                                                        {"NSM_DNS_CONFIGS", R"([{"dns_server_ips":["1.1.1.1"]}])"},
                                                        {"NSM_IPAM_POLICY", "STRICT"}}));
  ASSERT_TRUE(done) << done.error().message();
  EXPECT_EQ(config.name, "n");
  EXPECT_FALSE(config.enabled);
  EXPECT_EQ(config.timeout, -1min);
  EXPECT_EQ(config.count, -16);
  EXPECT_EQ(config.port, 65535);
  EXPECT_THAT(config.services, ElementsAre("a", " b"));
  EXPECT_THAT(config.labels, ElementsAre(Pair("k", "v"), Pair("p2p", "true")));
  EXPECT_EQ(config.level, log::Level::warning);
  EXPECT_EQ(config.dns, R"([{"dns_server_ips":["1.1.1.1"]}])");
  EXPECT_EQ(config.policy, "strict");
}

TEST(Environment, SetButEmptyTextListAndMapAreEmpty) {
  Config config;
  ASSERT_TRUE(
      read_environment(options(config), environment_of({{"NSM_NAME", ""}, {"NSM_SERVICES", ""}, {"NSM_LABELS", " "}})));
  EXPECT_EQ(config.name, "");
  EXPECT_THAT(config.services, IsEmpty());
  EXPECT_THAT(config.labels, IsEmpty());
}

TEST(Environment, SetButEmptyDurationSwitchNumberAndLevelAreRefused) {
  EXPECT_EQ(failure_of({{"NSM_DIAL_TIMEOUT", ""}}),
            "NSM_DIAL_TIMEOUT is '': a duration is a number with a unit, write 10s or 750ms");
  EXPECT_EQ(failure_of({{"NSM_ENABLED", ""}}), "NSM_ENABLED is '': a switch is on or off, write true or false");
  EXPECT_THAT(failure_of({{"NSM_COUNT", ""}}), HasSubstr("NSM_COUNT is ''"));
  EXPECT_THAT(failure_of({{"NSM_LOG_LEVEL", ""}}), HasSubstr("NSM_LOG_LEVEL is ''"));
  EXPECT_THAT(failure_of({{"NSM_DNS_CONFIGS", ""}}), HasSubstr("NSM_DNS_CONFIGS is ''"));
}

TEST(Environment, FailureNamesVariableValueRuleAndRemedy) {
  EXPECT_EQ(failure_of({{"NSM_DIAL_TIMEOUT", "10"}}),
            "NSM_DIAL_TIMEOUT is '10': a duration needs a unit, write 10s or 750ms");
  EXPECT_EQ(failure_of({{"NSM_PORT", "65536"}}),
            "NSM_PORT is '65536': an integer from 0 to 65535 is needed, write it as 10 or 0xa");
  EXPECT_EQ(failure_of({{"NSM_LABELS", "a:b:c"}}),
            "NSM_LABELS is 'a:b:c': 'a:b:c' is not one key and one value with a colon between, write k1:v1,k2:v2");
  EXPECT_EQ(failure_of({{"NSM_DNS_CONFIGS", "[{]"}}),
            "NSM_DNS_CONFIGS is '[{]': this must be JSON, check its brackets, quotes and commas");
  EXPECT_EQ(failure_of({{"NSM_IPAM_POLICY", "kind"}}),
            "NSM_IPAM_POLICY is 'kind': there is no such choice, write polite or strict");
}

TEST(Environment, FirstFailureInTheListsOrderIsReported) {
  EXPECT_THAT(failure_of({{"NSM_PORT", "x"}, {"NSM_ENABLED", "x"}}), HasSubstr("NSM_ENABLED"));
}

TEST(Environment, MessagesStayOnOneBoundedLine) {
  const auto message = failure_of({{"NSM_PORT", "\n" + std::string(5000, 'x')}});
  EXPECT_EQ(message.find('\n'), std::string::npos);
  EXPECT_LT(message.size(), 400U);
}

TEST(Environment, UnknownVariablesAreIgnored) { EXPECT_EQ(failure_of({{"NSM_WHATEVER", "10"}}), "no failure"); }

TEST(Environment, ProcessEnvironmentTellsUnsetFromEmpty) {
  ::setenv("PATCHBAY_TEST_EMPTY", "", 1);
  ::unsetenv("PATCHBAY_TEST_UNSET");
  EXPECT_EQ(process_environment()("PATCHBAY_TEST_EMPTY"), "");
  EXPECT_EQ(process_environment()("PATCHBAY_TEST_UNSET"), std::nullopt);
}

struct DurationCase {
  std::string_view text;
  std::int64_t nanoseconds;
};
class ReadableDuration : public testing::TestWithParam<DurationCase> {};
TEST_P(ReadableDuration, IsRead) {
  const auto read = parse_duration(GetParam().text);
  ASSERT_TRUE(read) << GetParam().text << ": " << read.error().message();
  EXPECT_EQ(read->count(), GetParam().nanoseconds) << GetParam().text;
}
INSTANTIATE_TEST_SUITE_P(Go, ReadableDuration,
                         testing::Values(DurationCase{"0", 0}, DurationCase{"-0", 0}, DurationCase{"+0", 0},
                                         DurationCase{"0s", 0}, DurationCase{"15s", 15'000'000'000},
                                         DurationCase{"200ms", 200'000'000}, DurationCase{"1h2m", 3'720'000'000'000},
                                         DurationCase{"-1m", -60'000'000'000}, DurationCase{"+5s", 5'000'000'000},
                                         DurationCase{"1.5h", 5'400'000'000'000}, DurationCase{".5s", 500'000'000},
                                         DurationCase{"5.s", 5'000'000'000}, DurationCase{"1m0.001s", 60'001'000'000},
                                         DurationCase{"3us", 3'000}, DurationCase{"3\u00B5s", 3'000},
                                         DurationCase{"3\u03BCs", 3'000}, DurationCase{"7ns", 7},
                                         DurationCase{"0.3333333333333333333h", 1'200'000'000'000},
                                         DurationCase{"0.830103483285477580700h", 2'988'372'539'827},
                                         DurationCase{"9223372036854775807ns", INT64_MAX},
                                         DurationCase{"-9223372036854775808ns", INT64_MIN},
                                         DurationCase{"2562047h47m16.854775807s", INT64_MAX}));

class UnreadableDuration : public testing::TestWithParam<std::string_view> {};
TEST_P(UnreadableDuration, IsRefused) { EXPECT_FALSE(parse_duration(GetParam())) << GetParam(); }
INSTANTIATE_TEST_SUITE_P(Go, UnreadableDuration,
                         testing::Values("", "10", "s", ".s", "-", "+", "--1s", "1x", "1 s", " 1s", "1s ", "1d", "1S",
                                         "1h2", "1,5s", "9223372036854775808ns", "-9223372036854775809ns",
                                         "99999999999999999999s", "3000000h",
                                         "9223372036854775808ns9223372036854775808ns"));

TEST(Duration, PrintedFormIsReadBack) {
  for (const auto& [duration, text] :
       std::vector<std::pair<Duration, std::string>>{{0ns, "0s"},
                                                     {90min, "1h30m"},
                                                     {750ms, "750ms"},
                                                     {-1min, "-1m"},
                                                     {1s + 1ns, "1s1ns"},
                                                     {Duration::min(), "-2562047h47m16s854ms775us808ns"}}) {
    EXPECT_EQ(format_duration(duration), text);
    EXPECT_EQ(parse_duration(text), duration);
  }
}

TEST(Bool, SpellingsAreGos) {
  for (const auto text : {"1", "t", "T", "TRUE", "true", "True"}) EXPECT_EQ(parse_bool(text), true) << text;
  for (const auto text : {"0", "f", "F", "FALSE", "false", "False"}) EXPECT_EQ(parse_bool(text), false) << text;
  for (const auto text : {"", "yes", "on", "tRue", " true", "2"}) EXPECT_FALSE(parse_bool(text)) << text;
}

TEST(Integer, BasesAndUnderscoresAreGos) {
  const auto read = [](std::string_view text) { return parse_signed(text, INT64_MIN, INT64_MAX); };
  for (const auto& [text, value] :
       std::vector<std::pair<std::string_view, std::int64_t>>{{"0", 0},
                                                              {"10", 10},
                                                              {"+7", 7},
                                                              {"-7", -7},
                                                              {"0x1F", 31},
                                                              {"-0x10", -16},
                                                              {"0b11", 3},
                                                              {"0o17", 15},
                                                              {"017", 15},
                                                              {"00", 0},
                                                              {"1_000", 1000},
                                                              {"0x_ff", 255},
                                                              {"0_7", 7},
                                                              {"9223372036854775807", INT64_MAX},
                                                              {"-9223372036854775808", INT64_MIN}}) {
    const auto got = read(text);
    ASSERT_TRUE(got) << text;
    EXPECT_EQ(*got, value) << text;
  }
  for (const auto text : {"", "-", "+", "x", "0x", "08", "1__0", "_1", "1_", "0x_", "1.5", "1e3", " 1", "1 ", "0b2",
                          "9223372036854775808", "-9223372036854775809", "99999999999999999999999", "--1"}) {
    EXPECT_FALSE(read(text)) << text;
  }
}

TEST(Integer, RangeIsTheCallers) {
  EXPECT_EQ(parse_signed("-128", -128, 127), -128);
  EXPECT_FALSE(parse_signed("-129", -128, 127));
  EXPECT_FALSE(parse_signed("128", -128, 127));
  EXPECT_FALSE(parse_signed("0", 1, 10));
  EXPECT_FALSE(parse_signed("-5", 1, 10));
  EXPECT_EQ(parse_unsigned("18446744073709551615", UINT64_MAX), UINT64_MAX);
  EXPECT_FALSE(parse_unsigned("18446744073709551616", UINT64_MAX));
  EXPECT_FALSE(parse_unsigned("-1", UINT64_MAX));
  EXPECT_FALSE(parse_unsigned("+1", UINT64_MAX));
}

TEST(List, ElementsAreNotTrimmed) {
  EXPECT_THAT(parse_list("a, b,,c"), ElementsAre("a", " b", "", "c"));
  EXPECT_THAT(parse_list(","), ElementsAre("", ""));
  EXPECT_THAT(parse_list(" \t\n"), IsEmpty());
}

TEST(Map, EachPairHasExactlyOneColon) {
  EXPECT_THAT(*parse_map("b:2,a:1,b:3"), ElementsAre(Pair("a", "1"), Pair("b", "3")));
  EXPECT_THAT(*parse_map(":"), ElementsAre(Pair("", "")));
  for (const auto text : {"a", "a:b,", "a:b:c", "a:b,c"}) EXPECT_FALSE(parse_map(text)) << text;
}

TEST(UsageTable, AlignsEveryOption) {
  std::string name;
  Duration timeout{};
  const std::vector<Option> two{option("NSM_NAME", &name, "nsc", "name of the client"),
                                option("NSM_DIAL_TIMEOUT", &timeout, "", "how long to dial")};
  EXPECT_EQ(usage_table(two),
            "VARIABLE          TYPE      DEFAULT  MEANING\n"
            "NSM_NAME          text      nsc      name of the client\n"
            "NSM_DIAL_TIMEOUT  duration           how long to dial\n");
  EXPECT_EQ(markdown_table(two),
            "| variable | type | default | meaning |\n| --- | --- | --- | --- |\n"
            "| `NSM_NAME` | text | `nsc` | name of the client |\n"
            "| `NSM_DIAL_TIMEOUT` | duration |  | how long to dial |\n");
}

TEST(UsageTable, EscapesWhatMarkdownWouldSplit) {
  std::string name;
  const std::vector<Option> one{option("NSM_NAME", &name, "a|b", "this | that")};
  EXPECT_THAT(markdown_table(one), HasSubstr("| `a\\|b` | this \\| that |"));
}

}  // namespace
}  // namespace base
