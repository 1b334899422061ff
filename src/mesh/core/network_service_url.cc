// SPDX-License-Identifier: Apache-2.0
#include "mesh/core/network_service_url.h"

#include <algorithm>
#include <optional>
#include <utility>

namespace mesh {

namespace {

using base::Code;
using base::fail;
using base::Result;

constexpr std::size_t kLongestInterfaceName = 15;  // IFNAMSIZ with its end, linux/if.h

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; }

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

// The text before the mark and the text after it; the whole and nothing where there is no mark.
std::pair<std::string_view, std::optional<std::string_view>> cut(std::string_view text, char mark) {
  const auto at = text.find(mark);
  if (at == std::string_view::npos) return {text, std::nullopt};
  return {text.substr(0, at), text.substr(at + 1)};
}

std::optional<unsigned> hex_digit(char c) {
  if (is_digit(c)) return static_cast<unsigned>(c - '0');
  if (c >= 'a' && c <= 'f') return static_cast<unsigned>(c - 'a') + 10;
  if (c >= 'A' && c <= 'F') return static_cast<unsigned>(c - 'A') + 10;
  return std::nullopt;
}

enum class Plus { itself, space };

// Percent-decoded text; nullopt when an escape is broken.
std::optional<std::string> decode(std::string_view text, Plus plus) {
  std::string decoded;
  for (; !text.empty(); text.remove_prefix(1)) {
    if (text[0] != '%') {
      decoded += text[0] == '+' && plus == Plus::space ? ' ' : text[0];
      continue;
    }
    const auto high = text.size() > 2 ? hex_digit(text[1]) : std::nullopt;
    const auto low = text.size() > 2 ? hex_digit(text[2]) : std::nullopt;
    if (!high || !low) return std::nullopt;
    decoded += static_cast<char>(*high << 4 | *low);
    text.remove_prefix(2);
  }
  return decoded;
}

bool is_unreserved(char c) { return is_letter(c) || is_digit(c) || std::string_view("-_.~").contains(c); }

bool is_scheme(std::string_view text) {
  return !text.empty() && is_letter(text.front()) && std::ranges::all_of(text, [](char c) {
    return is_letter(c) || is_digit(c) || c == '+' || c == '-' || c == '.';
  });
}

// Bytes beyond ASCII may stand for themselves or be escaped; an ASCII byte may not be escaped in a host.
std::optional<std::string> decode_host(std::string_view text) {
  static constexpr std::string_view kAllowed = "!$&'()*+;=:[]<>\"%";
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool ascii = (static_cast<unsigned char>(text[i]) & 0x80) == 0;
    if (ascii && !is_unreserved(text[i]) && !kAllowed.contains(text[i])) return std::nullopt;
    if (text[i] == '%' && i + 1 < text.size() && text[i + 1] < '8' && text.substr(i, 3) != "%25") return std::nullopt;
  }
  return decode(text, Plus::itself);
}

// Drops ":port"; nullopt when what follows the colon is no port.
std::optional<std::string_view> without_port(std::string_view host) {
  const auto bracket = host.starts_with('[') ? host.find(']') : 0;
  if (bracket == std::string_view::npos) return std::nullopt;
  const auto colon = host.find(':', bracket);
  if (colon == std::string_view::npos) return host;
  if (!std::ranges::all_of(host.substr(colon + 1), is_digit)) return std::nullopt;
  return host.substr(0, colon);
}

Result<std::string> service_of(std::string_view authority) {
  std::optional<std::string> user;
  if (const auto at = authority.rfind('@'); at != std::string_view::npos) {
    static constexpr std::string_view kAllowed = "!$&'()*+,;=:%@";
    const auto info = authority.substr(0, at);
    if (std::ranges::all_of(info, [](char c) { return is_unreserved(c) || kAllowed.contains(c); })) {
      user = decode(cut(info, ':').first, Plus::itself);
    }
    if (!user || user->empty()) {
      return fail(Code::invalid_argument, "'{}' is no service and domain, write kernel://SERVICE@DOMAIN/INTERFACE",
                  authority);
    }
    authority.remove_prefix(at + 1);
  }
  const auto bare = without_port(authority);
  if (!bare) return fail(Code::invalid_argument, "'{}' ends in no port number, write it without ':'", authority);
  auto host = decode_host(*bare);
  if (!host) {
    return fail(Code::invalid_argument,
                "'{}' holds a character that no service's name may have, use letters, digits, '-', '_' and '.'", *bare);
  }
  if (host->empty()) {
    return fail(Code::invalid_argument, "it names no {}, write kernel://SERVICE/INTERFACE",
                user ? "domain after '@'" : "service");
  }
  return user ? *user + "@" + *host : std::move(*host);
}

