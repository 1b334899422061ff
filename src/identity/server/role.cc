// SPDX-License-Identifier: Apache-2.0
#include "identity/server/role.h"

#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cerrno>
#include <csignal>
#include <filesystem>

#include "identity/server/join_token.h"
#include "identity/server/node_authority.h"
#include "identity/server/node_service.h"
#include "identity/server/private_files.h"
#include "identity/server/workload_api_server.h"
#include "identity/workload_api_client.h"
#include "rpc/url.h"

namespace identity {

using base::Code;
using base::fail;
using base::Result;
using base::Task;

namespace log = base::log;

namespace {

constexpr base::Duration kStartTime = std::chrono::minutes(1);
constexpr base::Duration kLeastSvidLifetime = std::chrono::seconds(2);
constexpr int kLeastRoots = 6;  // SVIDs' lives in a root's: it is published for a sixth before it signs

Result<void> check(const IdentityOptions& options) {
  if (auto domain = parse_trust_domain(options.trust_domain); !domain) {
    return std::unexpected(domain.error().wrap("PATCHBAY_TRUST_DOMAIN"));
  }
  if (options.svid_lifetime < kLeastSvidLifetime) {
    return fail(Code::invalid_argument, "PATCHBAY_SVID_LIFETIME is {}: it must be at least {}",
                base::format_duration(options.svid_lifetime), base::format_duration(kLeastSvidLifetime));
  }
  if (options.ca_lifetime / kLeastRoots < options.svid_lifetime) {
    return fail(Code::invalid_argument,
                "PATCHBAY_CA_LIFETIME is {}: it must be at least {} times PATCHBAY_SVID_LIFETIME",
                base::format_duration(options.ca_lifetime), kLeastRoots);
  }
  if (!options.server.empty() && !options.listen_on.empty()) {
    return fail(Code::invalid_argument,
                "PATCHBAY_IDENTITY_SERVER and PATCHBAY_IDENTITY_LISTEN_ON are both set: a machine has a CA, or is a "
                "node of another's");
  }
  for (const auto& [name, text] : {std::pair{"PATCHBAY_IDENTITY_SERVER", options.server},
                                   std::pair{"PATCHBAY_IDENTITY_LISTEN_ON", options.listen_on}}) {
    if (text.empty()) continue;
    const auto url = rpc::parse_url(text);
    if (!url) return std::unexpected(url.error().wrap(name));
    if (url->local()) return fail(Code::invalid_argument, "{} is '{}': write tcp://HOST:PORT", name, text);
  }
  return {};
}

// Whoever can write to the socket's directory can put a socket of his own there.
Result<void> prepare_socket_directory(const std::string& text) {
  const auto url = rpc::parse_url(text);
  if (!url) return std::unexpected(url.error().wrap("PATCHBAY_IDENTITY_SOCKET"));
  if (url->scheme != rpc::UrlScheme::unix_socket) {
    return fail(
        Code::invalid_argument,
        "PATCHBAY_IDENTITY_SOCKET is '{}': callers are known on unix sockets only, write unix:///path/to/socket", text);
  }
  const auto directory = std::filesystem::path(url->path).parent_path();
  std::error_code error;
  if (std::filesystem::create_directories(directory, error)) ::chmod(directory.c_str(), 0755);
  struct stat status = {};
  if (error || ::stat(directory.c_str(), &status) != 0) {
    return fail(Code::failed_precondition, "cannot make {}: {}: choose another PATCHBAY_IDENTITY_SOCKET",
                directory.string(), error ? error.message() : "it is not there");
  }
  if ((status.st_mode & 022) != 0 || (status.st_uid != ::geteuid() && status.st_uid != 0)) {
    return fail(
        Code::failed_precondition,
        "others may write to {}, and so put a socket of their own in the place of ours: chmod 0755 it, or choose "
        "another PATCHBAY_IDENTITY_SOCKET",
        directory.string());
  }
  return {};
}

Result<Rules> rules_of(const IdentityOptions& options) {
  Place place{options.trust_domain, host_name()};
  return options.rules.empty() ? Rules::standard(std::move(place)) : Rules::read(options.rules, std::move(place));
}

Result<IdentityOptions> read_options(const base::Environment& environment) {
  IdentityOptions options;
  if (auto read = base::read_environment(identity_options(options), environment); !read) {
    return std::unexpected(read.error());
  }
  if (auto good = check(options); !good) return std::unexpected(good.error());
  return options;
}

// The CA of this machine and, if nodes may join, what serves them.
class CaSide {
 public:
  static Result<std::unique_ptr<CaSide>> make(base::EventLoop& loop, const IdentityOptions& options) {
    const auto now = loop.wall_now();
    auto ca = Ca::open(options.trust_domain, options.directory, options.ca_lifetime, now);
    if (!ca) return std::unexpected(ca.error());
    auto side = std::unique_ptr<CaSide>(new CaSide(loop, options, std::move(*ca)));
    if (options.listen_on.empty()) return side;
    auto join_ca = open_join_ca(options.trust_domain, options.directory, options.ca_lifetime, now);
    if (!join_ca) return std::unexpected(join_ca.error());
    side->join_authority_.emplace(loop, std::move(*join_ca), options.svid_lifetime);
    return side;
  }

