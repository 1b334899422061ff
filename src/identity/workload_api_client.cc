// SPDX-License-Identifier: Apache-2.0
#include "identity/workload_api_client.h"

#include <openssl/x509.h>

#include <algorithm>

#include "base/log.h"
#include "rpc/typed.h"
#include "workload.pb.h"

namespace identity {

using base::Code;
using base::Error;
using base::fail;

namespace {

constexpr std::string_view kMethod = "/SpiffeWorkloadAPI/FetchX509SVID";
constexpr base::Duration kFirstDelay = std::chrono::milliseconds(100);
constexpr base::Duration kLastDelay = std::chrono::seconds(10);
constexpr base::Duration kWorks = kLastDelay;  // a stream that lasted this long makes what went before forgotten
constexpr std::size_t kMaxComplaints = 100;    // then they are forgotten

bool same(const X509& a, const X509& b) { return X509_cmp(&a, &b) == 0; }

// What the API tells anew when a stream is opened again is no rotation.
bool same(const Identity& a, const Identity& b) {
  const auto same_roots = [](const auto& one, const auto& other) {
    return one.first == other.first &&
           std::ranges::equal(one.second, other.second, [](const auto& x, const auto& y) { return same(*x, *y); });
  };
  return same(a.svid.leaf(), b.svid.leaf()) && std::ranges::equal(a.bundles.all(), b.bundles.all(), same_roots);
}

base::Result<Identity> parse(const std::string& bytes, base::WallTime now) {
  auto message = rpc::parse<X509SVIDResponse>(bytes, kMethod);
  if (!message) return std::unexpected(message.error());
  if (message->svids().empty()) return fail(Code::invalid_argument, "the message has no SVID");
  const X509SVID& first = message->svids(0);
  auto svid = parse_svid(first.spiffe_id(), first.x509_svid(), first.x509_svid_key());
  if (!svid) return std::unexpected(svid.error());
  if (svid->expires() <= now) return fail(Code::invalid_argument, "{}: the SVID has expired", svid->id.text());
  svid->hint = first.hint();

  Bundles bundles;
  for (const auto& [domain, der] : message->federated_bundles()) {
    constexpr std::string_view kScheme = "spiffe://";
    const std::string name = domain.starts_with(kScheme) ? domain.substr(kScheme.size()) : domain;
    // Another domain's trouble is not ours: its members are strangers until its bundle can be read.
    if (auto set = bundles.set(name, der); !set) base::log::warning("federated bundle: {}", set.error().message());
  }
  if (auto set = bundles.set(std::string(svid->id.trust_domain()), first.bundle()); !set) {
    return std::unexpected(set.error());
  }
  return Identity(std::move(*svid), std::move(bundles));
}

}  // namespace

WorkloadApiClient::WorkloadApiClient(base::Scheduler& scheduler, rpc::Transport& transport, std::string url)
    : scheduler_(scheduler), transport_(transport), url_(std::move(url)), first_(scheduler), background_(scheduler) {}

WorkloadApiClient::~WorkloadApiClient() = default;

base::Task<base::Result<void>> WorkloadApiClient::start(base::TimePoint deadline, base::StopToken stop) {
  background_.spawn(follow());
  const auto came = co_await base::await_until(scheduler_, first_, deadline, std::move(stop));
  if (came) co_return base::Result<void>{};
  co_return fail(came.error().code(), "no SVID has come from the Workload API at {}: {}: {}", url_,
                 came.error().message(), last_complaint_);
}

base::Task<void> WorkloadApiClient::finish() { co_await background_.finish(); }

base::Task<void> WorkloadApiClient::follow() {
  const auto stop = background_.stop_token();
  auto delay = kFirstDelay;
  while (!stop.stopped()) {
    const auto begun = scheduler_.now();
    const Error why = co_await follow_once();
    if (stop.stopped()) co_return;
    if (scheduler_.now() - begun >= kWorks) {
      complaints_.clear();
      delay = kFirstDelay;
    }
    complain(why);
    co_await base::sleep_for(scheduler_, delay, stop);
    delay = std::min(delay * 2, kLastDelay);
  }
}

base::Task<Error> WorkloadApiClient::follow_once() {
  const auto channel = transport_.channel(url_);
  if (!channel) co_return channel.error();
  rpc::CallOptions options;
  options.stop = background_.stop_token();
  options.metadata.emplace("workload.spiffe.io", "true");
  auto stream =
      co_await (*channel)->stream(std::string(kMethod), X509SVIDRequest().SerializeAsString(), std::move(options));
  if (!stream) co_return stream.error();
  while (true) {
    const auto message = co_await (*stream)->read();
    if (!message) co_return message.error();
    if (!*message) co_return Error(Code::unavailable, "it ended the stream");
    if (auto taken = take(**message); !taken) complain(taken.error());
  }
}

base::Result<void> WorkloadApiClient::take(const std::string& message) {
  auto parsed = parse(message, scheduler_.wall_now());
  if (!parsed) return std::unexpected(parsed.error());
  if (current_ && same(*current_, *parsed)) return {};
  if (current_) ++rotations_;
  current_ = std::make_shared<const Identity>(std::move(*parsed));
  base::log::info("this process is {}, for {} s", current_->svid.id.text(),
                  (current_->svid.expires() - scheduler_.wall_now()) / std::chrono::seconds(1));
  first_.set(true);
  on_change_();
  return {};
}

void WorkloadApiClient::complain(const Error& error) {
  last_complaint_ =
      error.code() == Code::permission_denied
          ? fmt::format("it knows nothing of this process, which has to be registered: {}", error.message())
          : error.message();
  if (complaints_.size() >= kMaxComplaints) complaints_.clear();
  if (!complaints_.insert(last_complaint_).second) return;
  base::log::warning("Workload API at {}: {}; it is asked again and again", url_, last_complaint_);
}

}  // namespace identity
