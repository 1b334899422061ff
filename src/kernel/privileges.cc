// SPDX-License-Identifier: Apache-2.0
#include "kernel/privileges.h"

#include <linux/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>

namespace kernel {

base::Result<void> check_privileges() {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> sets{};
  if (::syscall(SYS_capget, &header, sets.data()) != 0) return base::fail_errno(errno, "cannot read own capabilities");

  struct Needed {
    unsigned number;
    const char* name;
    const char* purpose;
  };
  static constexpr Needed kNeeded[] = {{CAP_NET_ADMIN, "CAP_NET_ADMIN", "make interfaces and routes"},
                                       {CAP_SYS_ADMIN, "CAP_SYS_ADMIN", "enter the workloads' network namespaces"}};
  for (const auto& [number, name, purpose] : kNeeded) {
    if ((sets[number / 32].effective & (1U << (number % 32))) != 0) continue;
    return base::fail(
        base::Code::permission_denied,
        "this process (user {}) lacks {} and so cannot {}: run it as root, or privileged if in a container",
        ::geteuid(), name, purpose);
  }
  return {};
}

}  // namespace kernel
