// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/registry_client_info/registry_client_info.h"

#include <gtest/gtest.h>

#include "fakes/fake_registry.h"
#include "fakes/manual_scheduler.h"
#include "mesh/elements/registry_payload/registry_payload.h"

namespace mesh {
namespace {

TEST(RegistryClientInfoTest, AddsLabelsToEveryServiceButReplacesNone) {
  fakes::ManualScheduler scheduler;
  fakes::FakeRegistry<Endpoints> below;
  RegistryClientInfo element({{"nodeName", "node-a"}, {"podName", "pod-1"}});
  element.set_next(below);
  RegistryCall call(scheduler, base::kNoDeadline, base::StopToken());
  NetworkServiceEndpoint endpoint;
  endpoint.set_name("nse");
  endpoint.add_network_service_names("without-labels");
  (*endpoint.mutable_network_service_labels())["one"].mutable_labels()->insert({"nodeName", "chosen"});
  (*endpoint.mutable_network_service_labels())["two"].mutable_labels()->insert({"app", "x"});
  const auto stored = scheduler.run(element.enroll(call, endpoint)).value().value();
  EXPECT_EQ(ordered(stored.network_service_labels().at("one").labels()),
            (Labels{{"nodeName", "chosen"}, {"podName", "pod-1"}}));
  EXPECT_EQ(ordered(stored.network_service_labels().at("two").labels()),
            (Labels{{"app", "x"}, {"nodeName", "node-a"}, {"podName", "pod-1"}}));
  EXPECT_EQ(stored.network_service_labels_size(), 2);
}

TEST(RegistryPayloadTest, IpIsTheDefault) {
  fakes::ManualScheduler scheduler;
  fakes::FakeRegistry<Services> below;
  RegistryPayload element;
  element.set_next(below);
  RegistryCall call(scheduler, base::kNoDeadline, base::StopToken());
  NetworkService service;
  service.set_name("icmp");
  EXPECT_EQ(scheduler.run(element.enroll(call, service)).value().value().payload(), "IP");
  service.set_payload("ETHERNET");
  EXPECT_EQ(scheduler.run(element.enroll(call, service)).value().value().payload(), "ETHERNET");
}

}  // namespace
}  // namespace mesh