  Authority& authority() { return authority_; }

  Result<void> listen(std::function<const Rules&()> rules) {
    if (!join_authority_) return {};
    nodes_.emplace(loop_, authority_, *join_authority_, options_.directory, std::move(rules));
    services_ = nodes_->services();
    tls_.emplace(loop_, *nodes_, nodes_->authorize());
    transport_.emplace(loop_, no_tokens_, *tls_, WorkloadApiServer::limits());
    auto listener = transport_->listen(options_.listen_on, services_);
    if (!listener) return std::unexpected(listener.error());
    log::info("nodes join at {}", (*listener)->url());
    listener_ = std::move(*listener);
    return {};
  }

  Task<void> finish() {
    if (listener_) co_await listener_->finish();
  }

 private:
  CaSide(base::EventLoop& loop, const IdentityOptions& options, Ca ca)
      : loop_(loop), options_(options), authority_(loop, std::move(ca), options.svid_lifetime) {}

  base::EventLoop& loop_;
  const IdentityOptions& options_;
  LocalAuthority authority_;
  std::optional<LocalAuthority> join_authority_;
  std::optional<NodeService> nodes_;
  rpc::Services services_;
  rpc::http2::NoCredentials no_tokens_;
  std::optional<Tls> tls_;
  std::optional<rpc::http2::Transport> transport_;
  std::unique_ptr<rpc::Listener> listener_;
};

class Role {
 public:
  Role(base::EventLoop& loop, const IdentityOptions& options)
      : loop_(loop), options_(options), transport_(loop, no_tokens_, callers_, WorkloadApiServer::limits()) {}

  Task<Result<void>> start(base::StopToken stop) {
    auto rules = rules_of(options_);
    if (!rules) co_return std::unexpected(rules.error());
    if (auto ready = prepare_socket_directory(options_.socket); !ready) co_return ready;
    if (auto made = make_private_directory(options_.directory); !made) co_return made;
    auto lock = lock_directory(options_.directory);
    if (!lock) co_return std::unexpected(lock.error());
    lock_ = std::move(*lock);

    if (options_.server.empty()) {
      auto ca = CaSide::make(loop_, options_);
      if (!ca) co_return std::unexpected(ca.error());
      ca_ = std::move(*ca);
    } else {
      NodeOptions node{options_.trust_domain, options_.server, options_.directory, options_.join_token};
      node_.emplace(loop_, std::move(node));
      auto joined = co_await node_->start(loop_.now() + kStartTime, std::move(stop));
      if (!joined) co_return joined;
    }
    Authority& authority = ca_ ? ca_->authority() : *node_;
    server_.emplace(loop_, authority, callers_, std::move(*rules));
    services_ = server_->services();
    auto listener = transport_.listen(options_.socket, services_);
    if (!listener) co_return std::unexpected(listener.error());
    listener_ = std::move(*listener);
    log::info("trust domain {}: the Workload API is at {}", options_.trust_domain, listener_->url());
    if (!ca_) co_return Result<void>();
    co_return ca_->listen([this]() -> const Rules& { return server_->rules(); });
  }

  Task<void> finish() {
    if (listener_) co_await listener_->finish();
    if (ca_) co_await ca_->finish();
    if (node_) co_await node_->finish();
  }

  void reload() {
    if (!server_) return;
    auto rules = rules_of(options_);
    if (!rules) return log::error("the old rules stay in force: {}", rules.error().message());
    server_->set_rules(std::move(*rules));
    log::info("the rules were read again");
  }

