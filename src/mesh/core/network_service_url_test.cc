// SPDX-License-Identifier: Apache-2.0
#include "mesh/core/network_service_url.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mesh {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

struct Case {
  std::string text;
  NetworkServiceUrl url;
};
class ReadableUrl : public testing::TestWithParam<Case> {};
TEST_P(ReadableUrl, IsRead) {
  const auto url = parse_network_service_url(GetParam().text);
  ASSERT_TRUE(url) << url.error().message();
  EXPECT_EQ(url->mechanism, GetParam().url.mechanism);
  EXPECT_EQ(url->service, GetParam().url.service);
  EXPECT_EQ(url->interface_name, GetParam().url.interface_name);
  EXPECT_EQ(url->labels, GetParam().url.labels);
}
INSTANTIATE_TEST_SUITE_P(AsNsm, ReadableUrl,
                         testing::Values(Case{"kernel://vwire/nsm-1?ip=172.16.2.1/24&vlan=100",
                                              {"KERNEL", "vwire", "nsm-1", {{"ip", "172.16.2.1/24"}, {"vlan", "100"}}}},
                                         Case{"memif://svc/nsm-1", {"MEMIF", "svc", "nsm-1", {}}},
                                         Case{"kernel://a/b/c", {"KERNEL", "a", "c", {}}},
                                         Case{"KERNEL://Svc/x", {"KERNEL", "Svc", "x", {}}},
                                         Case{"kernel://svc@a.b:8080/x", {"KERNEL", "svc@a.b", "x", {}}},
                                         Case{"kernel://a/b?x=1&x=2", {"KERNEL", "a", "b", {{"x", "1,2"}}}}));
INSTANTIATE_TEST_SUITE_P(Parts, ReadableUrl,
                         testing::Values(Case{"vfio://a", {"VFIO", "a", "", {}}},
                                         Case{"kernel://a/", {"KERNEL", "a", "", {}}},
                                         Case{"kernel://a_b.c-d/x", {"KERNEL", "a_b.c-d", "x", {}}},
                                         Case{"kernel://a:80", {"KERNEL", "a", "", {}}},
                                         Case{"kernel://a:/x", {"KERNEL", "a", "x", {}}},
                                         Case{"kernel://s:secret@d/x", {"KERNEL", "s@d", "x", {}}},
                                         Case{"kernel://svc@my.cluster2", {"KERNEL", "svc@my.cluster2", "", {}}},
                                         Case{"kernel://s%20t@d", {"KERNEL", "s t@d", "", {}}},
                                         Case{"kernel://caf%C3%A9/x", {"KERNEL", "caf\u00e9", "x", {}}},
                                         Case{"kernel://a/b%2Fc", {"KERNEL", "a", "c", {}}},
                                         Case{"kernel://a/n%2Dm+1", {"KERNEL", "a", "n-m+1", {}}},
                                         Case{"kernel://a/123456789012345", {"KERNEL", "a", "123456789012345", {}}},
                                         Case{"kernel://a/b#c?d=e", {"KERNEL", "a", "b", {}}},
                                         Case{"kernel://a?x=1#y", {"KERNEL", "a", "", {{"x", "1"}}}}));
INSTANTIATE_TEST_SUITE_P(Labels, ReadableUrl,
                         testing::Values(Case{"kernel://a?x", {"KERNEL", "a", "", {{"x", ""}}}},
                                         Case{"kernel://a?x=a%26b+c&&y=%3D",
                                              {"KERNEL", "a", "", {{"x", "a&b c"}, {"y", "="}}}},
                                         Case{"kernel://a?x=1;y=2&z=3", {"KERNEL", "a", "", {{"z", "3"}}}},
                                         Case{"kernel://a?x=%zz&y=1", {"KERNEL", "a", "", {{"y", "1"}}}},
                                         Case{"kernel://a?x=1=2", {"KERNEL", "a", "", {{"x", "1=2"}}}},
                                         Case{"kernel://a?sriovToken=worker.domain/10G",
                                              {"KERNEL", "a", "", {{"sriovToken", "worker.domain/10G"}}}}));

std::string failure_of(std::string_view text) {
  const auto url = parse_network_service_url(text);
  return url ? "no failure" : url.error().message();
}

