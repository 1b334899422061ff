// SPDX-License-Identifier: Apache-2.0
// Real processes on real sockets. What needs root is skipped, loudly, without it.
#include "identity/server/attest.h"

#include <gmock/gmock.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <array>
#include <chrono>
#include <functional>
#include <thread>

#include "rpc/http2/dial.h"
#include "rpc/http2/raw_peer.h"
#include "rpc/http2/test_world.h"

namespace identity {
namespace {

using ::testing::HasSubstr;

// Waits until killed; the socket stays open.
[[noreturn]] void stay() {
  for (;;) ::pause();
}

class AttestTest : public ::testing::Test {
 protected:
  AttestTest() {
    ::chmod(scratch_.path().c_str(), 0755);
    const auto address = rpc::http2::unix_address(path_);
    EXPECT_EQ(::bind(listening_.get(), address.get(), address.length), 0);
    EXPECT_EQ(::chmod(path_.c_str(), 0777), 0);
    EXPECT_EQ(::listen(listening_.get(), 8), 0);
  }
  ~AttestTest() override { end_child(); }

  // A child that does this, and its connection as we accepted it. The child connects by connect_here().
  base::UniqueFd accept_child(const std::function<void()>& does) {
    child_ = ::fork();
    if (child_ == 0) {
      does();
      ::_exit(0);
    }
    return base::UniqueFd(::accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  }
  // Stays open over an exec.
  void connect_here() const {
    const int socket = ::socket(AF_UNIX, SOCK_STREAM, 0);
    const auto address = rpc::http2::unix_address(path_);
    if (::connect(socket, address.get(), address.length) != 0) ::_exit(1);
  }
  void end_child() {
    if (child_ <= 0) return;
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
    child_ = -1;
  }

  rpc::testing::ScratchDirectory scratch_;
  const std::string path_ = scratch_.path() + "/socket";
  const base::UniqueFd listening_{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  pid_t child_ = -1;
};

TEST_F(AttestTest, KnowsWhoConnected) {
  const auto socket = accept_child([&] {
    connect_here();
    stay();
  });
  const auto caller = attest(socket.get());
  ASSERT_TRUE(caller) << caller.error().message();
  EXPECT_EQ(caller->uid, ::geteuid());
  EXPECT_EQ(caller->gid, ::getegid());
  EXPECT_EQ(caller->pid, child_);
  EXPECT_EQ(caller->executable, std::filesystem::read_symlink("/proc/self/exe").string());
  EXPECT_TRUE(caller->cgroup);
  EXPECT_TRUE(caller->alive());
}

TEST_F(AttestTest, KnowsOtherUsers) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can have children of other uids";
  const auto socket = accept_child([&] {
    if (::setgroups(0, nullptr) != 0 || ::setgid(4321) != 0 || ::setuid(1234) != 0) ::_exit(1);
    connect_here();
    stay();
  });
  const auto caller = attest(socket.get());
  ASSERT_TRUE(caller);
  EXPECT_EQ(caller->uid, 1234U);
  EXPECT_EQ(caller->gid, 4321U);
  EXPECT_TRUE(caller->executable);
}

TEST_F(AttestTest, RefusesWhoHasEnded) {
  const auto socket = accept_child([&] { connect_here(); });
  ::waitpid(child_, nullptr, 0);
  child_ = -1;
  const auto caller = attest(socket.get());
  ASSERT_FALSE(caller);
  EXPECT_EQ(caller.error().code(), base::Code::permission_denied);
}

// Its number is free once it is reaped: who comes next under that number must not be taken for it.
TEST_F(AttestTest, RefusesAZombie) {
  const auto socket = accept_child([&] { connect_here(); });
  siginfo_t ended = {};
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(child_), &ended, WEXITED | WNOWAIT), 0);
  const auto caller = attest(socket.get());
  ASSERT_FALSE(caller);
  EXPECT_EQ(caller.error().code(), base::Code::permission_denied);
}

TEST_F(AttestTest, NoticesTheEndLater) {
  const auto socket = accept_child([&] {
    connect_here();
    stay();
  });
  const auto caller = attest(socket.get());
  ASSERT_TRUE(caller);
  ASSERT_TRUE(caller->alive());
  end_child();
  EXPECT_FALSE(caller->alive());
}

// The descriptor outlives its process, a socket that was handed on does not prove the one who connected.
TEST_F(AttestTest, AConnectionHandedOnIsStillWhoConnected) {
  const auto socket = accept_child([&] {
    connect_here();
    if (::fork() == 0) {  // the grandchild has the socket, too
      ::alarm(5);
      stay();
    }
  });
  ::waitpid(child_, nullptr, 0);
  child_ = -1;
  EXPECT_FALSE(attest(socket.get()));
}

TEST_F(AttestTest, WithoutPidfdsOnlyTheUidCounts) {
  const auto socket = accept_child([&] {
    connect_here();
    stay();
  });
  const auto caller = attest(socket.get(), PidFds::never);
  ASSERT_TRUE(caller);
  EXPECT_EQ(caller->uid, ::geteuid());
  EXPECT_FALSE(caller->executable);
  EXPECT_FALSE(caller->cgroup);
  EXPECT_FALSE(caller->pod_uid);
}

// A copy of another program, mounted over its name where only the child sees it.
TEST_F(AttestTest, BelievesNoNameFromAnotherMountNamespace) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can mount";
  const std::string fake = scratch_.path() + "/fake";
  const std::string name = std::filesystem::canonical("/bin/sleep").string();
  std::filesystem::copy_file(name, fake);
  const auto socket = accept_child([&] {
    if (::unshare(CLONE_NEWNS) != 0 || ::mount("", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount(fake.c_str(), name.c_str(), nullptr, MS_BIND, nullptr) != 0) {
      ::_exit(1);
    }
    connect_here();
    ::execl(name.c_str(), "sleep", "60", nullptr);
    ::_exit(1);
  });
  const std::string link = "/proc/" + std::to_string(child_) + "/exe";
  struct stat wanted = {};
  ASSERT_EQ(::stat(fake.c_str(), &wanted), 0);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  struct stat runs = {};
  while (::stat(link.c_str(), &runs) == 0 && runs.st_ino != wanted.st_ino &&
         std::chrono::steady_clock::now() < deadline) {
    std::this_thread::yield();
  }
  ASSERT_EQ(runs.st_ino, wanted.st_ino);
  ASSERT_EQ(std::filesystem::read_symlink(link).string(), name);
  const auto caller = attest(socket.get());
  ASSERT_TRUE(caller);
  EXPECT_FALSE(caller->executable) << *caller->executable;
  EXPECT_EQ(caller->uid, 0U);
}

TEST_F(AttestTest, SeesWhoIsRootOnlyInANamespaceOfItsOwn) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can have children of other uids";
  const auto socket = accept_child([&] {
    if (::setuid(1234) != 0) ::_exit(1);
    if (::unshare(CLONE_NEWUSER) != 0) ::_exit(1);  // all capabilities, and whatever uid it likes, in there
    connect_here();
    stay();
  });
  if (socket.get() < 0) GTEST_SKIP() << "this kernel lets no user make namespaces";
  const auto caller = attest(socket.get());
  ASSERT_TRUE(caller);
  EXPECT_EQ(caller->uid, 1234U);
}

