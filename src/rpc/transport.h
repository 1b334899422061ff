// SPDX-License-Identifier: Apache-2.0
// Calls between processes, as bytes: what the mesh needs of gRPC and no more, so that the simulator can stand in for
// it.
//
// Unary calls and server streams; metadata both ways; deadlines; cancellation; and files that travel beside a message
// over unix sockets (Descriptor). Everything runs on one scheduler's thread. Real life: http2::Transport, gRPC's wire
// protocol (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md). The simulator: sim::Transport.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/async.h"
#include "base/result.h"
#include "base/scheduler.h"
#include "base/stop.h"
#include "base/task.h"
#include "rpc/descriptor.h"

namespace rpc {

using Bytes = std::string;  // one serialised message

// Keys in lower case. Several values for one key are allowed.
using Metadata = std::multimap<std::string, std::string, std::less<>>;

// Nothing if the key is absent or not unique.
std::optional<std::string_view> single_value(const Metadata& metadata, std::string_view key);

// What a process shows of itself on a connection. The security layer says what that is.
class Credentials {
 public:
  virtual ~Credentials() = default;
};

// Who is at the other end of a connection, as far as its security layer proved it.
struct Peer {
  std::string id;                                  // SPIFFE ID; empty: nothing proves one
  std::string certificate;                         // X.509 leaf, DER; empty: none
  base::WallTime expires = base::WallTime::max();  // of the certificate
  std::shared_ptr<const Credentials> ours;         // what this end showed; null: nothing
};

// One transport connection, as seen from one of its ends.
class Link {
 public:
  virtual ~Link() = default;

  // Unique in this process, never reused.
  virtual std::uint64_t id() const = 0;

  // A file the peer sent over this connection; waits for one still on its way. Only files that came over this very
  // connection are ever returned. deadline_exceeded when it does not come, unavailable when the connection breaks.
  virtual base::Task<base::Result<Descriptor>> descriptor(InodeKey key, base::TimePoint deadline,
                                                          base::StopToken stop) = 0;

  virtual const Peer& peer() const = 0;
};

// Of a link that may not be there: nobody, then.
const Peer& peer_of(const std::shared_ptr<Link>& link);

// Adds metadata to every call a transport makes, once the peer is known. Where tokens enter.
class CallCredentials {
 public:
  virtual ~CallCredentials() = default;
  virtual Metadata for_call(const Link& link) = 0;
};

struct CallOptions {
  base::TimePoint deadline = base::kNoDeadline;  // covers dialling too
  base::StopToken stop;
  Metadata metadata;
  std::vector<Descriptor> descriptors;  // sent with the request; ignored over TCP
};

struct Reply {
  Bytes body;
  Metadata metadata;  // the server's initial metadata
  std::shared_ptr<Link> link;
};

// The client's end of a server stream. Dropping it cancels the call.
class ClientStream {
 public:
  virtual ~ClientStream() = default;

  // The next message; nothing when the server ended the stream with OK; the error it ended with otherwise.
  virtual base::Task<base::Result<std::optional<Bytes>>> read() = 0;
  // Ends the call; a pending read() returns cancelled.
  virtual void cancel() = 0;
  virtual std::shared_ptr<Link> link() const = 0;
};

// A peer. Dials when first needed and again after a connection broke; calls share one connection.
class Channel {
 public:
  virtual ~Channel() = default;

  // method: "/package.Service/Method".
  virtual base::Task<base::Result<Reply>> unary(std::string method, Bytes request, CallOptions options) = 0;
  // Returns when the request is on its way, before the first answer.
  virtual base::Task<base::Result<std::unique_ptr<ClientStream>>> stream(std::string method, Bytes request,
                                                                         CallOptions options) = 0;
};

// What a handler sees of a call that came in.
struct ServerCall {
  std::string method;
  Metadata metadata;
  base::TimePoint deadline = base::kNoDeadline;
  base::StopToken stop;  // the client cancelled, or its connection broke
  std::shared_ptr<Link> link;

  Metadata reply_metadata;                    // goes out before the first message
  std::vector<Descriptor> reply_descriptors;  // go out with the reply (unary)
};

// The server's end of a stream.
class ServerStream {
 public:
  virtual ~ServerStream() = default;
  // Returns when there is room for more, or with the reason why there never will be.
  virtual base::Task<base::Result<void>> write(Bytes message, std::vector<Descriptor> descriptors) = 0;
};

using UnaryHandler = std::function<base::Task<base::Result<Bytes>>(ServerCall&, Bytes)>;
using StreamHandler = std::function<base::Task<base::Result<void>>(ServerCall&, Bytes, ServerStream&)>;

// The methods a process serves, by "/package.Service/Method".
using Services = std::map<std::string, std::variant<UnaryHandler, StreamHandler>, std::less<>>;

// Serves until dropped. finish() first waits for calls under way.
class Listener {
 public:
  virtual ~Listener() = default;
  // Where it listens, with the port the system chose if 0 was asked for.
  virtual std::string url() const = 0;
  // Accepts nothing new, cancels calls (their handlers run their undo) and returns when the last handler has ended.
  virtual base::Task<void> finish() = 0;
};

class Transport {
 public:
  virtual ~Transport() = default;

  // The channel to a URL; the same one while anybody holds it. An inode URL needs the socket's descriptor.
  virtual base::Result<std::shared_ptr<Channel>> channel(const std::string& url,
                                                         std::optional<Descriptor> socket = std::nullopt) = 0;

  // services must outlive the listener. Unix sockets: a stale file is replaced, directories are made, mode 0777.
  virtual base::Result<std::unique_ptr<Listener>> listen(const std::string& url, const Services& services) = 0;
};

}  // namespace rpc
