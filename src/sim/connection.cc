// SPDX-License-Identifier: Apache-2.0
#include "sim/connection.h"

#include <fmt/format.h>

#include <vector>

namespace sim {

using base::Code;
using base::fail;
using base::Result;
using base::Task;

namespace {

constexpr std::size_t kWindow = 65'535;  // bytes, HTTP/2's initial window

std::string_view name_of(Frame::Kind kind) {
  switch (kind) {
    case Frame::Kind::start:
      return "start";
    case Frame::Kind::message:
      return "message";
    case Frame::Kind::end:
      return "end";
    case Frame::Kind::cancel:
      return "cancel";
    case Frame::Kind::credit:
      return "credit";
    case Frame::Kind::reset:
      return "reset";
  }
  return "?";
}

}  // namespace

void Pipe::push(Frame frame, base::Duration extra) {
  const auto now = network_.world().now();
  auto due = now + network_.latency(local_) + extra;
  if (!local_ && frame.kind != Frame::Kind::reset) {
    if (chance(network_.random(), network_.faults().retransmit))
      due += between(network_.random(), milliseconds(200), seconds(3));
    if (chance(network_.random(), network_.faults().reset)) {
      if (const auto sender = sender_.lock()) {
        sender->process().log(fmt::format("a message is lost with its connection: {}", name_of(frame.kind)));
        // Not inside the sender's own call: it hears of it as of everything else, later.
        sender->process().post([weak = sender_] {
          if (const auto end = weak.lock()) end->close(base::Error(Code::unavailable, "the connection was reset"));
        });
        return;
      }
    }
  }
  last_due_ = std::max(due, last_due_ + base::Duration(1));
  flying_.push_back({last_due_, std::move(frame)});
  if (flying_.size() == 1) pump();
}

void Pipe::pump() {
  const auto receiver = receiver_.lock();
  if (!receiver) {
    flying_.clear();
    return;
  }
  if (flying_.empty()) return;
  receiver->process().post_at(flying_.front().due, [self = shared_from_this()] { self->arrive(); });
}

void Pipe::stall(End& receiver) {
  const auto now = network_.world().now();
  if (!stalled_until_) {
    stalled_until_ = now + network_.keepalive();
    retry_ = milliseconds(200);
  }
  if (now >= *stalled_until_) {
    flying_.clear();
    const base::Error why(Code::unavailable, "the peer does not answer: keepalive gave up");
    if (const auto sender = sender_.lock()) {
      sender->process().post_at(now + between(network_.random(), {}, seconds(5)), [weak = sender_, why] {
        if (const auto end = weak.lock()) end->break_off(why);
      });
    }
    receiver.break_off(why);
    return;
  }
  retry_ = std::min<base::Duration>(retry_ * 2, seconds(5));  // as TCP's retransmissions
  receiver.process().post_at(now + retry_, [self = shared_from_this()] { self->arrive(); });
}

void Pipe::abandon() {
  const auto receiver = receiver_.lock();
  if (!receiver || receiver->broken()) return;
  receiver->process().post_at(network_.world().now() + network_.keepalive(), [weak = receiver_] {
    if (const auto end = weak.lock()) end->break_off(base::Error(Code::unavailable, "the peer closed the connection"));
  });
}

void Pipe::arrive() {
  const auto receiver = receiver_.lock();
  if (!receiver || receiver->broken() || flying_.empty()) {
    flying_.clear();
    return;
  }
  if (!network_.reachable(receiver->peer_node(), receiver->process().node())) {
    stall(*receiver);
    return;
  }
  stalled_until_.reset();
  Frame frame = std::move(flying_.front().frame);
  flying_.pop_front();
  pump();
  receiver->arrive(std::move(frame));
}

End::End(Network& network, Process& process, std::uint64_t connection, std::uint64_t serial, bool local, rpc::Peer peer)
    : network_(network),
      process_(process),
      connection_(connection),
      serial_(serial),
      local_(local),
      link_(std::make_shared<EndLink>(process, serial, std::move(peer))) {}

End::~End() { network_.delist(*this); }

void End::join(const std::shared_ptr<End>& peer) {
  peer_node_ = peer->process().node();
  out_ = std::make_shared<Pipe>(network_, weak_from_this(), peer, local_);
  network_.enlist(shared_from_this());
}

std::string End::describe(const Frame& frame, std::string_view verb) const {
  return fmt::format("c{} {} {}/{} {} {}B", connection_, verb, frame.stream, name_of(frame.kind),
                     frame.error ? frame.error->message() : frame.method, frame.body.size());
}

void End::send(Frame frame) {
  if (broken_) return;
  process_.log(describe(frame, "<-"));
  if (!local_) frame.files.clear();
  out_->push(std::move(frame));
}

void End::arrive(Frame frame) {
  process_.log(describe(frame, "->"));
  for (const auto& file : frame.files) {
    const rpc::Descriptor received(file.key(), std::make_shared<const base::UniqueFd>());
    if (chance(network_.random(), network_.faults().late_descriptor)) {
      process_.post_at(process_.now() + between(network_.random(), {}, milliseconds(1)),
                       [link = link_, received] { link->inner().arrived(received); });
    } else {
      link_->inner().arrived(received);
    }
  }
  frame.files.clear();
  if (frame.kind == Frame::Kind::reset) {
    break_off(frame.error ? *frame.error : base::Error(Code::unavailable, "the peer closed the connection"));
    return;
  }
  receive(std::move(frame));
}

void End::break_off(const base::Error& why) {
  if (broken_) return;
  const auto self = shared_from_this();
  broken_ = why;
  if (process_.alive()) process_.log(fmt::format("c{} breaks: {}", connection_, why.message()));
  network_.delist(*this);
  link_->inner().broken(why);
  on_broken(why);
}

void End::give_up() {
  if (broken_) return;
  out_->abandon();
  break_off(base::Error(Code::unavailable, "the peer does not answer: keepalive gave up"));
}

void End::close(const base::Error& why) {
  if (broken_) return;
  Frame frame(Frame::Kind::reset, 0);
  frame.error = base::Error(Code::unavailable, "the peer closed the connection");
  out_->push(std::move(frame));
  break_off(why);
}

void End::die() {
  if (broken_) return;
  const bool silent = !local_ && chance(network_.random(), network_.faults().half_open);
  out_->push(Frame(Frame::Kind::reset, 0), silent ? network_.keepalive() : base::Duration());
  break_off(base::Error(Code::unavailable, "this process is dead"));
}

std::uint32_t ClientEnd::open(std::shared_ptr<ClientCall> call, Frame start) {
  start.stream = last_stream_ += 2;
  const auto stream = start.stream;
  calls_.emplace(stream, std::move(call));
  send(std::move(start));
  return stream;
}

void ClientEnd::abandon(std::uint32_t stream) {
  auto call = calls_.extract(stream);
  if (!call.empty()) send(Frame(Frame::Kind::cancel, stream));
}

void ClientEnd::receive(Frame frame) {
  const auto found = calls_.find(frame.stream);
  if (found == calls_.end()) return;  // abandoned
  const auto call = found->second;
  if (frame.kind == Frame::Kind::message) {
    call->on_message(std::move(frame.metadata), std::move(frame.body));
  } else if (frame.kind == Frame::Kind::end) {
    calls_.erase(found);
    call->on_end(frame.error ? Result<void>(std::unexpected(*frame.error)) : Result<void>(), frame.unprocessed);
  }
}

void ClientEnd::on_broken(const base::Error& why) {
  const auto calls = std::move(calls_);
  calls_.clear();
  for (const auto& [stream, call] : calls) call->on_end(std::unexpected(why), false);
}

void ServerEnd::receive(Frame frame) {
  if (frame.kind == Frame::Kind::start) {
    listener_->serve(std::static_pointer_cast<ServerEnd>(shared_from_this()), std::move(frame));
    return;
  }
  const auto found = serving_.find(frame.stream);
  if (found == serving_.end()) return;  // answered already
  const auto serving = found->second;
  if (frame.kind == Frame::Kind::cancel) {
    serving->stop.request_stop();
  } else if (frame.kind == Frame::Kind::credit) {
    serving->unread -= std::min(serving->unread, frame.credit);
  }
  if (serving->room && (serving->unread <= kWindow || serving->stop.stopped())) serving->room->set(true);
}

void ServerEnd::stop_calls() {
  const auto serving = serving_;
  for (const auto& [stream, call] : serving) {
    call->stop.request_stop();
    if (call->room) call->room->set(true);
  }
}

void ServerEnd::on_broken(const base::Error&) {
  stop_calls();
  listener_->forget(*this);
}

namespace {

class ServerStreamEnd final : public rpc::ServerStream {
 public:
  ServerStreamEnd(rpc::ServerCall& call, std::shared_ptr<ServerEnd> end, std::shared_ptr<Serving> serving,
                  std::uint32_t stream)
      : call_(call), end_(std::move(end)), serving_(std::move(serving)), stream_(stream) {}

