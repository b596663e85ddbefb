"""The zygote: one process that has imported what the daemons need, and forks them.

Importing FastAPI, gRPC and httpx takes a second of CPU, and ten daemons would each pay it and keep a copy. The zygote pays once, freezes what it
has (:func:`gc.freeze`, so that no collection writes to the shared pages, and :mod:`.heap`, so that no allocation does) and forks: a daemon starts in
milliseconds and shares most of its memory. Forking is only sound while nothing is in flight: the zygote has one thread, no event loop, and no gRPC object, and says so in its log when an
import has started a thread.

The first one is a fork of the supervisor itself, before that has an event loop; one that takes the place of another is executed.

It is a server for one client, the supervisor, on a channel that it inherited, and ends with it. Requests are handled as they come; between them it
imports, a module at a time, what it was told will be needed, so the store runs while the web framework is still being imported. What is requested
before it was imported is imported first.

A process for a node is forked straight into the node's PID namespace (``setns`` of the PID namespace takes effect for the next child), so it is
ours to wait for and the number that fork returns is the host's. The node's other namespaces it joins itself.

In host mode there are no namespaces to hold a node together. There each node init is a fork server of its own, on a channel of its own, and
everything that its daemons leave behind falls to it as the nearest subreaper; what a killed node init leaves behind falls to the zygote, which kills it.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import importlib.util
import os
import pkgutil
import resource
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from kubeling.cluster import channel, child, heap, nodeinit
from kubeling.linux import syscalls

_NOTABLE_SECONDS = 0.01

#: Stands for :func:`rehearse` in a list of modules.
REHEARSAL = "!rehearsal"
#: Not for the zygote. numpy starts threads when it is imported, and only a scheduler of many nodes uses its 14 MB; modules that begin with it are imported by
#: whoever needs them. The others are for httpx's command line, which httpx does without where they are not installed.
_APART = ("numpy", "rich", "pygments")

#: Of our own: what clusters have only when they are asked for it. The daemon that does imports it itself.
_SELDOM = ("kubeling.kubelet.hollow", "kubeling.cloud.autoscaler")

_HTTP = (
    "ssl",
    "httpx",
    "httpcore",
    "httpcore._async.http11",
    "anyio",
    "anyio.streams.tls",
    "anyio._backends._asyncio",
    "certifi",
)
_API = (*_HTTP, "orjson", "h11", "httptools", "prometheus_client", "kubeling.client", "kubeling.daemon", REHEARSAL)

#: What daemons import inside functions, beside the modules of their own room: worth having before the fork, where it is installed.
#: The name of a package of ours stands for all of its modules.
LIBRARIES: dict[str, tuple[str, ...]] = {
    "etcdlite": ("asyncio", "ssl", "hpack", "h11", "kubeling.daemon"),
    "apiserver": (
        "hpack",
        "orjson",
        "pydantic",
        "starlette.applications",
        "starlette.routing",
        "fastapi",
        "uvicorn",
        "uvicorn.protocols.http.httptools_impl",
        "uvicorn.lifespan.on",
        "cryptography.x509",
    ),
    "crilite": ("grpc.aio",),
    "kubelet": (*_API, "grpc.aio", "uvicorn"),
    "scheduler": _API,
    "controllers": _API,
    "cloud": _API,
    "kubeproxy": _API,
    "dns": (*_API, "dnslib"),
    "bootstrap": _API,
}


def needs_of(module: str) -> list[str]:
    """All that is worth importing before a daemon whose entry is `module` is forked, in small steps, the entry last."""
    parts = module.split(".")
    room = parts[1] if parts[-1] == "__main__" else ""
    names = [*LIBRARIES.get(room or parts[-1], ()), *([f"kubeling.{room}"] if room else [])]
    found: list[str] = []
    for name in names:
        found += _submodules(name) if name.startswith("kubeling.") else [name]
    return [*dict.fromkeys(found), module]


def rehearse() -> None:
    """Do once what every client of the API does first, so that what it allocates is shared: a TLS context, and a request (that nobody answers).

    It halves what such a daemon has to itself. Nothing that it makes outlives it: no thread, no loop, no socket.
    """
    import asyncio
    import ssl

    import httpx

    async def request() -> None:
        transport = httpx.AsyncHTTPTransport(verify=ssl.create_default_context())
        async with httpx.AsyncClient(transport=transport, trust_env=False) as client:
            # Port 0 can be listened on by nobody.
            await client.get("https://127.0.0.1:0/")

    with contextlib.suppress(httpx.TransportError, OSError):
        asyncio.run(request())


def _submodules(package: str) -> list[str]:
    """`package` and every module below it but the entries, which may do things when they are imported, and what is seldom needed."""
    if package in _SELDOM:
        return []
    spec = importlib.util.find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        return [package]
    below: list[str] = []
    for entry in pkgutil.iter_modules(spec.submodule_search_locations, f"{package}."):
        if not entry.name.endswith("__main__"):
            below += _submodules(entry.name) if entry.ispkg else [entry.name]
    return [package, *below]


class ForkServer:
    """Serves fork requests on `sock` until its end. `kill_orphans` says what to do with processes that fall to us and that we did not start."""

    def __init__(self, sock: socket.socket, *, kill_orphans: bool = False) -> None:
        self._sock = sock
        self._kill_orphans = kill_orphans
        self._children: set[int] = set()
        self._wanted: deque[str] = deque()
        self._done: set[str] = set()
        self._pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self._wake, wake_up = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake_up, warn_on_full_buffer=False)

    def serve(self) -> None:
        """Handle requests and deaths, and import in between, until the client is gone."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while True:
            for fd, _ in poll.poll(0 if self._wanted else None):
                if fd == self._wake:
                    os.read(self._wake, 4096)
                    self._reap()
                elif not self._handle():
                    return
            if self._wanted:
                self._warm(self._wanted.popleft())
                if not self._wanted:
                    gc.collect()
                    _share()

    def _handle(self) -> bool:
        received = channel.receive(self._sock)
        if received is None:
            return False
        message, fds = received
        out: list[int] = []
        try:
            if message["op"] == "warm":
                for module in message["modules"]:
                    self._wanted.extend(needs_of(module))
                return True
            pid = self._init(message, fds) if message["op"] == "init" else self._daemon(message, fds)
            self._children.add(pid)
            # Opened before we can have reaped it: it is that process for sure.
            out.append(os.pidfd_open(pid))
            answer: dict[str, Any] = {"id": message["id"], "pid": pid}
        except ModuleNotFoundError as error:
            traceback.print_exc()
            answer = {"id": message["id"], "error": str(error), "missing": error.name == message.get("module")}
        except Exception as error:
            traceback.print_exc()
            answer = {"id": message["id"], "error": f"{type(error).__name__}: {error}"}
        finally:
            for fd in fds:
                os.close(fd)
        channel.send(self._sock, answer, out)
        for fd in out:
            os.close(fd)
        return True

    def _init(self, message: dict[str, Any], fds: list[int]) -> int:
        _share()
        if message["network"] == "host":
            pid = os.fork()
        else:
            syscalls.unshare(syscalls.CLONE_NEWPID)
            pid = self._fork_there()
        if pid == 0:
            nodeinit.live(message["node"], message["network"], message["config"], *fds)
        return pid

    def _daemon(self, message: dict[str, Any], fds: list[int]) -> int:
        self._require(message["module"])
        log, keep = fds[0], fds[1:]
        args = [arg.format(**dict(zip(message["fds"], keep, strict=True))) if "{" in arg else arg for arg in message["args"]]
        namespaces: list[int] = []
        join = message.get("join")
        try:
            if join:
                for kind in ("pid", *child.NODE_NAMESPACES):
                    namespaces.append(os.open(f"/proc/{join}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC))
            birth = child.Birth(
                name=message["name"],
                node=message["node"],
                module=message["module"],
                args=tuple(args),
                log=log,
                namespaces=tuple(namespaces[1:]),
                keep=tuple(keep),
                die_with_parent=not join,
            )
            _share()
            if join:
                syscalls.setns(namespaces[0], syscalls.CLONE_NEWPID)
                pid = self._fork_there()
            else:
                pid = os.fork()
            if pid == 0:
                child.live(birth)
            return pid
        finally:
            for fd in namespaces:
                os.close(fd)

    def _fork_there(self) -> int:
        """Fork into the PID namespace that was set for children, then have our own for them again. Returns 0 in the child."""
        pid = -1
        try:
            pid = os.fork()
            return pid
        finally:
            if pid != 0:
                syscalls.setns(self._pid_namespace, syscalls.CLONE_NEWPID)

    def _require(self, module: str) -> None:
        """Import the entry of a daemon. Raises ModuleNotFoundError where it is not there at all."""
        if module not in sys.modules:
            if importlib.util.find_spec(module) is None:
                raise ModuleNotFoundError(f"there is no module {module}", name=module)
            importlib.import_module(module)
            _note_threads(module)

    def _warm(self, module: str) -> None:
        if module in self._done:
            return
        self._done.add(module)
        began = time.monotonic()
        try:
            with _without(_APART):
                if module == REHEARSAL:
                    rehearse()
                else:
                    importlib.import_module(module)
        except ModuleNotFoundError:
            return
        except Exception:
            # A daemon that cannot be imported says so when it is asked for; the others must not suffer.
            traceback.print_exc()
            return
        _note_threads(module)
        if (seconds := time.monotonic() - began) > _NOTABLE_SECONDS:
            print(f"imported {module} in {seconds * 1000:.0f} ms", file=sys.stderr)

    def _reap(self) -> None:
        strangers = False
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if pid in self._children:
                self._children.discard(pid)
                channel.send(self._sock, {"event": "exit", "pid": pid, "status": os.waitstatus_to_exitcode(status)})
            strangers = True
        if self._kill_orphans and strangers:
            for pid in set(nodeinit.children_of(os.getpid())) - self._children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def _without(modules: Sequence[str]) -> Iterator[None]:
    """Have imports of `modules` fail as if they were not installed."""
    apart = [name for name in modules if name not in sys.modules]
    for name in apart:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for name in apart:
            del sys.modules[name]


def _share() -> None:
    """Before a fork: have neither the garbage collector nor the allocator write to what the child will share with us."""
    gc.freeze()
    heap.seal()


def _note_threads(module: str) -> None:
    if threading.active_count() > 1 or len(os.listdir("/proc/self/task")) > 1:
        print(f"warning: importing {module} has started a thread; what is forked from here lacks it", file=sys.stderr)


def raise_file_limit() -> None:
    """Ten daemons of thousands of watches: take as many descriptors as we may."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m kubeling.cluster.zygote")
    parser.add_argument("--fd", type=int, required=True, help="the channel to the supervisor, inherited")
    parser.add_argument("--cluster", required=True)
    parser.add_argument("--kill-orphans", action="store_true", help="kill what falls to us: host mode, without PID namespaces")
    parser.add_argument("room", nargs="?", help="room for process titles; not read")
    args = parser.parse_args(argv)
    return live(socket.socket(fileno=args.fd), args.cluster, kill_orphans=args.kill_orphans)


def live(sock: socket.socket, cluster: str, *, kill_orphans: bool) -> int:
    """Be the zygote of `cluster` until `sock` ends."""
    child.title("zygote", f"kubeling-zygote [{cluster}]")
    raise_file_limit()
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    # What is imported stays. To look through it for garbage again and again is a fifth of the time that importing takes.
    gc.disable()
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        # Ended by its channel, so that the nodes are stopped in order first.
        signal.signal(number, signal.SIG_IGN)
    server = ForkServer(sock, kill_orphans=kill_orphans)
    try:
        server.serve()
    except (BrokenPipeError, ConnectionResetError):
        pass  # The supervisor has gone while we were talking: the same as the end of the channel.
    return 0


def fork(output: int, cluster: str, *, kill_orphans: bool) -> tuple[socket.socket, int]:
    """Fork a zygote from a process that has one thread and no event loop; returns the channel to it and its pid. It writes to `output`.

    That saves the start of an interpreter, on which everything else would wait, and the two share what is imported.
    """
    ours, theirs = channel.pair()
    _share()
    pid = os.fork()
    if pid:
        theirs.close()
        return ours, pid
    status = 1
    try:
        child.reset_signals()
        child.stdio(output)
        keep = theirs.detach()
        child.close_others([keep])
        status = live(socket.socket(fileno=keep), cluster, kill_orphans=kill_orphans)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


if __name__ == "__main__":
    sys.exit(main())