Result<std::string> interface_of(std::string_view path) {
  const auto decoded = decode(path, Plus::itself);
  if (!decoded) return fail(Code::invalid_argument, "'{}' holds a broken escape, write % as %25", path);
  auto name = decoded->substr(decoded->rfind('/') + 1);  // the whole, if there is no slash
  if (name.size() > kLongestInterfaceName) {
    return fail(Code::invalid_argument, "the interface name '{}' has {} bytes and Linux takes at most {}, shorten it",
                name, name.size(), kLongestInterfaceName);
  }
  const auto refused = [](char c) { return is_blank(c) || is_control(c) || c == ':'; };
  if (name == "." || name == ".." || std::ranges::any_of(name, refused)) {
    return fail(Code::invalid_argument, "Linux takes no interface name '{}', use letters, digits, '-' and '_'", name);
  }
  return name;
}

// Pairs that cannot be read are left out, as NSM does.
Labels labels_of(std::string_view query) {
  Labels labels;
  for (std::optional<std::string_view> rest = query; rest;) {
    const auto [pair, after] = cut(*rest, '&');
    rest = after;
    if (pair.empty() || pair.contains(';')) continue;
    const auto [raw_key, raw_value] = cut(pair, '=');
    const auto key = decode(raw_key, Plus::space);
    const auto value = decode(raw_value.value_or(""), Plus::space);
    if (!key || !value) continue;
    const auto [label, fresh] = labels.emplace(*key, *value);
    if (!fresh) label->second += "," + *value;
  }
  return labels;
}

Result<NetworkServiceUrl> parse(std::string_view text) {
  if (std::ranges::any_of(text, is_control)) {
    return fail(Code::invalid_argument, "it holds a control character, remove it");
  }
  const auto [before_query, query] = cut(cut(text, '#').first, '?');
  const auto colon = before_query.find("://");
  if (colon == std::string_view::npos || !is_scheme(before_query.substr(0, colon))) {
    return fail(Code::invalid_argument,
                "it begins with no mechanism, write kernel://SERVICE/INTERFACE or memif://SERVICE");
  }
  const auto rest = before_query.substr(colon + 3);
  const auto slash = std::min(rest.find('/'), rest.size());
  auto service = service_of(rest.substr(0, slash));
  if (!service) return std::unexpected(service.error());
  auto interface_name = interface_of(rest.substr(slash));
  if (!interface_name) return std::unexpected(interface_name.error());

  NetworkServiceUrl url;
  url.mechanism = before_query.substr(0, colon);
  std::ranges::transform(url.mechanism, url.mechanism.begin(),
                         [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; });
  url.service = std::move(*service);
  url.interface_name = std::move(*interface_name);
  url.labels = labels_of(query.value_or(""));
  return url;
}

}  // namespace

Result<NetworkServiceUrl> parse_network_service_url(std::string_view text) {
  auto url = parse(text);
  if (!url) return std::unexpected(url.error().wrap(fmt::format("network service URL '{}'", text)));
  return url;
}

Result<std::vector<NetworkServiceUrl>> parse_network_service_urls(std::string_view text) {
  std::vector<NetworkServiceUrl> urls;
  if (trimmed(text).empty()) return urls;
  for (std::optional<std::string_view> rest = text; rest;) {
    const auto [item, after] = cut(*rest, ',');
    rest = after;
    if (trimmed(item).empty()) {
      return fail(Code::invalid_argument, "there is no network service URL before or after a comma, remove the comma");
    }
    for (std::optional<std::string_view> lines = trimmed(item); lines;) {
      const auto [line, below] = cut(*lines, '\n');
      lines = below;
      if (trimmed(line).empty()) continue;
      auto url = parse_network_service_url(trimmed(line));
      if (!url) return std::unexpected(url.error());
      urls.push_back(std::move(*url));
    }
  }
  return urls;
}

base::Option network_services_option(std::string name, std::vector<NetworkServiceUrl>* field, std::string help) {
  return parsed_option(std::move(name), field, "list of URLs", parse_network_service_urls, "", std::move(help));
}

}  // namespace mesh
