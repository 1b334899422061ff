# SPDX-License-Identifier: Apache-2.0
"""What is measured. A measurement is a generator of rows that one set-up yields; MEASUREMENTS lists them all.

A row's value is the median of its runs, its spread (greatest - least) / median. Where there is a reference, runs of ours
and of the reference alternate, on the same machine in the same minute.
"""

import contextlib
import dataclasses
import json
import statistics
import time

from world import Mesh, Trouble, output, until


@dataclasses.dataclass
class Size:
    """How much is measured: whole figures, or just enough to see that everything works."""
    runs: int = 5
    connects: int = 200
    rate_runs: int = 3
    rate_seconds: float = 5
    tcp_runs: int = 7
    tcp_seconds: int = 2
    idle_seconds: float = 20


QUICK = Size(runs=2, connects=30, rate_runs=1, rate_seconds=1.5, tcp_runs=1, tcp_seconds=1, idle_seconds=3)
CLIENTS = 8
OPEN = 1000
RATES = ["connect/rate", f"connect/rate-{OPEN}-open"]
RATES_WITHOUT_IPV6 = [f"{name}-without-ipv6" for name in RATES]
BURST = 500
HELD = 100


@dataclasses.dataclass
class Row:
    name: str
    unit: str
    runs: list
    reference: list = dataclasses.field(default_factory=list)
    reference_name: str = None

    def json(self):
        ours = statistics.median(self.runs)
        reference = statistics.median(self.reference) if self.reference else None
        spread = (max(self.runs) - min(self.runs)) / ours if len(self.runs) > 1 and ours else None
        return {"name": self.name, "unit": self.unit, "ours": figure(ours), "reference": figure(reference),
                "reference_name": self.reference_name, "ratio": figure(ours / reference) if reference else None,
                "runs": len(self.runs), "spread": figure(spread)}


def figure(value):
    return None if value is None else float(f"{value:.4g}")


def percentile(values, percent):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def connect(size):
    """One client after the other through manager, registry and forwarder; the plane alone and a mesh without TLS, signed
    tokens and policies in between."""
    with Mesh() as mesh, Mesh(secure=False) as insecure:
        for one in (mesh, insecure):
            one.endpoint()
            one.netns("client")
        first = mesh.driver("sequence", "client", "--count", 1, "--warmup", 0)
        cold = mesh.go(first)
        first.finish()
        yield Row("connect/first", "ms", cold["connect_ms"])

        driver_options = ("--count", size.connects)
        ours, close, alone, cpu, bare = [], [], [], [], []
        for _ in range(size.runs):
            driver = mesh.driver("sequence", "client", *driver_options)
            before = {name: role.cpu_ms() for name, role in mesh.roles.items()}
            result = mesh.go(driver)
            used = {name: role.cpu_ms() - before[name] for name, role in mesh.roles.items()}
            driver.finish()
            if result["failed"]:
                raise Trouble(f"{result['failed']} connects failed, the first because {result['failure']}")
            ours.append(result["connect_ms"])
            close.append(result["close_ms"])
            used["client"] = result["cpu_ms"]
            cpu.append({name: spent / size.connects for name, spent in used.items()})
            alone.append(mesh.measure("plane", "client", "--a", mesh.path("client"), "--b", mesh.path("endpoint"),
                                      *driver_options)["connect_ms"])
            bare.append(insecure.measure("sequence", "client", *driver_options)["connect_ms"])
        medians = [statistics.median(run) for run in ours]
        floor = [statistics.median(run) for run in alone]
        yield Row("connect/p50", "ms", medians, floor, "the plane's plug alone")
        yield Row("connect/p99", "ms", [percentile(run, 99) for run in ours], [percentile(run, 99) for run in alone],
                  "the plane's plug alone")
        yield Row("connect/netlink-p50", "ms", floor)
        without = [statistics.median(run) for run in bare]
        yield Row("connect/p50-insecure", "ms", without)
        yield Row("connect/security", "ms", [secured - plain for secured, plain in zip(medians, without)])
        yield Row("connect/close-p50", "ms", [statistics.median(run) for run in close])
        yield Row("connect/cpu", "ms", [sum(run.values()) for run in cpu])
        for name in cpu[0]:
            yield Row(f"connect/cpu-{name}", "ms", [run[name] for run in cpu])


