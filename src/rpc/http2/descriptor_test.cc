// SPDX-License-Identifier: Apache-2.0
// How files travel: the socket at the bottom, the table of a connection, and raw peers that send them as NSM's Go peers
// do.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "rpc/http2/link.h"
#include "rpc/http2/raw_peer.h"
#include "rpc/http2/socket_stream.h"
#include "rpc/http2/test_world.h"
#include "rpc/http2/transport.h"

namespace rpc::testing {
namespace {

using namespace std::chrono_literals;

std::pair<base::UniqueFd, base::UniqueFd> socket_pair() {
  int ends[2] = {-1, -1};
  ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends);
  return {base::UniqueFd(ends[0]), base::UniqueFd(ends[1])};
}

class SocketStreamTest : public ::testing::Test {
 protected:
  SocketStreamTest() : SocketStreamTest(socket_pair()) {}
  explicit SocketStreamTest(std::pair<base::UniqueFd, base::UniqueFd> ends)
      : near_(loop_, std::move(ends.first)), far_(loop_, std::move(ends.second)) {
    far_.on_descriptor([this](Descriptor descriptor) { arrived_.push_back(descriptor.key()); });
  }

  // Writes all, as the connection does: again while there is something left.
  void write_all(std::string_view bytes) {
    while (!bytes.empty()) {
      const auto wrote = near_.write(std::span(bytes.data(), bytes.size()));
      ASSERT_TRUE(wrote) << wrote.error().message();
      ASSERT_GT(*wrote, 0U);
      bytes.remove_prefix(*wrote);
    }
  }
  // Reads what there is, in reads of this size.
  std::string read_all(std::size_t step) {
    std::string all;
    std::string part(step, '\0');
    while (true) {
      const auto got = far_.read(part);
      if (!got || !*got || **got == 0) return all;
      all += part.substr(0, **got);
    }
  }

  base::EventLoop loop_;
  http2::SocketStream near_;
  http2::SocketStream far_;
  std::vector<InodeKey> arrived_;
};

TEST_F(SocketStreamTest, EachFileGoesWithAByteOfItsOwn) {
  std::vector<InodeKey> sent;
  for (int i = 0; i < 5; ++i) {
    const auto file = memory_file();
    sent.push_back(file.key());
    near_.attach(file);
  }
  write_all("0123456789");
  std::string part(100, '\0');
  for (int i = 0; i < 5; ++i) {
    const auto got = far_.read(part);
    ASSERT_TRUE(got && *got);
    EXPECT_EQ(**got, 1U);
    EXPECT_EQ(part[0], '0' + i);
    EXPECT_EQ(arrived_.size(), static_cast<std::size_t>(i) + 1);
  }
  EXPECT_EQ(read_all(100), "56789");
  EXPECT_EQ(arrived_, sent);
}

TEST_F(SocketStreamTest, MoreFilesThanBytesAllArrive) {
  for (int i = 0; i < 60; ++i) near_.attach(memory_file());
  write_all("abc");
  EXPECT_EQ(read_all(100), "abc");
  EXPECT_EQ(arrived_.size(), 60U);
}

TEST_F(SocketStreamTest, TwoHundredFilesWithOneByteReads) {
  const std::string bytes(300, 'x');
  for (int i = 0; i < 200; ++i) near_.attach(memory_file());
  write_all(bytes);
  EXPECT_EQ(read_all(1), bytes);
  EXPECT_EQ(arrived_.size(), 200U);
}

TEST_F(SocketStreamTest, FilesWaitOutAFullSocket) {
  const std::string block(64 << 10, 'x');
  std::size_t filled = 0;
  while (true) {
    const auto wrote = near_.write(block);
    ASSERT_TRUE(wrote);
    if (*wrote == 0) break;
    filled += *wrote;
  }
  for (int i = 0; i < 10; ++i) near_.attach(memory_file());
  const auto blocked = near_.write(std::string_view("0123456789"));
  ASSERT_TRUE(blocked);
  EXPECT_EQ(*blocked, 0U);
  EXPECT_EQ(read_all(block.size()).size(), filled);
  EXPECT_TRUE(arrived_.empty());
  write_all("0123456789");
  EXPECT_EQ(read_all(100), "0123456789");
  EXPECT_EQ(arrived_.size(), 10U);
}

TEST_F(SocketStreamTest, UnsentFilesAreClosedWithTheStream) {
  const auto before = open_files();
  near_.attach(memory_file());
  EXPECT_EQ(open_files(), before + 1);
  near_.close();
  far_.close();
  EXPECT_EQ(open_files(), before - 2);
}

class LinkTest : public ::testing::Test {
 protected:
  base::Result<Descriptor> claim(InodeKey key) {
    return wait(loop_, link_->descriptor(key, loop_.now(), base::StopToken()));
  }
  // The same file once more, as another descriptor.
  static Descriptor again(const Descriptor& file) { return *Descriptor::adopt(base::UniqueFd(::dup(file.fd()))); }