  Task<Result<void>> write(rpc::Bytes message, std::vector<rpc::Descriptor> descriptors) override {
    if (auto open = check(); !open) co_return open;
    Frame frame(Frame::Kind::message, stream_);
    frame.metadata = std::exchange(call_.reply_metadata, {});
    serving_->unread += message.size();
    frame.body = std::move(message);
    frame.files = std::move(descriptors);
    end_->send(std::move(frame));
    while (serving_->unread > kWindow) {
      base::OneShot<bool> room(end_->process());
      serving_->room.emplace(room);
      co_await room;
      serving_->room.reset();
      if (auto open = check(); !open) co_return open;
    }
    co_return Result<void>();
  }

 private:
  Result<void> check() const {
    if (end_->broken())
      return fail(Code::unavailable, "{}: the stream's connection broke: {}", call_.method, end_->why().message());
    if (serving_->stop.stopped()) return fail(Code::cancelled, "{}: the client ended the stream", call_.method);
    return {};
  }

  rpc::ServerCall& call_;
  const std::shared_ptr<ServerEnd> end_;
  const std::shared_ptr<Serving> serving_;
  const std::uint32_t stream_;
};

}  // namespace

void ListenerState::serve(std::shared_ptr<ServerEnd> end, Frame start) {
  base::spawn_detached(handle(shared_from_this(), std::move(end), std::move(start)));
}

Task<Result<void>> ListenerState::dispatch(const rpc::Services& services, rpc::ServerCall& call,
                                           std::shared_ptr<ServerEnd> end, std::shared_ptr<Serving> serving,
                                           std::uint32_t stream, rpc::Bytes body) {
  const auto found = services.find(call.method);
  if (found == services.end()) co_return fail(Code::unimplemented, "method {} is not served here", call.method);
  if (const auto* unary = std::get_if<rpc::UnaryHandler>(&found->second)) {
    auto answer = co_await (*unary)(call, std::move(body));
    if (!answer) co_return std::unexpected(answer.error());
    if (answer->size() > kMaxMessage) {
      co_return fail(Code::resource_exhausted, "{}: the answer has {} bytes, the limit is {}: ask for less",
                     call.method, answer->size(), kMaxMessage);
    }
    Frame reply(Frame::Kind::message, stream);
    reply.metadata = std::move(call.reply_metadata);
    reply.body = std::move(*answer);
    reply.files = std::move(call.reply_descriptors);
    end->send(std::move(reply));
    co_return Result<void>();
  }
  ServerStreamEnd writer(call, end, serving, stream);
  co_return co_await std::get<rpc::StreamHandler>(found->second)(call, std::move(body), writer);
}

Task<void> ListenerState::handle(std::shared_ptr<ListenerState> self, std::shared_ptr<ServerEnd> end, Frame start) {
  ++self->running_;
  const auto stream = start.stream;
  const auto serving = std::make_shared<Serving>();
  end->serving()[stream] = serving;
  rpc::ServerCall call;
  call.method = std::move(start.method);
  call.metadata = std::move(start.metadata);
  call.deadline = base::saturating_add(self->process_.now(), start.timeout);
  call.stop = serving->stop.token();
  call.link = end->link();
  Frame last(Frame::Kind::end, stream);
  if (self->accepting_) {
    auto status = co_await dispatch(self->services_, call, end, serving, stream, std::move(start.body));
    if (!status) last.error = status.error();
  } else {
    last.error = base::Error(Code::unavailable, "the server is shutting down");
    last.unprocessed = true;
  }
  end->serving().erase(stream);
  if (!serving->stop.stopped() || !end->broken()) end->send(std::move(last));
  if (--self->running_ == 0 && self->idle_) self->idle_->set(true);
}

void ListenerState::refuse() {
  accepting_ = false;
  network_.delist(*this);
}

void ListenerState::close(const base::Error& why) {
  refuse();
  const auto ends = ends_;
  for (const auto& [serial, end] : ends) end->close(why);
}

Task<void> ListenerState::finish() {
  const auto self = shared_from_this();
  refuse();
  const auto ends = ends_;
  for (const auto& [serial, end] : ends) end->stop_calls();
  while (running_ > 0) {
    base::OneShot<bool> idle(process_);
    idle_.emplace(idle);
    co_await idle;
    idle_.reset();
  }
  close(base::Error(Code::unavailable, "the listener has finished"));
}

}  // namespace sim
