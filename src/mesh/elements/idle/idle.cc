// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/idle/idle.h"

#include "base/environment.h"

namespace mesh {

using base::Code;
using base::fail;
using base::Result;
using base::Task;

struct Idle::Watch {
  Watch(base::Scheduler& s, base::Duration t, std::function<void()> e)
      : scheduler(s), timeout(t), expired(std::move(e)), timer(s) {}

  void arm() {
    if (timeout <= base::Duration::zero() || over || ended) return;
    timer.set(base::saturating_add(scheduler.now(), timeout), [this] {
      over = true;
      expired();
    });
  }

  base::Scheduler& scheduler;
  const base::Duration timeout;
  const std::function<void()> expired;
  base::Timer timer;
  std::size_t uses = 0;
  bool over = false;   // the timeout has come
  bool ended = false;  // the element is gone
};

class Idle::Use {
 public:
  explicit Use(std::shared_ptr<Watch> watch) : watch_(std::move(watch)) {
    if (watch_->uses++ == 0) watch_->timer.cancel();
  }
  Use(const Use&) = delete;
  Use& operator=(const Use&) = delete;
  ~Use() {
    if (--watch_->uses == 0) watch_->arm();
  }

 private:
  std::shared_ptr<Watch> watch_;
};

Idle::Idle(base::Scheduler& scheduler, base::Duration timeout, std::function<void()> expired)
    : watch_(std::make_shared<Watch>(scheduler, timeout, std::move(expired))) {
  watch_->arm();
}

Idle::~Idle() {
  watch_->ended = true;
  watch_->timer.cancel();
}

Task<Result<Connection>> Idle::request(Call& call, NetworkServiceRequest request) {
  if (watch_->over) {
    co_return fail(Code::unavailable, "endpoint expired: it had no connection for {} and is going away, ask another",
                   base::format_duration(watch_->timeout));
  }
  call.state().get<Use>(watch_);
  co_return co_await call.next(std::move(request));
}

}  // namespace mesh
