// SPDX-License-Identifier: Apache-2.0
#include "kernel/cleanup.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "kernel/interface.h"
#include "kernel/policy.h"
#include "kernel/route.h"

namespace kernel {
namespace {

// The mount points of namespace files: field 5 of each line whose file system, after the dash, is nsfs.
std::vector<std::string> mounted_namespaces() {
  std::vector<std::string> out;
  std::ifstream mounts("/proc/self/mountinfo");
  for (std::string line; std::getline(mounts, line);) {
    if (line.find(" - nsfs ") == std::string::npos) continue;
    std::istringstream fields(line);
    std::string field;
    for (int i = 0; i < 5; ++i) fields >> field;
    out.push_back(field);
  }
  return out;
}

std::vector<std::string> process_namespaces() {
  std::vector<std::string> out;
  std::set<std::string> seen;
  std::error_code ignored;  // processes come and go
  for (const auto& entry : std::filesystem::directory_iterator("/proc", ignored)) {
    const auto name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    const auto path = entry.path() / "ns" / "net";
    const auto target = std::filesystem::read_symlink(path, ignored).string();
    if (!target.empty() && seen.insert(target).second) out.push_back(path.string());
  }
  return out;
}

class Cleaner {
 public:
  Cleaner(Netns& netns, const std::optional<std::string>& owner, const std::function<void(const Removed&)>& report,
          CleanupResult& result)
      : netns_(netns), owner_(owner), report_(report), result_(result) {}

  // The links to bury, after the rules and routes that are about them are gone.
  std::vector<LinkAt> run(const std::shared_ptr<Netns>& self) {
    auto links = list_links(netns_);
    if (!links) return failed(links.error());
    std::erase_if(*links, [this](const Link& link) { return !is_wanted(link); });
    if (auto done = remove_rules(*links); !done) failed(done.error());
    std::vector<LinkAt> out;
    for (const auto& link : *links) {
      out.push_back({self, link.index});
      if (link.group != kGraveGroup) tell(Removed::Kind::link, link.name, link.mark());
    }
    return out;
  }

 private:
  bool is_wanted(const Link& link) const {
    if (!link.is_ours()) return false;
    return !owner_ || (link.mark() && link.mark()->owner == *owner_);
  }

  base::Result<void> remove_rules(const std::vector<Link>& links) {
    auto rules = list_rules(netns_);
    if (!rules) return std::unexpected(rules.error());
    auto routes = list_routes(netns_);
    if (!routes) return std::unexpected(routes.error());
    const auto link_of = [&links](int index) { return std::ranges::find(links, index, &Link::index); };

    for (const auto& rule : *rules) {
      if (rule.protocol != kRouteProtocol) continue;
      const auto through = std::ranges::find(*routes, rule.table, &KernelRoute::table);
      const auto link = through == routes->end() ? links.end() : link_of(through->link);
      // With an owner given, a rule that leads to another owner's link stays; one that leads nowhere is nobody's.
      if (owner_ && through != routes->end() && link == links.end()) continue;
      if (auto done = delete_rule(netns_, rule); !done) return done;
      tell(Removed::Kind::rule, rule.to_string(), link == links.end() ? std::nullopt : link->mark());
    }
    for (const auto& route : *routes) {
      if (route.protocol != kRouteProtocol) continue;
      const auto link = link_of(route.link);
      if (owner_ && link == links.end()) continue;
      Message message = delete_route(route);
      auto replies = netns_.route().exchange({&message, 1});
      if (!replies) return std::unexpected(replies.error());
      const auto& reply = replies->front();
      const auto shown = fmt::format("{} table {}", route.destination.to_string(), route.table);
      if (reply.error == ESRCH || reply.error == ENODEV) continue;
      if (reply.error != 0) return fail_reply(reply, fmt::format("{}: cannot delete route {}", netns_.name(), shown));
      tell(Removed::Kind::route, shown, link == links.end() ? std::nullopt : link->mark());
    }
    return {};
  }

  void tell(Removed::Kind kind, const std::string& name, const std::optional<Mark>& mark) {
    ++result_.removed;
    if (report_) report_({.kind = kind, .netns = netns_.name(), .name = name, .mark = mark});
  }

  std::vector<LinkAt> failed(const base::Error& error) {
    result_.failures.push_back(error);
    return {};
  }

  Netns& netns_;
  const std::optional<std::string>& owner_;
  const std::function<void(const Removed&)>& report_;
  CleanupResult& result_;
};

}  // namespace

std::vector<std::shared_ptr<Netns>> reachable(Namespaces& namespaces) {
  std::vector<std::shared_ptr<Netns>> out;
  std::set<NetnsKey> seen;
  const auto add = [&](const std::string& path) {
    auto netns = namespaces.from_path(path);  // what ended meanwhile is no longer reachable
    if (netns && seen.insert((*netns)->key()).second) out.push_back(std::move(*netns));
  };
  for (const auto& path : process_namespaces()) add(path);
  for (const auto& path : mounted_namespaces()) add(path);
  return out;
}

base::Result<std::vector<MarkedLink>> list_marked(std::span<const std::shared_ptr<Netns>> namespaces) {
  std::vector<MarkedLink> out;
  for (const auto& netns : namespaces) {
    auto links = list_links(*netns);
    if (!links) return std::unexpected(links.error());
    for (auto& link : *links) {
      if (!link.is_ours() || link.group == kGraveGroup) continue;
      auto mark = link.mark();
      out.push_back({.netns = netns, .link = std::move(link), .mark = std::move(mark)});
    }
  }
  return out;
}

base::Result<void> sweep(std::span<const std::shared_ptr<Netns>> namespaces, Graveyard& graveyard) {
  for (const auto& netns : namespaces) {
    auto links = list_links(*netns);
    if (!links) return std::unexpected(links.error());
    for (const auto& link : *links) {
      if (link.group != kGraveGroup) continue;
      if (auto buried = graveyard.bury({LinkAt{.netns = netns, .index = link.index}}); !buried) return buried;
    }
  }
  return graveyard.flush();
}

CleanupResult cleanup(std::span<const std::shared_ptr<Netns>> namespaces, Graveyard& graveyard,
                      const std::optional<std::string>& owner, const std::function<void(const Removed&)>& report) {
  CleanupResult result;
  for (const auto& netns : namespaces) {
    for (const auto& end : Cleaner(*netns, owner, report, result).run(netns)) {
      if (auto buried = graveyard.bury({end}); !buried) result.failures.push_back(buried.error());
    }
  }
  if (auto flushed = graveyard.flush(); !flushed) result.failures.push_back(flushed.error());
  return result;
}

}  // namespace kernel
