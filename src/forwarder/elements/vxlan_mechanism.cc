// SPDX-License-Identifier: Apache-2.0
#include "forwarder/elements/vxlan_mechanism.h"

#include <algorithm>
#include <charconv>

namespace forwarder {

using base::Code;
using base::fail;
using base::Result;
using base::Task;
using mesh::Connection;
using mesh::Mechanism;

namespace {

constexpr std::uint16_t kDefaultPort = 4789;

// Unreadable numbers count as absent, as they do everywhere in NSM.
std::uint64_t number(const std::string& text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size() ? value : 0;
}

Result<wire::IpAddress> address(const Mechanism& mechanism, const char* key) {
  auto parsed = wire::IpAddress::parse(mesh::mechanism_parameter(mechanism, key));
  if (!parsed)
    return std::unexpected(parsed.error().wrap(fmt::format("mechanism {}, parameter {}", mechanism.type(), key)));
  return *parsed;
}

}  // namespace

std::uint32_t vxlan_overhead(wire::Family underlay) { return underlay == wire::Family::v4 ? 54 : 74; }

std::uint32_t vxlan_mtu(const Underlay& underlay) {
  const std::uint32_t overhead = vxlan_overhead(underlay.address.family());
  return underlay.mtu > overhead ? underlay.mtu - overhead : 0;
}

Result<VxlanEnd> vxlan_end(const Mechanism& mechanism, Side local_side) {
  const bool client = local_side == Side::client;
  auto local = address(mechanism, client ? mesh::parameter::kSrcIp : mesh::parameter::kDstIp);
  if (!local) return std::unexpected(local.error());
  auto remote = address(mechanism, client ? mesh::parameter::kDstIp : mesh::parameter::kSrcIp);
  if (!remote) return std::unexpected(remote.error());
  if (local->family() != remote->family()) {
    return fail(Code::invalid_argument,
                "a tunnel from {} to {} mixes IPv4 and IPv6: both ends need an address of one family",
                local->to_string(), remote->to_string());
  }
  const auto port_of = [&](const char* key) -> std::uint64_t {
    const auto port = number(mesh::mechanism_parameter(mechanism, key));
    return port == 0 ? kDefaultPort : port;
  };
  const auto src_port = port_of(mesh::parameter::kSrcPort);
  const auto dst_port = port_of(mesh::parameter::kDstPort);
  if (src_port != dst_port || src_port > UINT16_MAX) {
    return fail(Code::invalid_argument,
                "a tunnel with port {} at one end and {} at the other cannot work: a VXLAN device sends to the port it "
                "receives on; give both forwarders the same NSM_VXLAN_PORT",
                src_port, dst_port);
  }
  const auto vni = number(mesh::mechanism_parameter(mechanism, mesh::parameter::kVni));
  if (vni == 0 || vni > 0xFFFFFF) {
    return fail(Code::invalid_argument, "mechanism {} has vni '{}': it must be a number from 1 to 16777215",
                mechanism.type(), mesh::mechanism_parameter(mechanism, mesh::parameter::kVni));
  }
  VxlanEnd end;
  end.local = *local;
  end.remote = *remote;
  end.port = static_cast<std::uint16_t>(src_port);
  end.vni = static_cast<std::uint32_t>(vni);
  return end;
}

Task<Result<Connection>> VxlanMechanism::request(mesh::Call& call, mesh::NetworkServiceRequest request) {
  Connection& connection = *request.mutable_connection();
  Mechanism& mechanism = *connection.mutable_mechanism();
  const std::string id = connection.id();
  auto& parameters = *mechanism.mutable_parameters();

  auto src = address(mechanism, mesh::parameter::kSrcIp);
  if (!src) co_return std::unexpected(src.error());
  parameters[mesh::parameter::kDstIp] = underlay_.address.to_string();
  parameters[mesh::parameter::kDstPort] = std::to_string(port_);
  auto vni = vnis_.allocate(
      id, static_cast<std::uint32_t>(std::min<std::uint64_t>(number(parameters[mesh::parameter::kVni]), UINT32_MAX)),
      *src, underlay_.address);
  if (!vni) co_return std::unexpected(vni.error());
  parameters[mesh::parameter::kVni] = std::to_string(*vni);

  std::uint32_t mtu = vxlan_mtu(underlay_);
  if (const auto theirs = number(parameters[mesh::parameter::kMtu]); theirs != 0)
    mtu = static_cast<std::uint32_t>(std::min<std::uint64_t>(mtu, theirs));
  parameters[mesh::parameter::kMtu] = std::to_string(mtu);
  auto& context = *connection.mutable_context();
  context.set_mtu(context.mtu() == 0 ? mtu : std::min(context.mtu(), mtu));

  auto answered = co_await call.next(std::move(request));
  if (!answered && !call.context().established) vnis_.release(id);
  co_return answered;
}

Task<Result<void>> VxlanMechanism::close(mesh::Call& call, Connection connection) {
  const std::string id = connection.id();
  auto closed = co_await call.next_close(std::move(connection));
  vnis_.release(id);
  co_return closed;
}

}  // namespace forwarder
