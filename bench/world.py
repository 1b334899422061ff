# SPDX-License-Identifier: Apache-2.0
"""A mesh to measure: namespaces as nodes and workloads, every role a process of its own, all gone at the end.

Names of namespaces are pbt-bench-PID-RANDOM-NAME; what a bench that was killed left behind goes at the next start.
Processes die with the script (setpriv --pdeathsig), every wait has a deadline.
"""

import json
import os
import pathlib
import re
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PATCHBAY = ROOT / "build/release/patchbay"
DRIVER = ROOT / "build/release/patchbay_bench"
PREFIX = "pbt-bench-"
START_SECONDS = 30
STOP_SECONDS = 20


class Trouble(Exception):
    """What went wrong, in one sentence for the user."""


def output(*command, timeout=30):
    done = subprocess.run([str(word) for word in command], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=timeout)
    if done.returncode != 0:
        raise Trouble(f"{' '.join(map(str, command))}: {done.stderr.strip() or f'exit status {done.returncode}'}")
    return done.stdout


def until(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Trouble(f"{what} did not happen within {seconds} s")
        time.sleep(0.01)


class Process:
    def __init__(self, name, child, log):
        self.name, self.child, self.log = name, child, log
        self.pid = child.pid
        self.unread = b""

    def logged(self):
        return self.log.read_text(errors="replace")

    def alive(self):
        return self.child.poll() is None

    def say(self):
        """Gives the process its next line of input."""
        self.child.stdin.write(b"\n")
        self.child.stdin.flush()

    def next_line(self, seconds):
        """The next line of output, as JSON."""
        deadline = time.monotonic() + seconds
        stream = self.child.stdout
        while b"\n" not in self.unread:
            left = deadline - time.monotonic()
            ready = select.select([stream], [], [], max(left, 0))[0]
            data = os.read(stream.fileno(), 1 << 20) if ready else b""
            if not data:
                why = "ended" if ready else f"was silent for {seconds} s"
                raise Trouble(f"{self.name} {why} before it had answered: {self.logged()[-1000:].strip()}")
            self.unread += data
        line, self.unread = self.unread.split(b"\n", 1)
        return json.loads(line)

    def stop(self):
        if self.child.stdin:
            self.child.stdin.close()
        if self.alive():
            self.child.send_signal(signal.SIGTERM)
        try:
            self.child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait(STOP_SECONDS)
        if self.child.stdout:
            self.child.stdout.close()

    def finish(self, seconds=60):
        """Waits for a process that ends by itself."""
        if self.child.stdin:
            self.child.stdin.close()
        try:
            status = self.child.wait(seconds)
        except subprocess.TimeoutExpired as expired:
            raise Trouble(f"{self.name} did not end within {seconds} s") from expired
        if status != 0:
            raise Trouble(f"{self.name} ended with status {status}: {self.logged()[-1000:].strip()}")

    def cpu_ms(self):
        """CPU time of all its threads, from the scheduler's nanoseconds."""
        total = 0
        for task in pathlib.Path(f"/proc/{self.pid}/task").iterdir():
            try:
                total += int((task / "schedstat").read_text().split()[0])
            except FileNotFoundError:
                pass
        return total / 1e6

    def memory_mib(self, field):
        """Rss or Pss."""
        text = pathlib.Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        return int(re.search(rf"^{field}:\s+(\d+) kB", text, re.M).group(1)) / 1024


class World:
    """Namespaces, processes and a directory; a context manager that removes them all, newest first."""

    def __init__(self):
        self.tag = f"{PREFIX}{os.getpid()}-{secrets.token_hex(3)}-"
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="pbt-"))
        self.processes = []
        self.namespaces = []

    def __enter__(self):
        return self

    def __exit__(self, kind=None, *_):
        if kind and issubclass(kind, (Trouble, subprocess.SubprocessError)):
            self.tell_of_the_dead()
        handlers = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
        for process in reversed(self.processes):
            process.stop()
        for name in reversed(self.namespaces):
            subprocess.run(["ip", "netns", "del", self.full(name)], stderr=subprocess.DEVNULL, timeout=30)
        shutil.rmtree(self.directory, ignore_errors=True)
        for number, handler in handlers.items():
            signal.signal(number, handler)

    def tell_of_the_dead(self):
        for process in self.processes:
            if process.child.poll() not in (None, 0):
                print(f"bench: {process.name} had ended with status {process.child.returncode}; its log ends with\n"
                      + process.logged()[-2000:], file=sys.stderr)

    def full(self, name):
        return self.tag + name

    def path(self, name):
        return f"/run/netns/{self.full(name)}"

    def netns(self, name):
        output("ip", "netns", "add", self.full(name))
        self.namespaces.append(name)
        self.ip(name, "link set lo up")
        return name

    def ip(self, name, words):
        return output("ip", "-n", self.full(name), *words.format_map(Names(self)).split())

    def start(self, name, command, namespace, environment=None, talk=False):
        log = self.directory / f"{name}.log"
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("NSM_", "PATCHBAY_"))}
        clean |= {"TMPDIR": str(self.directory), "NSM_LOG_LEVEL": os.environ.get("NSM_LOG_LEVEL", "INFO")}
        with open(log, "wb") as errors:
            child = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "nsenter", f"--net={self.path(namespace)}", *map(str, command)],
                env=clean | (environment or {}), stdin=subprocess.PIPE if talk else subprocess.DEVNULL,
                stdout=subprocess.PIPE if talk else errors, stderr=errors, start_new_session=True, cwd=self.directory)
        process = Process(name, child, log)
        self.processes.append(process)
        return process

    def await_log(self, process, text):
        def there():
            if not process.alive():
                raise Trouble(f"{process.name} ended: {process.logged()[-1000:].strip()}")
            return text in process.logged()
        until(there, START_SECONDS, f"'{text}' in the log of {process.name}")