TEST(NetworkServiceUrl, EmptySchemeOrServiceIsRefused) {
  EXPECT_EQ(failure_of("vpn/if-vpn"),
            "network service URL 'vpn/if-vpn': it begins with no mechanism, write kernel://SERVICE/INTERFACE or "
            "memif://SERVICE");
  EXPECT_EQ(failure_of("kernel:///nsm-1"),
            "network service URL 'kernel:///nsm-1': it names no service, write kernel://SERVICE/INTERFACE");
  for (const auto text : {"", "://a/b", "kernel:a/b", "1x://a", "ker nel://a", "kernel://", "kernel://:80/x",
                          "kernel://@d/x", "kernel://s@/x", "kernel://?x=1"}) {
    EXPECT_THAT(failure_of(text), HasSubstr("write ")) << text;
  }
}

TEST(NetworkServiceUrl, BrokenServiceIsRefused) {
  for (const auto text : {"kernel://svc%40dom/x", "kernel://a b/x", "kernel://a|b/x", "kernel://a:x/y",
                          "kernel://a:1:2/y", "kernel://a%/x", "kernel://a%C/x", "kernel://s<t@d/x", "kernel://[a/x"}) {
    EXPECT_THAT(failure_of(text), HasSubstr(text)) << text;
  }
}

TEST(NetworkServiceUrl, InterfaceNameTooLongForLinuxIsRefused) {
  EXPECT_EQ(failure_of("kernel://a/1234567890123456"),
            "network service URL 'kernel://a/1234567890123456': the interface name '1234567890123456' has 16 bytes and "
            "Linux takes at most 15, shorten it");
}

TEST(NetworkServiceUrl, InterfaceNameLinuxRefusesIsRefused) {
  for (const auto text : {"kernel://a/b%20", "kernel://a/.", "kernel://a/..", "kernel://a/b:1", "kernel://a/b%0A",
                          "kernel://a/b%zz", "kernel://a/b "}) {
    EXPECT_THAT(failure_of(text), HasSubstr("network service URL")) << text;
  }
}

TEST(NetworkServiceUrl, ControlCharactersAreRefused) {
  EXPECT_THAT(failure_of("kernel://a/b\n"), HasSubstr("control character"));
  EXPECT_THAT(failure_of(std::string("kernel://a/b\0", 13)), HasSubstr("control character"));
}

TEST(NetworkServiceUrls, BlanksAndLineBreaksAroundCommasDoNotCount) {
  const auto urls = parse_network_service_urls(" kernel://a/nsm-1 ,\n  kernel://b/nsm-2\r\n\n kernel://c\t\n");
  ASSERT_TRUE(urls) << urls.error().message();
  EXPECT_THAT(*urls,
              ElementsAre(NetworkServiceUrl{"KERNEL", "a", "nsm-1", {}}, NetworkServiceUrl{"KERNEL", "b", "nsm-2", {}},
                          NetworkServiceUrl{"KERNEL", "c", "", {}}));
}

TEST(NetworkServiceUrls, BlankTextIsAnEmptyList) {
  EXPECT_THAT(*parse_network_service_urls(""), IsEmpty());
  EXPECT_THAT(*parse_network_service_urls(" \n"), IsEmpty());
}

TEST(NetworkServiceUrls, EmptyItemIsRefused) {
  for (const auto text : {",", "kernel://a,", ",kernel://a", "kernel://a, ,kernel://b"}) {
    const auto urls = parse_network_service_urls(text);
    ASSERT_FALSE(urls) << text;
    EXPECT_THAT(urls.error().message(), HasSubstr("remove the comma"));
  }
}

TEST(NetworkServiceUrls, FirstBrokenUrlIsNamed) {
  const auto urls = parse_network_service_urls("kernel://a, vpn/if, x");
  ASSERT_FALSE(urls);
  EXPECT_THAT(urls.error().message(), HasSubstr("'vpn/if'"));
}

TEST(NetworkServiceUrls, CanBeAnOption) {
  std::vector<NetworkServiceUrl> services;
  const std::vector<base::Option> options{
      network_services_option("NSM_NETWORK_SERVICES", &services, "what to connect to")};
  ASSERT_TRUE(base::read_environment(options, [](const auto&) { return "kernel://a/nsm-1"; }));
  EXPECT_EQ(services.size(), 1U);
  const auto failed = base::read_environment(options, [](const auto&) { return "a"; });
  ASSERT_FALSE(failed);
  EXPECT_THAT(failed.error().message(), HasSubstr("NSM_NETWORK_SERVICES is 'a': network service URL 'a': it begins"));
}

}  // namespace
}  // namespace mesh
