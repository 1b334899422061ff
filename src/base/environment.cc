// SPDX-License-Identifier: Apache-2.0
#include "base/environment.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <nlohmann/json.hpp>

namespace base {

namespace {

constexpr std::uint64_t kTop = 1ULL << 63;  // the magnitude of the most negative 64-bit number

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

std::string lower(std::string_view text) {
  std::string result(text);
  std::ranges::transform(result, result.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c; });
  return result;
}

// For messages: one line, of bounded length, whatever the value holds.
std::string printable(std::string_view value) {
  constexpr std::size_t kMost = 200;
  std::string text(value.substr(0, kMost));
  std::ranges::replace_if(text, [](unsigned char c) { return c < 0x20 || c == 0x7F; }, '?');
  if (value.size() > kMost) text += "...";
  return text;
}

struct Unit {
  std::string_view name;
  std::uint64_t nanoseconds;
};
constexpr std::array kUnits{
    Unit{"ns", 1},          Unit{"us", 1'000},        Unit{"\u00B5s", 1'000},  // micro sign
    Unit{"\u03BCs", 1'000},                                                    // Greek mu
    Unit{"ms", 1'000'000},  Unit{"s", 1'000'000'000}, Unit{"m", 60'000'000'000}, Unit{"h", 3'600'000'000'000},
};

std::unexpected<Error> duration_too_long() {
  return fail(Code::out_of_range, "a duration is at most about 292 years, write it smaller");
}

// One number and its unit, taken off the front of the text.
Result<std::uint64_t> take_duration_term(std::string_view& text) {
  constexpr std::string_view kShape = "a duration is a number with a unit, write 10s or 750ms";
  std::size_t digits = 0;
  std::uint64_t whole = 0;
  for (; !text.empty() && is_digit(text.front()); text.remove_prefix(1), ++digits) {
    if (whole > kTop / 10) return duration_too_long();
    whole = whole * 10 + static_cast<std::uint64_t>(text.front() - '0');
    if (whole > kTop) return duration_too_long();
  }
  std::uint64_t fraction = 0;
  double scale = 1;
  if (!text.empty() && text.front() == '.') {
    text.remove_prefix(1);
    bool exact = true;  // digits that no longer fit are below a nanosecond
    for (; !text.empty() && is_digit(text.front()); text.remove_prefix(1), ++digits) {
      exact = exact && fraction < kTop / 10;
      if (!exact) continue;
      fraction = fraction * 10 + static_cast<std::uint64_t>(text.front() - '0');
      scale *= 10;
    }
  }
  if (digits == 0) return fail(Code::invalid_argument, "{}", kShape);

  const auto name = text.substr(0, text.find_first_of(".0123456789"));
  if (name.empty()) return fail(Code::invalid_argument, "a duration needs a unit, write 10s or 750ms");
  const auto unit = std::ranges::find(kUnits, name, &Unit::name);
  if (unit == kUnits.end()) {
    return fail(Code::invalid_argument, "a duration has no unit '{}': use ns, us, ms, s, m or h, as in 1h30m",
                printable(name));
  }
  text.remove_prefix(name.size());
  if (whole > kTop / unit->nanoseconds) return duration_too_long();
  const auto rest = static_cast<double>(fraction) * (static_cast<double>(unit->nanoseconds) / scale);
  return whole * unit->nanoseconds + static_cast<std::uint64_t>(rest);
}

// Go's rule: an underscore stands between digits, or between the base's prefix and a digit.
bool underscores_well_placed(std::string_view digits, bool after_prefix) {
  char previous = after_prefix ? '0' : '_';
  for (const char c : digits) {
    if (c == '_' && previous == '_') return false;
    previous = c;
  }
  return previous != '_';
}

std::optional<unsigned> digit_value(char c) {
  if (is_digit(c)) return static_cast<unsigned>(c - '0');
  if (c >= 'a' && c <= 'z') return static_cast<unsigned>(c - 'a') + 10;
  if (c >= 'A' && c <= 'Z') return static_cast<unsigned>(c - 'A') + 10;
  return std::nullopt;
}

// The number's magnitude; nullopt when the text is no number or exceeds 64 bits.
std::optional<std::uint64_t> magnitude(std::string_view text) {
  unsigned base = 10;
  if (text.size() >= 2 && text[0] == '0') {
    const char letter = lower(text.substr(1, 1))[0];
    base = letter == 'x' ? 16 : letter == 'b' ? 2 : 8;
    text.remove_prefix(letter == 'x' || letter == 'b' || letter == 'o' ? 2 : 1);
  }
  if (text.empty() || !underscores_well_placed(text, base != 10)) return std::nullopt;
  std::uint64_t value = 0;
  for (const char c : text) {
    if (c == '_') continue;
    const auto digit = digit_value(c);
    if (!digit || *digit >= base) return std::nullopt;
    if (__builtin_mul_overflow(value, base, &value) || __builtin_add_overflow(value, *digit, &value)) {
      return std::nullopt;
    }
  }
  return value;
}

// Lengths in code points, near enough to columns for these tables.
std::size_t columns(std::string_view text) {
  return static_cast<std::size_t>(std::ranges::count_if(text, [](unsigned char c) { return (c & 0xC0) != 0x80; }));
}

void append_padded(std::string& line, std::string_view text, std::size_t width) {
  line += text;
  line.append(width - std::min(width, columns(text)) + 2, ' ');
}

std::string markdown_cell(std::string_view text) {
  std::string cell;
  for (const char c : text) {
    if (c == '|') cell += '\\';
    cell += c;
  }
  return cell;
}

}  // namespace

Result<Duration> parse_duration(std::string_view text) {
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  if (text == "0") return Duration{0};
  std::uint64_t total = 0;
  do {
    const auto term = take_duration_term(text);
    if (!term) return std::unexpected(term.error());
    if (*term > kTop - total) return duration_too_long();
    total += *term;
  } while (!text.empty());
  if (negative) return Duration{static_cast<std::int64_t>(0 - total)};
  if (total == kTop) return duration_too_long();
  return Duration{static_cast<std::int64_t>(total)};
}

std::string format_duration(Duration duration) {
  if (duration == Duration::zero()) return "0s";
  std::string text = duration < Duration::zero() ? "-" : "";
  auto rest = static_cast<std::uint64_t>(duration.count());
  if (duration < Duration::zero()) rest = 0 - rest;
  for (const std::string_view name : {"h", "m", "s", "ms", "us", "ns"}) {
    const auto unit = std::ranges::find(kUnits, name, &Unit::name)->nanoseconds;
    if (rest >= unit) text += fmt::format("{}{}", rest / unit, name);
    rest %= unit;
  }
  return text;
}

Result<bool> parse_bool(std::string_view text) {
  static constexpr std::array<std::string_view, 6> yes{"1", "t", "T", "TRUE", "true", "True"};
  static constexpr std::array<std::string_view, 6> no{"0", "f", "F", "FALSE", "false", "False"};
  if (std::ranges::find(yes, text) != yes.end()) return true;
  if (std::ranges::find(no, text) != no.end()) return false;
  return fail(Code::invalid_argument, "a switch is on or off, write true or false");
}

Result<std::int64_t> parse_signed(std::string_view text, std::int64_t least, std::int64_t most) {
  const bool negative = text.starts_with('-');
  const auto size = magnitude(negative || text.starts_with('+') ? text.substr(1) : text);
  const bool fits = size && *size <= (negative ? kTop : kTop - 1);
  const auto value = fits ? static_cast<std::int64_t>(negative ? 0 - *size : *size) : 0;
  if (!fits || value < least || value > most) {
    return fail(Code::invalid_argument, "an integer from {} to {} is needed, write it as 10 or 0xa", least, most);
  }
  return value;
}

Result<std::uint64_t> parse_unsigned(std::string_view text, std::uint64_t most) {
  const auto size = magnitude(text);
  if (!size || *size > most) {
    return fail(Code::invalid_argument, "an integer from 0 to {} is needed, write it as 10 or 0xa", most);
  }
  return *size;
}

TextList parse_list(std::string_view text) {
  TextList list;
  if (std::ranges::all_of(text, is_blank)) return list;
  for (std::size_t start = 0;;) {
    const auto comma = text.find(',', start);
    list.emplace_back(text.substr(start, comma - start));
    if (comma == std::string_view::npos) return list;
    start = comma + 1;
  }
}

Result<TextMap> parse_map(std::string_view text) {
  TextMap map;
  for (const auto& pair : parse_list(text)) {
    const auto colon = pair.find(':');
    if (colon == std::string::npos || pair.find(':', colon + 1) != std::string::npos) {
      return fail(Code::invalid_argument, "'{}' is not one key and one value with a colon between, write k1:v1,k2:v2",
                  printable(pair));
    }
    map.insert_or_assign(pair.substr(0, colon), pair.substr(colon + 1));
  }
  return map;
}

Option option(std::string name, std::string* field, std::string fallback, std::string help) {
  auto set = [field](std::string_view text) -> Result<void> {
    *field = text;
    return {};
  };
  return {std::move(name), "text", std::move(fallback), std::move(help), std::move(set)};
}

Option option(std::string name, bool* field, std::string fallback, std::string help) {
  return parsed_option(std::move(name), field, "true or false", parse_bool, std::move(fallback), std::move(help));
}

Option option(std::string name, Duration* field, std::string fallback, std::string help) {
  return parsed_option(std::move(name), field, "duration", parse_duration, std::move(fallback), std::move(help));
}

Option option(std::string name, TextList* field, std::string fallback, std::string help) {
  auto set = [field](std::string_view text) -> Result<void> {
    *field = parse_list(text);
    return {};
  };
  return {std::move(name), "list", std::move(fallback), std::move(help), std::move(set)};
}

Option option(std::string name, TextMap* field, std::string fallback, std::string help) {
  return parsed_option(std::move(name), field, "map", parse_map, std::move(fallback), std::move(help));
}

Option option(std::string name, log::Level* field, std::string fallback, std::string help) {
  return parsed_option(std::move(name), field, "log level", log::parse_level, std::move(fallback), std::move(help));
}

Option json_option(std::string name, std::string* field, std::string fallback, std::string help) {
  auto set = [field](std::string_view text) -> Result<void> {
    if (!nlohmann::json::accept(text)) {
      return fail(Code::invalid_argument, "this must be JSON, check its brackets, quotes and commas");
    }
    *field = text;
    return {};
  };
  return {std::move(name), "JSON", std::move(fallback), std::move(help), std::move(set)};
}

Option choice_option(std::string name, std::string* field, TextList words, std::string fallback, std::string help) {
  std::string type = fmt::format("{}", fmt::join(words, ", "));
  if (const auto last = type.rfind(", "); last != std::string::npos) type.replace(last, 2, " or ");
  auto set = [field, words = std::move(words), type](std::string_view text) -> Result<void> {
    const auto wanted = lower(text);
    const auto word = std::ranges::find_if(words, [&](const std::string& one) { return lower(one) == wanted; });
    if (word == words.end()) return fail(Code::invalid_argument, "there is no such choice, write {}", type);
    *field = *word;
    return {};
  };
  return {std::move(name), type, std::move(fallback), std::move(help), std::move(set)};
}

Environment process_environment() {
  return [](const std::string& name) -> std::optional<std::string> {
    const char* value = std::getenv(name.c_str());
    if (value == nullptr) return std::nullopt;
    return value;
  };
}

Result<void> read_environment(std::span<const Option> options, const Environment& environment) {
  for (const auto& one : options) {
    const auto set_value = environment(one.name);
    if (!set_value && one.fallback.empty()) continue;
    const auto& value = set_value ? *set_value : one.fallback;
    if (const auto done = one.set(value); !done) {
      return fail(done.error().code(), "{} is '{}': {}", one.name, printable(value), done.error().message());
    }
  }
  return {};
}

std::string usage_table(std::span<const Option> options) {
  std::size_t name = columns("VARIABLE");
  std::size_t type = columns("TYPE");
  std::size_t fallback = columns("DEFAULT");
  for (const auto& one : options) {
    name = std::max(name, columns(one.name));
    type = std::max(type, columns(one.type));
    // A few very long defaults (lists of policies) must not push every description off the screen.
    if (columns(one.fallback) <= 48) fallback = std::max(fallback, columns(one.fallback));
  }
  std::string table;
  const auto row = [&](std::string_view a, std::string_view b, std::string_view c, std::string_view d) {
    append_padded(table, a, name);
    append_padded(table, b, type);
    append_padded(table, c, fallback);
    table += d;
    table += '\n';
  };
  row("VARIABLE", "TYPE", "DEFAULT", "MEANING");
  for (const auto& one : options) row(one.name, one.type, one.fallback, one.help);
  return table;
}

std::string markdown_table(std::span<const Option> options) {
  std::string table = "| variable | type | default | meaning |\n| --- | --- | --- | --- |\n";
  for (const auto& one : options) {
    const auto fallback = one.fallback.empty() ? std::string() : "`" + markdown_cell(one.fallback) + "`";
    table +=
        fmt::format("| `{}` | {} | {} | {} |\n", one.name, markdown_cell(one.type), fallback, markdown_cell(one.help));
  }
  return table;
}

}  // namespace base
