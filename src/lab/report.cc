// SPDX-License-Identifier: Apache-2.0
#include "lab/report.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace lab {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kBoxWidth = 36;

bool all_passed(const std::vector<Check>& checks) { return std::ranges::all_of(checks, &Check::passed); }

std::vector<std::string> box(const Side& side) {
  std::vector<std::string> lines{
      fmt::format("pod {} on {}", side.pod, side.node),
      fmt::format("{} ({}), MTU {}", side.link.name, side.link.kind, side.link.mtu),
  };
  for (const auto& address : side.link.addresses) lines.push_back(address);
  return lines;
}

// Two boxes and the wire between them.
std::string draw(const CaseReport& report, const RunReport& run) {
  auto left = box(*report.client);
  auto right = box(*report.endpoint);
  const auto rows = std::max(left.size(), right.size());
  left.resize(rows);
  right.resize(rows);
  const std::string label = report.local ? " veth pair, no hop between "
                                         : fmt::format(" {} > {} > {} ", report.client->node_address, report.wire,
                                                       report.endpoint->node_address);
  const std::string border = fmt::format("+{:-<{}}+", "", kBoxWidth + 2);
  std::string text = fmt::format("    {0}{1: ^{2}}{0}\n", border, "", label.size() + 4);
  for (std::size_t row = 0; row < rows; ++row) {
    const bool wire_row = row == 1;
    const std::string middle = wire_row ? "==" + label + "==" : std::string(label.size() + 4, ' ');
    text += fmt::format("    | {:<{}} |{}| {:<{}} |\n", left[row], kBoxWidth, middle, right[row], kBoxWidth);
  }
  text += fmt::format("    {0}{1: ^{2}}{0}\n", border, "", label.size() + 4);
  if (!report.local) text += fmt::format("    underlay {}\n", run.underlay);
  return text;
}

std::string mark(bool passed) { return passed ? "ok    " : "FAILED"; }

std::string case_text(const CaseReport& report, const RunReport& run) {
  std::string text = fmt::format("{}: {}, plane {}{}\n", report.name, report.passed() ? "passed" : "FAILED",
                                 report.plane, report.wire.empty() ? "" : " (" + report.wire + ")");
  if (report.client && report.endpoint) text += draw(report, run);
  if (!report.path.empty()) {
    text += fmt::format("    path: {}\n", fmt::join(report.path, " > "));
  }
  for (const auto& warning : report.warnings) text += fmt::format("    warning: {}\n", warning);
  for (const auto& check : report.checks) {
    text += fmt::format("    {}  {}: {}\n", mark(check.passed), check.name, check.detail);
  }
  if (!report.logs.empty()) text += report.logs + "\n";
  return text + "\n";
}

std::string ping_table(const RunReport& report) {
  std::string text = fmt::format("{:<28} {:<22} {:<16} {:>5} {:>8} {:>8} {:>8} {:>8}  {}\n", "CASE", "PING", "ADDRESS",
                                 "BYTES", "ANSWERED", "MIN ms", "AVG ms", "MAX ms", "PLANE");
  for (const auto& one : report.cases) {
    for (const auto& row : one.pings) {
      text += fmt::format("{:<28} {:<22} {:<16} {:>5} {:>8} {:>8.3f} {:>8.3f} {:>8.3f}  {}\n", one.name,
                          row.from + " > " + row.to, row.address, row.packet_bytes,
                          fmt::format("{}/{}", row.result.answered, row.result.sent), row.result.min_ms,
                          row.result.average_ms, row.result.max_ms,
                          one.wire.empty() ? one.plane : fmt::format("{} ({})", one.plane, one.wire));
    }
  }
  return text;
}

Json to_json_value(const std::vector<Check>& checks) {
  Json list = Json::array();
  for (const auto& check : checks) {
    list.push_back({{"name", check.name}, {"passed", check.passed}, {"detail", check.detail}});
  }
  return list;
}

Json to_json_value(const Side& side) {
  return {{"pod", side.pod},
          {"node", side.node},
          {"interface", side.link.name},
          {"kind", side.link.kind},
          {"mtu", side.link.mtu},
          {"addresses", side.link.addresses},
          {"underlay_address", side.node_address}};
}

Json to_json_value(const CaseReport& report) {
  Json value{{"name", report.name},        {"plane", report.plane},
             {"passed", report.passed()},  {"checks", to_json_value(report.checks)},
             {"wire", report.wire},        {"path", report.path},
             {"warnings", report.warnings}};
  value["connect_ms"] = report.connect_ms ? Json(*report.connect_ms) : Json();
  value["throughput_mbps"] = report.throughput_mbps ? Json(*report.throughput_mbps) : Json();
  value["client"] = report.client ? to_json_value(*report.client) : Json();
  value["endpoint"] = report.endpoint ? to_json_value(*report.endpoint) : Json();
  value["pings"] = Json::array();
  for (const auto& row : report.pings) {
    value["pings"].push_back({{"from", row.from},
                              {"to", row.to},
                              {"address", row.address},
                              {"packet_bytes", row.packet_bytes},
                              {"sent", row.result.sent},
                              {"answered", row.result.answered},
                              {"min_ms", row.result.min_ms},
                              {"average_ms", row.result.average_ms},
                              {"max_ms", row.result.max_ms}});
  }
  return value;
}

}  // namespace

bool CaseReport::passed() const { return !checks.empty() && all_passed(checks); }

bool CaseReport::check(std::string what, bool good, std::string detail) {
  checks.push_back({std::move(what), good, std::move(detail)});
  return good;
}

bool RunReport::passed() const {
  return !cases.empty() && all_passed(checks) && std::ranges::all_of(cases, &CaseReport::passed);
}

std::string to_text(const RunReport& report) {
  std::string text = "\n";
  for (const auto& one : report.cases) text += case_text(one, report);
  for (const auto& check : report.checks) {
    text += fmt::format("{}  {}: {}\n", mark(check.passed), check.name, check.detail);
  }
  const auto good = std::ranges::count_if(report.cases, &CaseReport::passed);
  text += fmt::format("\n{}\n{} of {} cases passed{}\n", ping_table(report), good, report.cases.size(),
                      report.passed() ? "" : "; the run FAILED");
  return text;
}

std::string to_json(const RunReport& report) {
  Json value{{"lab", report.lab}, {"underlay", report.underlay}, {"cases", Json::array()}};
  for (const auto& one : report.cases) value["cases"].push_back(to_json_value(one));
  value["checks"] = to_json_value(report.checks);
  value["passed"] = report.passed();
  return value.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace lab