TEST_F(AttestTest, KnowsNobodyOverTcp) {
  std::array<int, 1> none{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  const base::UniqueFd socket(none[0]);
  EXPECT_FALSE(attest(socket.get()));
}

TEST_F(AttestTest, TheTableForgetsWithTheConnection) {
  base::EventLoop loop;
  auto socket = accept_child([&] {
    connect_here();
    stay();
  });
  AttestingSecurity security;
  auto task = security.secure(std::make_unique<rpc::http2::SocketStream>(loop, std::move(socket)),
                              rpc::http2::Side::server, base::kNoDeadline);
  auto stream = rpc::testing::wait(loop, std::move(task));
  ASSERT_TRUE(stream);
  const auto peer = (*stream)->peer();
  ASSERT_NE(security.caller(peer), nullptr);
  EXPECT_EQ(security.caller(peer)->pid, child_);
  EXPECT_EQ(security.caller(rpc::Peer()), nullptr);
  stream->reset();
  EXPECT_EQ(security.caller(peer), nullptr);
}

TEST(PodUidTest, KnowsBothDriversOfTheKubelet) {
  const std::string uid = "1f2e3d4c-0000-1111-2222-333344445555";
  const std::string bar = "1f2e3d4c_0000_1111_2222_333344445555";
  const std::string digits(32, 'a');
  const std::vector<std::pair<std::string, std::optional<std::string>>> cases{
      {"/kubepods/pod" + uid + "/0123", uid},
      {"/kubepods/burstable/pod" + uid, uid},
      {"/kubepods/besteffort/pod" + uid + "/cri/x", uid},
      {"/kubepods/burstable/pod" + digits + "/x", digits},
      {"/kubelet/kubepods/burstable/pod" + uid + "/x", uid},
      {"/kubepods.slice/kubepods-pod" + bar + ".slice/cri-containerd-1.scope", uid},
      {"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + bar + ".slice/x", uid},
      {"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod" + bar +
           ".slice/x",
       uid},
      // Where others than the kubelet may write:
      {"/user.slice/user-1000.slice/user@1000.service/kubepods/pod" + uid, std::nullopt},
      {"/kubepods/evil/pod" + uid, std::nullopt},
      {"/system.slice/kubepods.slice/kubepods-pod" + bar + ".slice", std::nullopt},
      {"/kubepods.slice/kubepods-burstable.slice/kubepods-besteffort-pod" + bar + ".slice", std::nullopt},
      {"/kubepods/pod" + uid.substr(1), std::nullopt},
      {"/kubepods/pod../../x", std::nullopt},
      {"/kubepods", std::nullopt},
      {"/", std::nullopt},
      {"", std::nullopt},
  };
  for (const auto& [cgroup, pod] : cases) EXPECT_EQ(pod_uid_of(cgroup), pod) << cgroup;
}

}  // namespace
}  // namespace identity