  base::EventLoop loop_;
  std::shared_ptr<http2::ConnectionLink> link_ = std::make_shared<http2::ConnectionLink>(loop_, rpc::Peer());
};

TEST_F(LinkTest, UnclaimedFileIsKeptAndClaimedOneIsNot) {
  const auto before = open_files();
  const auto key = [&] {
    auto file = memory_file();
    const auto made = file.key();
    link_->arrived(std::move(file));
    return made;
  }();
  EXPECT_EQ(open_files(), before + 1);
  {
    const auto file = claim(key);
    ASSERT_TRUE(file) << file.error().message();
    EXPECT_TRUE(claim(key)) << "while somebody holds it, it can be had again";
    EXPECT_EQ(link_->held(), 0U);
  }
  EXPECT_EQ(open_files(), before);
  EXPECT_FALSE(claim(key));
}

TEST_F(LinkTest, TheSameFileAgainIsOneDescriptor) {
  const auto file = memory_file();
  const auto before = open_files();
  for (int i = 0; i < 10; ++i) link_->arrived(again(file));
  EXPECT_EQ(open_files(), before + 1);
}

TEST_F(LinkTest, FileSentAgainWhileItsFirstUserEndsIsKeptForTheSecond) {
  const auto file = memory_file();
  link_->arrived(again(file));
  {
    const auto first = claim(file.key());
    ASSERT_TRUE(first);
    link_->arrived(again(file));
  }
  EXPECT_TRUE(claim(file.key()));
}

TEST_F(LinkTest, EachArrivalMayBeClaimedOnce) {
  const auto file = memory_file();
  link_->arrived(again(file));
  link_->arrived(again(file));
  EXPECT_TRUE(claim(file.key()));
  EXPECT_TRUE(claim(file.key()));
  EXPECT_FALSE(claim(file.key()));
}

TEST_F(LinkTest, OldestUnclaimedFileGoesFirst) {
  const auto first = memory_file();
  const auto second = memory_file();
  link_->arrived(again(first));
  link_->arrived(again(second));
  // Made-up keys: the table need not hold a thousand descriptors to be tested.
  for (std::uint64_t i = 0; i < http2::ConnectionLink::kMaxUnclaimed - 1; ++i) {
    link_->arrived(Descriptor({99, i}, std::make_shared<const base::UniqueFd>()));
  }
  EXPECT_EQ(link_->held(), http2::ConnectionLink::kMaxUnclaimed);
  EXPECT_FALSE(claim(first.key()));
  EXPECT_TRUE(claim(second.key()));
}

TEST_F(LinkTest, WhatCameBeforeTheBreakCanStillBeHad) {
  const auto file = memory_file();
  link_->arrived(again(file));
  link_->broken(base::Error(base::Code::unavailable, "gone"));
  EXPECT_TRUE(claim(file.key()));
  const auto other = claim({1, 2});
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().code(), base::Code::unavailable);
}

TEST_F(LinkTest, AllWhoWaitForAFileGetIt) {
  const auto file = memory_file();
  const auto one = begin(link_->descriptor(file.key(), base::kNoDeadline, {}));
  const auto two = begin(link_->descriptor(file.key(), base::kNoDeadline, {}));
  link_->arrived(again(file));
  EXPECT_TRUE(wait(loop_, one));
  EXPECT_TRUE(wait(loop_, two));
  EXPECT_EQ(link_->held(), 0U);
}

// A server whose one method takes the files its request names, one URL a line.
class RawClientTest : public ::testing::Test {
 protected:
  RawClientTest() {
    services_["/t.T/Take"] =
        UnaryHandler([this](ServerCall& call, Bytes request) { return take(call, std::move(request)); });
    listener_ = std::move(*transport_.listen("unix://" + path_, services_));
  }

  base::Task<base::Result<Bytes>> take(ServerCall& call, Bytes request) {
    std::vector<Descriptor> files;
    for (std::size_t at = 0; at < request.size();) {
      const auto end = request.find('\n', at);
      const auto key = parse_inode_url(request.substr(at, end - at));
      auto file = co_await call.link->descriptor(*key, std::min(call.deadline, loop_.now() + 2s), call.stop);
      if (!file) {
        failure_ = file.error().message();
        co_return std::unexpected(file.error());
      }
      files.push_back(std::move(*file));
      at = end + 1;
    }
    taken_ = files.size();
    co_return Bytes("ok");
  }

  void run(RawPeer& peer, std::int32_t id) {
    run_until(
        loop_,
        [&] {
          peer.pump();
          return peer.ended.contains(id) || peer.closed;
        },
        10s);
  }

  base::EventLoop loop_;
  ScratchDirectory directory_;
  const std::string path_ = directory_.path() + "/s";
  http2::Transport transport_{loop_};
  Services services_;
  std::unique_ptr<Listener> listener_;
  std::size_t taken_ = 0;
  std::string failure_;
};

