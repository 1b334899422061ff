// SPDX-License-Identifier: Apache-2.0
// Who fits whom: endpoints to a client's labels, forwarders to a service's demands, stored registrations to a query.
// Pure functions of their arguments; results keep the order of the lists they were given, so equal input gives equal
// output whatever order protobuf's maps happen to have.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "mesh/core/api.h"

namespace mesh {

// Fills a selector's value in from the client's labels, the way Go's text/template does for NSM's registries: {{ .key
// }} becomes the label, or "<no value>" when there is none; {{ index . "key" }} the label, or nothing. {{- and -}} trim
// the blanks beside them. Text with any other action, or a broken one, stands for itself.
std::string expand_template(std::string_view text, const Labels& client);

// Whether labels bear all of the selector, each value taken literally or expanded. A label that is absent equals "",
// but labels fewer than the selector's never fit: both are NSM's rules.
bool fits(const Labels& labels, const Labels& selector, const Labels& client);

// The endpoints that the service's matches lead this client to, in order of preference; one may appear more than once.
std::vector<NetworkServiceEndpoint> match_endpoints(const Labels& client, const NetworkService& service,
                                                    const std::vector<NetworkServiceEndpoint>& endpoints);

// What a match demands of a forwarder: its metadata's labels, or p2p:true where it has none.
Labels required_forwarder_labels(const registry::Match& match);

// The forwarders that may carry this client's connection to the service. They are registered as endpoints of
// forwarder_service and bear their labels under that name.
std::vector<NetworkServiceEndpoint> match_forwarders(const Labels& client, const NetworkService& service,
                                                     std::string_view forwarder_service,
                                                     const std::vector<NetworkServiceEndpoint>& forwarders);

// Whether a stored record answers a query. Empty fields of the query match everything. Endpoints: the query's URL is
// part of the stored one, names and labels are contained in it, expiry is equal to the second.
bool matches(const NetworkService& query, const NetworkService& stored);
bool matches(const NetworkServiceEndpoint& query, const NetworkServiceEndpoint& stored);

}  // namespace mesh
