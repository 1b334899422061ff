// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/descriptors/descriptor_kind.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <cerrno>

namespace mesh {

using base::Code;
using base::fail;
using base::Result;

Result<void> check_network_namespace(const rpc::Descriptor& descriptor) {
  if (descriptor.fd() < 0) return {};
  const auto refuse = [&](std::string_view what) {
    return fail(Code::invalid_argument, "{} is {}: pass the file of a network namespace, such as /proc/self/ns/net",
                descriptor.url(), what);
  };
  struct statfs filesystem = {};
  if (::fstatfs(descriptor.fd(), &filesystem) != 0) return base::fail_errno(errno, "cannot identify a received file");
  if (filesystem.f_type != NSFS_MAGIC) return refuse("no namespace");
  // It came as O_PATH, which takes no ioctl. On nsfs there is nothing that opening could block on or set off.
  const base::UniqueFd opened(::open(descriptor.path().c_str(), O_RDONLY | O_CLOEXEC));
  if (!opened) return base::fail_errno(errno, "cannot open a received namespace");
  const int type = ::ioctl(opened.get(), NS_GET_NSTYPE);
  if (type < 0) return base::fail_errno(errno, "cannot tell the kind of a received namespace");
  return type == CLONE_NEWNET ? Result<void>() : refuse("a namespace of another kind");
}

Result<void> check_socket(const rpc::Descriptor& descriptor) {
  if (descriptor.fd() < 0) return {};
  struct stat status = {};
  if (::fstat(descriptor.fd(), &status) != 0) return base::fail_errno(errno, "cannot identify a received file");
  if (S_ISSOCK(status.st_mode)) return {};
  return fail(Code::invalid_argument, "{} is no socket: pass the socket that the endpoint listens on",
              descriptor.url());
}

}  // namespace mesh