def burst(_):
    """All at once, from one process."""
    with Mesh() as mesh:
        mesh.endpoint()
        mesh.netns("client")
        driver = mesh.driver("burst", "client", "--count", BURST)
        result = mesh.go(driver)
        driver.say()
        driver.next_line(120)
        driver.finish()
        yield Row(f"connect/burst-{BURST}-failed", "connects", [result["failed"]])
        yield Row(f"connect/burst-{BURST}-seconds", "s", [result["seconds"]])


def remote(size):
    """The same between two nodes."""
    with Mesh(nodes=2) as mesh:
        mesh.endpoint(node=2)
        mesh.netns("client")
        first = mesh.driver("sequence", "client", "--count", 1, "--warmup", 0)
        cold = mesh.go(first)
        first.finish()
        yield Row("connect/remote-first", "ms", cold["connect_ms"])
        runs = [mesh.measure("sequence", "client", "--count", size.connects)["connect_ms"] for _ in range(size.runs)]
        yield Row("connect/remote-p50", "ms", [statistics.median(run) for run in runs])
        yield Row("connect/remote-p99", "ms", [percentile(run, 99) for run in runs])


def rate_of(mesh, namespaces, seconds):
    drivers = [mesh.driver("sequence", name, "--seconds", seconds) for name in namespaces]
    for driver in drivers:
        driver.say()
    results = [driver.next_line(120) for driver in drivers]
    for driver in drivers:
        driver.finish()
    failed = [result["failure"] for result in results if result["failed"]]
    if failed:
        raise Trouble(f"connects failed, the first because {failed[0]}")
    return sum(len(result["connect_ms"]) / result["seconds"] for result in results)


