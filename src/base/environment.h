// SPDX-License-Identifier: Apache-2.0
// A role's options, declared once as data: reading the environment, the usage table and the documentation derive from
// the list. Values are spelt as NSM's programs spell them (Go's durations, booleans and number bases), so that existing
// manifests work unchanged. A default is text too and goes through the same parser.
//
//   struct Config { std::string name; base::Duration dial_timeout{}; };
//   std::vector<base::Option> options(Config& config) {
//     return {option("NSM_NAME", &config.name, "nsc", "name of this client, and prefix of its connections' ids"),
//             option("NSM_DIAL_TIMEOUT", &config.dial_timeout, "5s", "how long to wait for the manager's socket")};
//   }
#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "base/scheduler.h"

namespace base {

using TextList = std::vector<std::string>;
using TextMap = std::map<std::string, std::string>;

// The spellings. Errors name the rule and the remedy; whoever knows the value's name puts it in front.

// Go's: 15s, 200ms, 1h2m, 1.5h, -1m, 0; units ns us ms s m h. A bare number other than 0 is refused.
Result<Duration> parse_duration(std::string_view text);
std::string format_duration(Duration duration);  // the shortest spelling that parse_duration reads back: 1h30m, 750ms
// 1 t T TRUE true True and 0 f F FALSE false False, nothing else.
Result<bool> parse_bool(std::string_view text);
// Go's base 0: 10, 0x1f, 0b11, 0o17 or 017, 1_000.
Result<std::int64_t> parse_signed(std::string_view text, std::int64_t least, std::int64_t most);
Result<std::uint64_t> parse_unsigned(std::string_view text, std::uint64_t most);
// Split at commas, nothing trimmed; blank text is the empty list.
TextList parse_list(std::string_view text);
// key:value pairs split at commas, exactly one colon in each; of repeated keys the last counts.
Result<TextMap> parse_map(std::string_view text);

struct Option {
  std::string name;      // of the environment variable
  std::string type;      // one or two words for the tables
  std::string fallback;  // used when the variable is unset; empty: the field keeps what it has
  std::string help;      // one line
  std::function<Result<void>(std::string_view text)> set;
};

Option option(std::string name, std::string* field, std::string fallback, std::string help);
Option option(std::string name, bool* field, std::string fallback, std::string help);
Option option(std::string name, Duration* field, std::string fallback, std::string help);
Option option(std::string name, TextList* field, std::string fallback, std::string help);
Option option(std::string name, TextMap* field, std::string fallback, std::string help);
Option option(std::string name, log::Level* field, std::string fallback, std::string help);

// Any integer type: the value must fit it.
template <std::integral T>
  requires(!std::same_as<T, bool>)
Option option(std::string name, T* field, std::string fallback, std::string help) {
  using Limits = std::numeric_limits<T>;
  auto set = [field](std::string_view text) -> Result<void> {
    if constexpr (std::signed_integral<T>) {
      auto value = parse_signed(text, Limits::min(), Limits::max());
      if (!value) return std::unexpected(std::move(value.error()));
      *field = static_cast<T>(*value);
    } else {
      auto value = parse_unsigned(text, Limits::max());
      if (!value) return std::unexpected(std::move(value.error()));
      *field = static_cast<T>(*value);
    }
    return {};
  };
  return {std::move(name), std::signed_integral<T> ? "integer" : "unsigned integer", std::move(fallback),
          std::move(help), std::move(set)};
}

// Text that must be JSON; the field holds it as written.
Option json_option(std::string name, std::string* field, std::string fallback, std::string help);

// One of a few words, in any case; the field holds the word as listed.
Option choice_option(std::string name, std::string* field, TextList words, std::string fallback, std::string help);

// What the caller parses itself, for grammars that belong to upper layers.
template <typename T>
Option parsed_option(std::string name, T* field, std::string type, Result<T> (*parse)(std::string_view text),
                     std::string fallback, std::string help) {
  auto set = [field, parse](std::string_view text) -> Result<void> {
    auto value = parse(text);
    if (!value) return std::unexpected(std::move(value.error()));
    *field = std::move(*value);
    return {};
  };
  return {std::move(name), std::move(type), std::move(fallback), std::move(help), std::move(set)};
}

// Looks a variable up; nullopt is unset, which differs from set to the empty text.
using Environment = std::function<std::optional<std::string>(const std::string& name)>;
Environment process_environment();

// Sets every field. The first value that cannot be read ends it with one sentence: name, value, rule, remedy. Variables
// that no option names are ignored, as NSM's programs do.
Result<void> read_environment(std::span<const Option> options, const Environment& environment);

std::string usage_table(std::span<const Option> options);     // aligned text, for --help and the start of the log
std::string markdown_table(std::span<const Option> options);  // for docs/

}  // namespace base
