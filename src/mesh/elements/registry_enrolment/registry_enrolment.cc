// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/registry_enrolment/registry_enrolment.h"

#include <algorithm>
#include <type_traits>

#include "base/log.h"

namespace mesh {

using base::Code;
using base::fail;
using base::OneShot;
using base::Result;
using base::Task;

namespace {

std::optional<base::WallTime> expires(const NetworkService&) { return std::nullopt; }
std::optional<base::WallTime> expires(const NetworkServiceEndpoint& endpoint) {
  if (!endpoint.has_expiration_time()) return std::nullopt;
  return to_wall(endpoint.expiration_time());
}

void reset_for_refresh(NetworkService&, const NetworkService&) {}
void reset_for_refresh(NetworkServiceEndpoint& endpoint, const NetworkServiceEndpoint& given) {
  endpoint.set_name(given.name());
  endpoint.set_url(given.url());
  endpoint.clear_expiration_time();
}

}  // namespace

// Keeps one record registered. Its own task registers; a second one, while there is a watch, follows it.
template <typename Kind>
class RegistryEnrolment::Keeper {
 public:
  using Record = typename Kind::Record;

  Keeper(base::Scheduler& scheduler, Registry<Kind>& registry, Record given, const EnrolmentPlan& plan,
         base::TaskScope& scope)
      : scheduler_(scheduler),
        registry_(registry),
        given_(given),
        current_(std::move(given)),
        plan_(plan),
        scope_(scope),
        first_(scheduler),
        refresh_(scheduler) {}

  // Returns when the record is registered for the first time, or never will be.
  Task<Result<void>> start() {
    scope_.spawn(keep());
    co_return co_await first_;
  }

  Task<Result<void>> withdraw() {
    RegistryCall call = make_call();
    Record record = current_;
    co_return co_await registry_.withdraw(call, std::move(record));
  }

  const Record& current() const { return current_; }

 private:
  enum class Wake { refresh, lost, stop };

  RegistryCall make_call() const {
    RegistryCall call(scheduler_, base::saturating_add(scheduler_.now(), plan_.attempt_timeout), base::StopToken());
    call.path = path_;
    if constexpr (std::is_same_v<Kind, Endpoints>) {
      if (plan_.socket) call.descriptors.push_back(*plan_.socket);
    }
    return call;
  }

  Task<void> keep() {
    const base::StopToken stop = scope_.stop_token();
    for (;;) {
      const bool enrolled = co_await enroll(stop);
      if (!enrolled) break;
      OneShot<Wake> wake(scheduler_);
      wake_.emplace(wake);
      auto on_stop = stop.on_stop([wake] { wake.set(Wake::stop); });
      // A watch that broke while this registration was under way may mean that it reached a registry which is no more.
      if (std::exchange(lost_, false)) wake.set(Wake::lost);
      if (!std::exchange(watching_, true)) scope_.spawn(watch());
      if (const auto until = expires(current_)) {
        const base::Duration left = std::max(*until - scheduler_.wall_now(), base::Duration::zero());
        refresh_.set(base::saturating_add(scheduler_.now(), std::max(left / 3 * 2, plan_.retry)),
                     [wake] { wake.set(Wake::refresh); });
      }
      const Wake reason = co_await wake;
      wake_.reset();
      refresh_.cancel();
      if (reason == Wake::stop) break;
      if (reason == Wake::lost) {  // at once, but not in a tight loop with a registry that ends every watch
        const bool slept = co_await base::sleep_until(scheduler_, enrolled_at_ + plan_.retry, stop);
        if (!slept) break;
      }
    }
    first_.set(fail(Code::cancelled, "registering {} {} was given up", Kind::kNoun, given_.name()));
  }