def rates(size, names, prepare=lambda mesh, name: None):
    """Clients side by side, each a process in a namespace of its own; then again with many connections open."""
    with Mesh() as mesh:
        mesh.endpoint()
        busy = [mesh.netns(f"client{i}") for i in range(CLIENTS)]
        holding = [mesh.netns(f"holder{i}") for i in range(CLIENTS)]
        for name in ("endpoint", *busy, *holding):
            prepare(mesh, name)
        empty = [rate_of(mesh, busy, size.rate_seconds) for _ in range(size.rate_runs)]
        yield Row(names[0], "connects+closes/s", empty)
        holders = []
        for name in holding:
            holders.append(mesh.driver("burst", name, "--count", OPEN // CLIENTS))
            if mesh.go(holders[-1])["failed"]:
                raise Trouble("a connection that was to be held failed")
        full = [rate_of(mesh, busy, size.rate_seconds) for _ in range(size.rate_runs)]
        yield Row(names[1], "connects+closes/s", full, empty, names[0])
        for holder in holders:
            holder.say()
        for holder in holders:
            if holder.next_line(120)["healed"]:
                raise Trouble("a held connection had to be healed")
            holder.finish()


def rate(size):
    yield from rates(size, RATES)


def rate_without_ipv6(size):
    """The workloads' kernels walk all IPv6 routes of a namespace whenever a link changes; here they have none."""
    yield from rates(size, RATES_WITHOUT_IPV6, lambda mesh, name: output(
        "ip", "netns", "exec", mesh.full(name), "sysctl", "-w", "net.ipv6.conf.default.disable_ipv6=1"))


def throughput(mesh, client, address, size):
    """Gbit/s that arrive."""
    report = json.loads(output("ip", "netns", "exec", mesh.full(client), "iperf3", "--client", address, "--time",
                               size.tcp_seconds, "--json", timeout=60))
    return report["end"]["sum_received"]["bits_per_second"] / 1e9


def interleaved(mesh, client, ours, reference, size):
    server = mesh.start("iperf3", ["iperf3", "--server"], "endpoint")
    until(lambda: "5201" in output("ip", "netns", "exec", mesh.full("endpoint"), "ss", "-ltn"), 10, "iperf3's start")
    rates = {ours: [], reference: []}
    for _ in range(size.tcp_runs):
        for address in rates:
            rates[address].append(throughput(mesh, client, address, size))
    server.stop()
    return rates[ours], rates[reference]


@contextlib.contextmanager
def wire(node):
    """A mesh with one connection; yields it, the far address and the MTU."""
    with Mesh(nodes=node) as mesh:
        mesh.endpoint(node=node)
        mesh.netns("client")
        holder = mesh.driver("burst", "client", "--count", 1)
        result = mesh.go(holder)
        if result["failed"]:
            raise Trouble(result["failure"])
        link = json.loads(output("ip", "-n", mesh.full("client"), "-j", "link", "show", "nsm-0"))[0]
        routes = json.loads(output("ip", "-n", mesh.full("client"), "-j", "route", "show", "dev", "nsm-0"))
        yield mesh, routes[0]["dst"], link["mtu"]


def reference_addresses(mesh):
    for name, own in (("client", "172.31.0.1"), ("endpoint", "172.31.0.2")):
        mesh.ip(name, f"address add {own}/30 dev reference")
        mesh.ip(name, "link set reference up")
    return "172.31.0.2"


def local_tcp(size):
    """TCP over a wire of one node, against a veth pair made by hand with the same MTU between the same namespaces."""
    with wire(node=1) as (mesh, far, mtu):
        mesh.ip("client", f"link add reference mtu {mtu} type veth peer name reference mtu {mtu} netns {{@endpoint}}")
        ours, reference = interleaved(mesh, "client", far, reference_addresses(mesh), size)
    yield Row("local-tcp/veth", "Gbit/s", ours, reference, f"veth pair by hand, MTU {mtu}")


def remote_tcp(size):
    """TCP between two nodes, against a VXLAN device made by hand with the same MTU over the same underlay."""
    with wire(node=2) as (mesh, far, mtu):
        for name, here, there in (("client", 1, 2), ("endpoint", 2, 1)):
            mesh.ip(f"node{here}", f"link add reference mtu {mtu} type vxlan id 4711 local 10.77.0.{here} "
                                   f"remote 10.77.0.{there} dstport 8472")
            mesh.ip(f"node{here}", f"link set reference netns {{@{name}}}")
        ours, reference = interleaved(mesh, "client", far, reference_addresses(mesh), size)
    yield Row("remote-tcp/vxlan", "Gbit/s", ours, reference, f"VXLAN devices by hand, MTU {mtu}")


def footprint(size):
    """Memory and idle CPU of a node's processes and the registry while connections are open."""
    roles = ("registry", "manager", "forwarder")
    with Mesh() as mesh:
        mesh.endpoint()
        mesh.netns("client")
        holder = mesh.driver("burst", "client", "--count", HELD)
        if mesh.go(holder)["failed"]:
            raise Trouble("a connection that was to be held failed")
        time.sleep(1)  # what connecting leaves to do is done
        before = {name: mesh.roles[name].cpu_ms() for name in roles}
        start = time.monotonic()
        time.sleep(size.idle_seconds)
        took = time.monotonic() - start
        for name in roles:
            used = mesh.roles[name].cpu_ms() - before[name]
            yield Row(f"footprint/idle-cpu-{name}", "%", [used / 10 / took])
        for field in ("rss", "pss"):
            yield Row(f"footprint/{field}-mib", "MiB",
                      [sum(mesh.roles[name].memory_mib(field.capitalize()) for name in roles)])
        holder.say()
        holder.next_line(120)
        holder.finish()


# Each measurement with the figures it yields; what they should be is in docs/performance.md.
MEASUREMENTS = {
    connect: ["connect/first", "connect/p50", "connect/p99", "connect/netlink-p50", "connect/p50-insecure", "connect/security", "connect/close-p50", "connect/cpu",
              *(f"connect/cpu-{role}" for role in ("registry", "manager", "forwarder", "endpoint", "client"))],
    burst: [f"connect/burst-{BURST}-failed", f"connect/burst-{BURST}-seconds"],
    remote: ["connect/remote-first", "connect/remote-p50", "connect/remote-p99"],
    rate: RATES,
    rate_without_ipv6: RATES_WITHOUT_IPV6,
    local_tcp: ["local-tcp/veth"],
    remote_tcp: ["remote-tcp/vxlan"],
    footprint: ["footprint/rss-mib", "footprint/pss-mib",
                *(f"footprint/idle-cpu-{role}" for role in ("registry", "manager", "forwarder"))],
}