TEST_F(RawClientTest, OneByteAtATimeWithAFileOnMany) {
  RawPeer peer(connect_unix(path_), http2::Side::client);
  std::vector<Descriptor> files;
  std::string request;
  for (int i = 0; i < 20; ++i) {
    files.push_back(memory_file());
    request += files.back().url() + "\n";
  }
  const auto id = peer.call("/t.T/Take", request);
  const auto bytes = peer.take_output();
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const int fd = i % 3 == 0 && i / 3 < files.size() ? files[i / 3].fd() : -1;
    const std::span<const int> with(&fd, fd >= 0 ? 1 : 0);
    while (!send_with_files(peer.fd(), bytes.substr(i, 1), with)) loop_.run_for(1ms);
    if (i % 7 == 0) loop_.run_for(1ms);
  }
  run(peer, id);
  EXPECT_EQ(peer.status(id), "0") << failure_;
  EXPECT_EQ(taken_, 20U);
}

TEST_F(RawClientTest, SixtyFourFilesInOneMessage) {
  RawPeer peer(connect_unix(path_), http2::Side::client);
  std::vector<Descriptor> files;
  std::vector<int> fds;
  std::string request;
  for (int i = 0; i < 64; ++i) {
    files.push_back(memory_file());
    fds.push_back(files.back().fd());
    request += files.back().url() + "\n";
  }
  const auto id = peer.call("/t.T/Take", request);
  ASSERT_TRUE(send_with_files(peer.fd(), peer.take_output(), fds));
  run(peer, id);
  EXPECT_EQ(peer.status(id), "0") << failure_;
  EXPECT_EQ(taken_, 64U);
}

TEST_F(RawClientTest, FilesBeyondTheRoomAreLostAndTheConnectionGoesOn) {
  const auto before = open_files();
  RawPeer peer(connect_unix(path_), http2::Side::client);
  std::vector<Descriptor> files;
  std::vector<int> fds;
  for (int i = 0; i < 100; ++i) {
    files.push_back(memory_file());
    fds.push_back(files.back().fd());
  }
  const auto kept = peer.call("/t.T/Take", files[0].url() + "\n" + files[63].url() + "\n");
  ASSERT_TRUE(send_with_files(peer.fd(), peer.take_output(), fds));
  run(peer, kept);
  EXPECT_EQ(peer.status(kept), "0") << failure_;
  const auto lost = peer.call("/t.T/Take", files[99].url() + "\n", {{"grpc-timeout", "100m"}});
  run(peer, lost);
  EXPECT_EQ(peer.status(lost), "4") << failure_;
  EXPECT_EQ(open_files(), before + 2 + 100 + 62);  // both ends, ours, and what waits to be asked for
}

TEST_F(RawClientTest, MissingFileIsDeadlineExceeded) {
  RawPeer peer(connect_unix(path_), http2::Side::client);
  const auto file = memory_file();
  const auto id = peer.call("/t.T/Take", file.url() + "\n", {{"grpc-timeout", "100m"}});
  run(peer, id);
  EXPECT_EQ(peer.status(id), "4");
  EXPECT_THAT(failure_, ::testing::HasSubstr(file.url()));
}

TEST_F(RawClientTest, FileThatComesAfterItsRequestIsWaitedFor) {
  RawPeer peer(connect_unix(path_), http2::Side::client);
  const auto file = memory_file();
  const auto id = peer.call("/t.T/Take", file.url() + "\n");
  peer.pump();
  loop_.run_for(20ms);
  EXPECT_FALSE(peer.ended.contains(id));
  const std::string ping("\0\0\x8\6\0\0\0\0\0abcdefgh", 17);
  const int fd = file.fd();
  ASSERT_TRUE(send_with_files(peer.fd(), ping, {&fd, 1}));
  run(peer, id);
  EXPECT_EQ(peer.status(id), "0") << failure_;
}

TEST_F(RawClientTest, HalfClosedPeersFileReachesItsHandler) {
  RawPeer peer(connect_unix(path_), http2::Side::client);
  const auto file = memory_file();
  peer.call("/t.T/Take", file.url() + "\n");
  const int fd = file.fd();
  ASSERT_TRUE(send_with_files(peer.fd(), peer.take_output(), {&fd, 1}));
  ::shutdown(peer.fd(), SHUT_WR);
  run_until(loop_, [&] { return taken_ == 1; }, 5s);
  EXPECT_EQ(taken_, 1U) << failure_;
}

TEST_F(RawClientTest, FilesGoWithTheirConnection) {
  const auto before = open_files();
  {
    RawPeer peer(connect_unix(path_), http2::Side::client);
    const auto file = memory_file();
    const int fd = file.fd();
    ASSERT_TRUE(send_with_files(peer.fd(), peer.take_output(), {&fd, 1}));
    run_until(loop_, [&] { return open_files() == before + 4; }, 5s);
    EXPECT_EQ(open_files(), before + 4);
  }
  run_until(loop_, [&] { return open_files() == before; }, 5s);
  EXPECT_EQ(open_files(), before);
}

}  // namespace
}  // namespace rpc::testing