  // Until it succeeds; false if stopped.
  Task<bool> enroll(base::StopToken stop) {
    std::string last_failure;
    while (!stop.stopped()) {
      RegistryCall call = make_call();
      call.stop = stop;
      Record record = current_;
      reset_for_refresh(record, given_);
      auto stored = co_await registry_.enroll(call, std::move(record));
      if (stored) {
        if (!last_failure.empty()) base::log::info("{} {} is registered", Kind::kNoun, given_.name());
        current_ = std::move(*stored);
        path_ = std::move(call.path);
        enrolled_at_ = scheduler_.now();
        first_.set(Result<void>());
        co_return true;
      }
      if (stop.stopped()) break;
      const bool anothers = co_await belongs_to_another(stored.error(), stop);
      if (anothers) {
        if (last_failure.empty()) {
          base::log::info("{} {} is another's: it is offered as it is registered", Kind::kNoun, given_.name());
        }
        enrolled_at_ = scheduler_.now();
        first_.set(Result<void>());
        co_return true;
      }
      if (stored.error().message() != last_failure) {
        last_failure = stored.error().message();
        base::log::warning("registering {} {} failed and is tried again: {}", Kind::kNoun, given_.name(), last_failure);
      }
      const bool slept = co_await base::sleep_for(scheduler_, plan_.retry, stop);
      if (!slept) break;
    }
    co_return false;
  }

  // Many endpoints offer one service, and with policies it is registered by the first of them alone.
  Task<bool> belongs_to_another(const base::Error& refusal, base::StopToken stop) {
    if (!std::is_same_v<Kind, Services> || refusal.code() != Code::permission_denied) co_return false;
    RegistryCall call = make_call();
    call.stop = std::move(stop);
    typename Kind::Query query;
    Kind::record(query).set_name(given_.name());
    const auto found = co_await find_all<Kind>(registry_, call, std::move(query));
    co_return found && !found->empty();
  }

  // Follows the record until the registry ends the stream or says it is gone.
  Task<void> watch() {
    RegistryCall call(scheduler_, base::kNoDeadline, scope_.stop_token());
    typename Kind::Query query;
    Kind::record(query).set_name(given_.name());
    query.set_watch(true);
    auto stream = co_await registry_.find(call, std::move(query));
    while (stream) {
      auto found = co_await (*stream)->next();
      if (!found || !*found || (*found)->response.deleted()) break;
    }
    watching_ = false;
    if (wake_) {
      wake_->set(Wake::lost);
    } else {
      lost_ = true;
    }
  }

  base::Scheduler& scheduler_;
  Registry<Kind>& registry_;
  const Record given_;
  Record current_;
  const EnrolmentPlan& plan_;
  base::TaskScope& scope_;
  OneShot<Result<void>> first_;
  base::Timer refresh_;
  RegistrationPath path_;
  base::TimePoint enrolled_at_{};
  std::optional<OneShot<Wake>> wake_;
  bool watching_ = false;
  bool lost_ = false;
};

RegistryEnrolment::RegistryEnrolment(base::Scheduler& scheduler, ServiceRegistry& services, EndpointRegistry& endpoints,
                                     EnrolmentPlan plan)
    : plan_(std::move(plan)), scope_(scheduler) {
  for (const NetworkService& service : plan_.services) {
    services_.push_back(std::make_unique<Keeper<Services>>(scheduler, services, service, plan_, scope_));
  }
  endpoint_ = std::make_unique<Keeper<Endpoints>>(scheduler, endpoints, plan_.endpoint, plan_, scope_);
}

RegistryEnrolment::~RegistryEnrolment() = default;

Task<Result<void>> RegistryEnrolment::start() {
  for (const auto& service : services_) {
    if (auto done = co_await service->start(); !done) co_return done;
  }
  co_return co_await endpoint_->start();
}

Task<void> RegistryEnrolment::finish() { return scope_.finish(); }

Task<Result<void>> RegistryEnrolment::withdraw() {
  co_await scope_.finish();
  co_return co_await endpoint_->withdraw();
}

const NetworkServiceEndpoint& RegistryEnrolment::registered() const { return endpoint_->current(); }

}  // namespace mesh