class Names(dict):
    """Lets commands write {@node1} for the full name of namespace node1."""

    def __init__(self, world):
        super().__init__()
        self.world = world

    def __missing__(self, key):
        return self.world.full(key.removeprefix("@"))


class Mesh(World):
    """A registry, and a manager and a forwarder on each node; nodes joined by veth pairs and a bridge, as in the lab.

    Peers prove who they are (mutual TLS, signed tokens, policies) unless the mesh is insecure."""

    def __init__(self, nodes=1, secure=True):
        super().__init__()
        self.secure = secure
        self.roles = {}  # of node 1: registry, manager, forwarder
        self.drivers = 0
        try:
            self.build(nodes)
        except BaseException:
            self.__exit__()
            raise

    def build(self, nodes):
        self.netns("underlay")
        self.ip("underlay", "link add name underlay type bridge")
        self.ip("underlay", "address add 10.77.0.254/24 dev underlay")
        self.ip("underlay", "link set underlay up")
        for node in range(1, nodes + 1):
            self.netns(f"node{node}")
            self.ip("underlay", f"link add name n{node} type veth peer name eth0 netns {{@node{node}}}")
            self.ip("underlay", f"link set n{node} master underlay up")
            self.ip(f"node{node}", f"address add 10.77.0.{node}/24 dev eth0")
            self.ip(f"node{node}", "link set eth0 up")
        if self.secure:
            self.start("identity", [PATCHBAY, "identity"], "underlay",
                       {"PATCHBAY_TRUST_DOMAIN": "patchbay.bench",
                        "PATCHBAY_IDENTITY_SOCKET": f"unix://{self.identity_socket}",
                        "PATCHBAY_IDENTITY_DIRECTORY": str(self.directory / "identity")})
            until(self.identity_socket.exists, START_SECONDS, "patchbay identity's start")
        registry = self.start("registry", [PATCHBAY, "registry"], "underlay",
                              {"NSM_NAME": "registry", "NSM_LISTEN_ON": "tcp://10.77.0.254:5002",
                               "PATCHBAY_REGISTRY_STORE": "memory"})
        self.await_log(registry, "the registry listens on ")
        self.roles["registry"] = registry
        for node in range(1, nodes + 1):
            self.start_node(node)

    @property
    def identity_socket(self):
        return self.directory / "identity.sock"

    def start(self, name, command, namespace, environment=None, talk=False):
        who = {"SPIFFE_ENDPOINT_SOCKET": f"unix://{self.identity_socket}"} if self.secure else {"PATCHBAY_INSECURE": "true"}
        return super().start(name, command, namespace, who | (environment or {}), talk)

    def manager_url(self, node):
        return f"unix://{self.directory}/manager{node}.sock"

    def start_node(self, node):
        # A forwarder knows its wires by its name, wherever they are: another bench's must have another.
        common = {"NODE_NAME": f"node{node}", "FORWARDING_PLANE": "kernel"}
        manager = self.start(f"manager{node}", [PATCHBAY, "manager"], f"node{node}",
                             common | {"NSM_NAME": f"manager{node}", "NSM_REGISTRY_URL": "tcp://10.77.0.254:5002",
                                       "NSM_LISTEN_ON": f"{self.manager_url(node)},tcp://10.77.0.{node}:5001"})
        self.await_log(manager, " is up")
        forwarder = self.start(f"forwarder{node}", [PATCHBAY, "forwarder"], f"node{node}",
                               common | {"NSM_NAME": f"{self.tag}forwarder{node}", "NSM_TUNNEL_IP": f"10.77.0.{node}",
                                         "NSM_LISTEN_ON": f"unix://{self.directory}/forwarder{node}.sock",
                                         "NSM_CONNECT_TO": self.manager_url(node)})
        self.await_log(forwarder, "registered ")
        self.roles.setdefault("manager", manager)
        self.roles.setdefault("forwarder", forwarder)

    def endpoint(self, node=1):
        """An endpoint of service bench in namespace endpoint, with addresses for 32768 connections."""
        self.netns("endpoint")
        endpoint = self.start("endpoint", [PATCHBAY, "endpoint", "icmp-responder"], "endpoint",
                              {"NSM_NAME": "bench-endpoint", "NODE_NAME": f"node{node}", "NSM_SERVICE_NAMES": "bench",
                               "NSM_CONNECT_TO": self.manager_url(node), "NSM_CIDR_PREFIX": "172.16.0.0/16"})
        self.await_log(endpoint, "registered ")
        self.roles["endpoint"] = endpoint
        return endpoint

    def driver(self, mode, namespace, *options, node=1):
        """A client in that namespace, warm and ready to go."""
        self.drivers += 1
        name = f"bench-{self.drivers}"
        where = [] if mode == "plane" else ["--connect-to", self.manager_url(node)]
        driver = self.start(name, [DRIVER, mode, "--name", name, *where, *options], namespace, talk=True)
        driver.next_line(60)
        return driver

    def go(self, driver, seconds=300):
        """Lets it measure, and returns what it measured."""
        driver.say()
        result = driver.next_line(seconds)
        if result["event"] != "result":
            raise Trouble(f"{driver.name} answered {result}")
        return result

    def measure(self, mode, namespace, *options):
        driver = self.driver(mode, namespace, *options)
        result = self.go(driver)
        driver.finish()
        if result["failed"]:
            raise Trouble(f"{result['failed']} of the connects failed, the first because {result['failure']}")
        return result


def sweep():
    """Removes what a bench left that was killed."""
    for name in output("ip", "netns", "list").split():
        match = re.fullmatch(rf"{PREFIX}(\d+)-\w+-\w+", name)
        if match and not pathlib.Path(f"/proc/{match.group(1)}").exists():
            subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL, timeout=30)
