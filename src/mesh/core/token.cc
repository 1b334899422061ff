// SPDX-License-Identifier: Apache-2.0
#include "mesh/core/token.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <array>
#include <charconv>
#include <nlohmann/json.hpp>

#include "base/base64url.h"

namespace mesh {

namespace {

constexpr const char* kTokenKey = "nsm-client-token";
constexpr const char* kExpiresKey = "nsm-client-token-expires";

}  // namespace

PlainTokens::PlainTokens(base::Scheduler& scheduler, std::string subject, base::Duration lifetime)
    : scheduler_(scheduler), subject_(std::move(subject)), lifetime_(lifetime) {}

Token PlainTokens::issue(const rpc::Peer& audience) {
  const base::WallTime expires = scheduler_.wall_now() + lifetime_;
  nlohmann::ordered_json claims;
  if (!audience.id.empty()) claims["aud"] = nlohmann::ordered_json::array({audience.id});
  claims["exp"] = std::chrono::floor<std::chrono::seconds>(expires.time_since_epoch()).count();
  claims["sub"] = subject_;
  return {base::base64url_encode(R"({"alg":"none","typ":"JWT"})") + '.' + base::base64url_encode(claims.dump()) + '.',
          expires};
}

rpc::Metadata TokenCredentials::for_call(const rpc::Link& link) {
  const Token token = tokens_.issue(link.peer());
  return {{kTokenKey, token.text}, {kExpiresKey, format_time(token.expires)}};
}

std::optional<Token> token_of(const rpc::Metadata& metadata) {
  const auto text = rpc::single_value(metadata, kTokenKey);
  const auto expires = rpc::single_value(metadata, kExpiresKey);
  if (!text || !expires) return std::nullopt;
  const auto time = parse_time(*expires);
  if (!time) return std::nullopt;
  return Token(std::string(*text), *time);
}

std::string token_subject(const std::string& token) {
  const auto first = token.find('.');
  const auto second = first == std::string::npos ? first : token.find('.', first + 1);
  if (second == std::string::npos) return {};
  const auto claims = base::base64url_decode(std::string_view(token).substr(first + 1, second - first - 1));
  if (!claims) return {};
  const auto json = nlohmann::json::parse(*claims, nullptr, false);
  if (!json.is_object() || !json.contains("sub") || !json["sub"].is_string()) return {};
  return json["sub"].get<std::string>();
}

std::string format_time(base::WallTime time) {
  const auto seconds = std::chrono::floor<std::chrono::seconds>(time);
  const auto fraction = (time - seconds).count();
  const std::time_t whole =
      std::chrono::system_clock::to_time_t(std::chrono::time_point_cast<std::chrono::system_clock::duration>(seconds));
  std::string text = fmt::format("{:%Y-%m-%dT%H:%M:%S}", fmt::gmtime(whole));
  if (fraction != 0) {
    text += fmt::format(".{:09}", fraction);
    while (text.back() == '0') text.pop_back();
  }
  return text + 'Z';
}

std::optional<base::WallTime> parse_time(std::string_view text) {
  // yyyy-mm-ddThh:mm:ss
  static constexpr std::array<std::pair<std::size_t, std::size_t>, 6> fields{
      {{0, 4}, {5, 2}, {8, 2}, {11, 2}, {14, 2}, {17, 2}}};
  if (text.size() < 20 || text[4] != '-' || text[7] != '-' || (text[10] != 'T' && text[10] != 't') || text[13] != ':' ||
      text[16] != ':') {
    return std::nullopt;
  }
  std::array<int, 6> values{};
  const auto number = [](std::string_view digits, auto& value) {
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    return error == std::errc{} && end == digits.data() + digits.size() && digits.front() != '-';
  };
  for (std::size_t i = 0; i < fields.size(); ++i) {
    if (!number(text.substr(fields[i].first, fields[i].second), values[i])) return std::nullopt;
  }
  const std::chrono::year_month_day date{std::chrono::year(values[0]),
                                         std::chrono::month(static_cast<unsigned>(values[1])),
                                         std::chrono::day(static_cast<unsigned>(values[2]))};
  if (!date.ok() || values[0] < 1970 || values[0] > 2200 || values[3] > 23 || values[4] > 59 || values[5] > 60) {
    return std::nullopt;
  }
  base::WallTime time = base::WallTime(std::chrono::sys_days(date)) + std::chrono::hours(values[3]) +
                        std::chrono::minutes(values[4]) + std::chrono::seconds(values[5]);
  text.remove_prefix(19);
  if (text.front() == '.') {
    text.remove_prefix(1);
    std::int64_t scale = 100'000'000;
    std::size_t digits = 0;
    while (digits < text.size() && text[digits] >= '0' && text[digits] <= '9') {
      time += std::chrono::nanoseconds((text[digits++] - '0') * scale);
      scale /= 10;
    }
    if (digits == 0) return std::nullopt;
    text.remove_prefix(digits);
  }
  if (text == "Z" || text == "z") return time;
  if (text.size() != 6 || (text[0] != '+' && text[0] != '-') || text[3] != ':') return std::nullopt;
  int hours = 0;
  int minutes = 0;
  if (!number(text.substr(1, 2), hours) || !number(text.substr(4, 2), minutes) || hours > 23 || minutes > 59) {
    return std::nullopt;
  }
  const auto offset = std::chrono::hours(hours) + std::chrono::minutes(minutes);
  return text[0] == '+' ? time - offset : time + offset;
}

}  // namespace mesh
