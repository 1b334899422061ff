// SPDX-License-Identifier: Apache-2.0
#include "apps/security.h"

#include <sys/stat.h>

#include "base/log.h"
#include "mesh/elements/authorize/opa_client.h"
#include "mesh/elements/path_token/spiffe_tokens.h"
#include "rpc/url.h"

namespace apps {

using base::Result;
using base::Task;

namespace {

constexpr base::Duration kPolicyFileInterval = std::chrono::seconds(2);
constexpr base::Duration kPatience = std::chrono::seconds(5);  // before waiting is worth a line in the log

Task<void> say_what_it_waits_for(base::EventLoop& loop, std::string url, base::StopToken stop) {
  const bool still_waiting = co_await base::sleep_for(loop, kPatience, std::move(stop));
  if (still_waiting) base::log::info("waiting for an X.509-SVID from the SPIFFE Workload API at {}", url);
}

std::string workload_api_url(const SecurityOptions& options) {
  return options.socket.empty() ? std::string(identity::kDefaultSocket) : options.socket;
}

bool is_there(const std::string& url) {
  const auto parsed = rpc::parse_url(url);
  struct stat status{};
  return parsed && ::stat(parsed->path.c_str(), &status) == 0;
}

// Changes with the file.
std::string stamp_of(const std::string& path) {
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) return {};
  return fmt::format("{} {} {}.{}", status.st_ino, status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec);
}

std::unique_ptr<mesh::TokenSource> make_tokens(base::EventLoop& loop, const identity::Source& source, bool insecure,
                                               const std::string& name, base::Duration lifetime) {
  if (!insecure) return std::make_unique<mesh::SpiffeTokens>(loop, source, lifetime);
  return std::make_unique<mesh::PlainTokens>(loop, "spiffe://insecure.patchbay/" + name, lifetime);
}

std::unique_ptr<rpc::http2::Security> make_security(base::EventLoop& loop, const identity::Source& source,
                                                    const SecurityOptions& options) {
  if (options.insecure) return std::make_unique<rpc::http2::Plaintext>();
  return std::make_unique<identity::Tls>(loop, source, identity::authorize_only(options.trust_domains, options.ids));
}

}  // namespace

std::vector<base::Option> security_options(SecurityOptions& options) {
  const auto policies = [](const char* name, mesh::PolicySet* field, std::string_view fallback, const char* help) {
    return base::parsed_option(name, field, "masks", &mesh::parse_policies, std::string(fallback), help);
  };
  return {
      base::option("SPIFFE_ENDPOINT_SOCKET", &options.socket, "",
                   "URL of the SPIFFE Workload API; empty: " + std::string(identity::kDefaultSocket)),
      base::option("PATCHBAY_INSECURE", &options.insecure, "false",
                   "no TLS, no signed tokens, no policies: whoever reaches a socket is trusted"),
      base::option("PATCHBAY_TRUSTED_DOMAINS", &options.trust_domains, "",
                   "trust domains of peers; empty: any whose bundle is known"),
      base::option("PATCHBAY_AUTHORIZED_IDS", &options.ids, "", "SPIFFE IDs of peers; empty: any"),
      policies("NSM_REGISTRY_SERVER_POLICIES", &options.registry_server, mesh::kRegistryServerMasks,
               "what registrations that come are held to; empty: nothing"),
      policies("NSM_REGISTRY_CLIENT_POLICIES", &options.registry_client, mesh::kRegistryClientMasks,
               "what a registry's answers are held to; empty: nothing"),
      policies("PATCHBAY_MONITOR_POLICIES", &options.monitor, "",
               "etc/nsm/opa/monitor/.*.rego: who watches must have asked for the connection"),
      base::option("PATCHBAY_POLICY_FILE", &options.policy_file, "",
                   "YAML file of who may request, offer and monitor what; read again when it changes"),
      base::option("PATCHBAY_OPA_URL", &options.opa_url, "",
                   "decision of an Open Policy Agent, asked last: http://127.0.0.1:8181/v1/data/nsm/valid"),
  };
}

ProcessSecurity::ProcessSecurity(base::EventLoop& loop, SecurityOptions options, const std::string& name,
                                 base::Duration token_lifetime)
    : loop_(loop),
      options_(std::move(options)),
      workload_api_transport_(loop),
      source_(loop, workload_api_transport_, workload_api_url(options_)),
      tokens_(make_tokens(loop, source_, options_.insecure, name, token_lifetime)),
      transport_security_(make_security(loop, source_, options_)),
      background_(loop) {}

Task<Result<void>> ProcessSecurity::start(base::StopToken stop) {
  if (options_.insecure) {
    base::log::warning("PATCHBAY_INSECURE is set: nothing proves who peers are, and nothing hides what they say");
    co_return Result<void>();
  }
  if (auto made = make_authorization(); !made) co_return made;
  const std::string url = workload_api_url(options_);
  if (options_.socket.empty() && !is_there(url)) {
    co_return base::fail(
        base::Code::failed_precondition,
        "this process has no identity: SPIFFE_ENDPOINT_SOCKET is not set and nothing is at {}: name a"
        " SPIFFE Workload API, start 'patchbay identity', or set PATCHBAY_INSECURE=true to trust whoever"
        " reaches a socket",
        url);
  }
  base::TaskScope saying(loop_);
  saying.spawn(say_what_it_waits_for(loop_, url, saying.stop_token()));
  auto started = co_await source_.start(base::kNoDeadline, std::move(stop));
  co_await saying.finish();
  co_return started;
}

Result<void> ProcessSecurity::make_authorization() {
  if (!options_.policy_file.empty()) {
    auto opened = mesh::RuleFile::open(options_.policy_file);
    if (!opened) return std::unexpected(opened.error().wrap("PATCHBAY_POLICY_FILE"));
    rules_ = std::move(*opened);
    background_.spawn(reload_policy_file());
  }
  if (!options_.opa_url.empty()) {
    auto opa = mesh::OpaClient::make(loop_, options_.opa_url);
    if (!opa) return std::unexpected(opa.error().wrap("PATCHBAY_OPA_URL"));
    opa_ = std::move(*opa);
  }
  mesh::PolicySets sets;
  sets.registry_server = options_.registry_server;
  sets.registry_client = options_.registry_client;
  sets.monitor = options_.monitor;
  authorization_ = std::make_unique<mesh::Authorization>(loop_, sets, rules_ ? &*rules_ : nullptr, opa_.get());
  return {};
}

// A rename over the file is what configuration tools do, so it is looked at by name.
Task<void> ProcessSecurity::reload_policy_file() {
  auto known = stamp_of(options_.policy_file);
  for (;;) {
    const bool due = co_await base::sleep_for(loop_, kPolicyFileInterval, background_.stop_token());
    if (!due) co_return;
    const auto now = stamp_of(options_.policy_file);
    if (now == known) continue;
    known = now;
    if (auto reloaded = rules_->reload(); reloaded) {
      base::log::info("{} was read again: {} rules", options_.policy_file, rules_->rules().size());
    } else {
      base::log::error("the rules stay as they were: {}", reloaded.error().message());
    }
  }
}

Task<void> ProcessSecurity::finish() {
  co_await background_.finish();
  if (!options_.insecure) co_await source_.finish();
}

}  // namespace apps