 private:
  base::EventLoop& loop_;
  const IdentityOptions& options_;
  base::UniqueFd lock_;
  std::unique_ptr<CaSide> ca_;         // this machine's own CA,
  std::optional<NodeAuthority> node_;  // or another's
  rpc::http2::NoCredentials no_tokens_;
  AttestingSecurity callers_;
  std::optional<WorkloadApiServer> server_;
  rpc::Services services_;
  rpc::http2::Transport transport_;
  std::unique_ptr<rpc::Listener> listener_;
};

Task<void> run(Role& role, base::EventLoop& loop, base::StopToken stop, int& code) {
  auto started = co_await role.start(stop);
  if (started) {
    base::OneShot<bool> stopped(loop);
    const auto registration = stop.on_stop([stopped] { stopped.set(true); });
    co_await stopped;
    code = 0;
  } else if (!stop.stopped()) {
    log::error("cannot start: {}", started.error().message());
  }
  co_await role.finish();
  loop.quit();
}

}  // namespace

std::vector<base::Option> identity_options(IdentityOptions& options) {
  return {
      base::option("PATCHBAY_TRUST_DOMAIN", &options.trust_domain, "patchbay.local",
                   "whose IDs are issued: spiffe://TRUST-DOMAIN/..."),
      base::option("PATCHBAY_IDENTITY_SOCKET", &options.socket, std::string(kDefaultSocket),
                   "where workloads ask who they are; others must not write to its directory"),
      base::option("PATCHBAY_IDENTITY_DIRECTORY", &options.directory, "/var/lib/patchbay/identity",
                   "where keys are kept, mode 0700"),
      base::option("PATCHBAY_IDENTITY_RULES", &options.rules, "",
                   "file of who may be whom (YAML), read again on SIGHUP; none: root only, by its executable"),
      base::option("PATCHBAY_SVID_LIFETIME", &options.svid_lifetime, "1h", "of SVIDs; renewed when half is over"),
      base::option("PATCHBAY_CA_LIFETIME", &options.ca_lifetime, "8760h", "of the CA's roots; the next begins at half"),
      base::option("PATCHBAY_IDENTITY_LISTEN_ON", &options.listen_on, "",
                   "tcp://address:port where other nodes join this CA; none: they cannot"),
      base::option("PATCHBAY_IDENTITY_SERVER", &options.server, "",
                   "tcp://host:port of another node's CA to join; none: this machine has its own"),
      base::option("PATCHBAY_JOIN_TOKEN", &options.join_token, "",
                   "what `patchbay identity token` printed there; needed the first time only"),
      base::option("NSM_LOG_LEVEL", &options.log_level, "INFO", "trace, debug, info, warning, error, fatal or panic"),
  };
}

namespace {

// Each caller takes two descriptors.
void raise_file_limit() {
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) != 0) return;
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files);
}

}  // namespace

int run_identity(const base::Environment& environment) {
  log::set_name("identity");
  ::prctl(PR_SET_DUMPABLE, 0);  // keys stay out of core dumps and away from debuggers
  std::signal(SIGPIPE, SIG_IGN);
  raise_file_limit();
  const auto options = read_options(environment);
  if (!options) {
    log::error("cannot start: {}", options.error().message());
    return 1;
  }
  log::set_level(options->log_level);

  base::EventLoop loop;
  base::StopSource stop;
  Role role(loop, *options);
  loop.on_signals({SIGINT, SIGTERM, SIGQUIT}, [&](int number) {
    if (stop.stopped()) return loop.quit();  // the second one does not wait
    log::info("signal {}: stopping", number);
    stop.request_stop();
  });
  loop.on_signals({SIGHUP}, [&](int) { role.reload(); });
  loop.on_signals({SIGUSR1, SIGUSR2},
                  [&](int number) { log::set_level(number == SIGUSR1 ? log::Level::trace : options->log_level); });
  int code = 1;
  base::spawn_detached(run(role, loop, stop.token(), code));
  loop.run();
  return code;
}

int print_join_token(const base::Environment& environment, const std::string& node, const std::string& ttl) {
  log::set_name("identity");
  ::prctl(PR_SET_DUMPABLE, 0);
  const auto options = read_options(environment);
  const auto lifetime = base::parse_duration(ttl);
  auto token = !options ? std::unexpected(options.error())
               : !lifetime
                   ? Result<std::string>(std::unexpected(lifetime.error().wrap("--ttl")))
                   : make_join_token(options->trust_domain, options->directory, node, *lifetime,
                                     std::chrono::time_point_cast<base::Duration>(std::chrono::system_clock::now()));
  if (!token) {
    fmt::print(stderr, "patchbay identity token: {}\n", token.error().message());
    return 1;
  }
  fmt::print("{}\n", *token);
  return 0;
}

}  // namespace identity
