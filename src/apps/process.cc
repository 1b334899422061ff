// SPDX-License-Identifier: Apache-2.0
#include "apps/process.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/resource.h>

#include <csignal>
#include <cstdio>
#include <optional>

#include "base/log.h"
#include "rpc/url.h"

namespace apps {

using base::Result;
using base::Task;

Result<std::string> parse_process_name(std::string_view text) {
  if (text.empty() || text.find_first_of(": /\t\n") != std::string_view::npos) {
    return base::fail(base::Code::invalid_argument,
                      "a name is needed, without ':', '/' and blanks: write for example node-1");
  }
  return std::string(text);
}

std::vector<base::Option> common_options(CommonOptions& options, std::string default_name) {
  std::vector<base::Option> list{
      base::parsed_option("NSM_NAME", &options.name, "text", &parse_process_name, std::move(default_name),
                          "name of this process on every path; unique in the mesh"),
      base::option("NSM_LOG_LEVEL", &options.log_level, "INFO", "trace, debug, info, warning, error, fatal or panic"),
      base::option("NSM_MAX_TOKEN_LIFETIME", &options.max_token_lifetime, "10m",
                   "how long path tokens live; connections refresh after a fifth of it"),
  };
  for (auto& option : security_options(options.security)) list.push_back(std::move(option));
  return list;
}

Process::Process(const CommonOptions& options)
    : security(loop, options.security, options.name, options.max_token_lifetime),
      tokens(security.tokens()),
      credentials(tokens),
      transport(loop, credentials, security.transport_security()),
      log_level_(options.log_level) {
  base::log::set_level(options.log_level);
  base::log::set_name(options.name);
  // A peer that goes while we write to it is an error code, not a signal.
  std::signal(SIGPIPE, SIG_IGN);
  // Its memory holds private keys and tokens, which no file should.
  const rlimit no_core{0, 0};
  ::setrlimit(RLIMIT_CORE, &no_core);
}

namespace {

Task<void> run_role(const std::function<Task<int>(Process&, base::StopToken)>& role, Process& process,
                    base::StopToken stop, int& exit_code) {
  const auto started = co_await process.security.start(stop);
  if (started) {
    exit_code = co_await role(process, std::move(stop));
  } else {
    exit_code = stop.stopped() ? kSuccess : failed(started.error());
  }
  co_await process.security.finish();
  process.loop.quit();
}

}  // namespace

int Process::run(const std::function<Task<int>(Process&, base::StopToken)>& role) {
  base::StopSource stop;
  loop.on_signals({SIGINT, SIGTERM, SIGHUP, SIGQUIT}, [this, &stop](int number) {
    if (stop.stopped()) return loop.quit();
    base::log::info("signal {}: stopping", number);
    stop.request_stop();
  });
  loop.on_signals({SIGUSR1, SIGUSR2}, [this](int number) {
    base::log::set_level(number == SIGUSR1 ? base::log::Level::trace : log_level_);
  });
  int exit_code = kFailure;
  base::spawn_detached(run_role(role, *this, stop.token(), exit_code));
  loop.run();
  return exit_code;
}

bool read_options(std::span<const base::Option> options, const base::Environment& environment) {
  if (auto read = base::read_environment(options, environment); !read) {
    fmt::print(stderr, "patchbay: {}\n", read.error().message());
    return false;
  }
  return true;
}

int failed(const base::Error& error) {
  base::log::error("{}", error.message());
  return kFailure;
}

namespace {

std::unexpected<base::Error> nothing_to_listen_on() {
  return base::fail(base::Code::invalid_argument,
                    "NSM_LISTEN_ON is empty: give at least one URL, unix:///path/to/socket or tcp://address:port");
}

}  // namespace

Result<std::vector<std::unique_ptr<rpc::Listener>>> listen_on(rpc::Transport& transport,
                                                              const std::vector<std::string>& urls,
                                                              const rpc::Services& services) {
  if (urls.empty()) return nothing_to_listen_on();
  std::vector<std::unique_ptr<rpc::Listener>> listeners;
  for (const std::string& url : urls) {
    auto listener = transport.listen(url, services);
    if (!listener) return std::unexpected(listener.error());
    base::log::info("listening on {}", (*listener)->url());
    listeners.push_back(std::move(*listener));
  }
  return listeners;
}

Task<void> finish_all(std::vector<std::unique_ptr<rpc::Listener>>& listeners) {
  for (const auto& listener : listeners) co_await listener->finish();
}

namespace {

// The first global IPv4 address of this machine, else the first global IPv6 one, ready for a URL.
std::optional<std::string> first_global_address() {
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return std::nullopt;
  const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> owner(list, ::freeifaddrs);
  for (const int family : {AF_INET, AF_INET6}) {
    for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
      if (entry->ifa_addr == nullptr || entry->ifa_addr->sa_family != family || (entry->ifa_flags & IFF_LOOPBACK) != 0)
        continue;
      char text[INET6_ADDRSTRLEN] = {};
      if (family == AF_INET) {
        const auto& address = *reinterpret_cast<const sockaddr_in*>(entry->ifa_addr);
        if ((ntohl(address.sin_addr.s_addr) >> 16) == 0xA9FE) continue;  // 169.254.0.0/16
        return ::inet_ntop(family, &address.sin_addr, text, sizeof text);
      }
      const auto& address = *reinterpret_cast<const sockaddr_in6*>(entry->ifa_addr);
      if (IN6_IS_ADDR_LINKLOCAL(&address.sin6_addr)) continue;
      ::inet_ntop(family, &address.sin6_addr, text, sizeof text);
      return fmt::format("[{}]", text);
    }
  }
  return std::nullopt;
}

}  // namespace

Result<std::string> public_url(const std::vector<std::string>& listening) {
  if (listening.empty()) return nothing_to_listen_on();
  for (const std::string& text : listening) {
    auto url = rpc::parse_url(text);
    if (!url) return std::unexpected(url.error());
    if (url->scheme != rpc::UrlScheme::tcp) continue;
    if (!url->host.empty() && url->host != "0.0.0.0" && url->host != "::") return text;
    const auto address = first_global_address();
    if (!address) {
      return base::fail(base::Code::failed_precondition,
                        "{} names no address and this machine has no global one: write tcp://address:port", text);
    }
    return fmt::format("tcp://{}:{}", *address, url->port);
  }
  return listening.front();
}

}  // namespace apps
