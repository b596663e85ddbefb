"""A node of one's own for each test worker, and a CRI client for it.

The node is network, mount, pid and UTS namespaces with a sleeping process to hold them; crilite runs inside, the tests speak CRI to its socket
from outside. Nothing here knows how crilite works.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from kubeling.proto import cri_pb2 as cri
from kubeling.proto import cri_pb2_grpc
from tests.crilite import archives

_names = itertools.count(1)


async def eventually(check: Callable[[], Any], seconds: float = 10.0) -> Any:
    """Poll `check` (plain or async) until it gives something true."""
    deadline = time.monotonic() + seconds
    while True:
        found = check()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        assert time.monotonic() < deadline, f"still not so after {seconds} s"
        await asyncio.sleep(0.02)


def children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


class Node:
    """Namespaces like those of a cluster's node, and the daemon in them."""

    def __init__(self, folder: Path, name: str, extra: tuple[str, ...] = (), *, userns: bool = False) -> None:
        self.folder = folder
        self.name = name
        self.cgroup_root = f"/crilite-test-{name}"
        self.socket = folder / "cri.sock"
        self.root, self.state, self.logs = (
            folder / "root",
            folder / ("state-of-a-path-that-is-longer-than-a-socket" * 3),
            folder / "logs",
        )
        self.extra = extra
        self.daemon: subprocess.Popen[bytes] | None = None
        self._enter = ["-n", "-m", "-p", "-u", *(["-U", "--preserve-credentials"] if userns else [])]
        self._holder = subprocess.Popen(
            ["unshare", *(["-U", "-r"] if userns else []), "-n", "-m", "-p", "-u", "-f", "--kill-child", "--mount-proc", "--propagation", "private", "sh", "-c",
             f"mount --make-rshared /; ip link set lo up; touch {folder}/up; while :; do sleep 3600 & wait; done"],
        )  # fmt: skip
        deadline = time.monotonic() + 10
        while not self._is_up():
            assert time.monotonic() < deadline, "the node's namespaces do not come up"
            time.sleep(0.01)

    def _is_up(self) -> bool:
        found = children(self._holder.pid)
        if not found:
            return False
        self.pid = found[0]
        return (self.folder / "up").exists()

    def inside(self, *command: str) -> list[str]:
        return ["nsenter", "-t", str(self.pid), *self._enter, "--", *command]

    def run(self, *command: str) -> str:
        return subprocess.run(self.inside(*command), check=True, capture_output=True, text=True).stdout

    def start(self) -> None:
        command = self.inside(
            sys.executable, "-m", "kubeling.crilite", f"--listen=unix://{self.socket}", f"--root={self.root}",
            f"--state={self.state}", "--pod-cidr=10.244.7.0/24", f"--cgroup-root={self.cgroup_root}", *self.extra,
        )  # fmt: skip
        with open(self.folder / "daemon.log", "ab") as log:
            self.daemon = subprocess.Popen(command, stdout=log, stderr=log)

    @property
    def daemon_pid(self) -> int:
        """nsenter forks to enter a pid namespace: the daemon is its child."""
        assert self.daemon is not None
        return children(self.daemon.pid)[0]

    def kill_daemon(self, number: int = signal.SIGKILL) -> None:
        assert self.daemon is not None
        os.kill(self.daemon_pid, number)
        self.daemon.wait(20)

    @property
    def keeper_pid(self) -> int:
        for pid in children(self.pid):
            with contextlib.suppress(OSError):  # What a keeper that has died was just about to start is on its way out.
                if b"kubeling.crilite" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return pid
        return 0

    def close(self) -> None:
        with contextlib.suppress(IndexError, ProcessLookupError):
            self.kill_daemon(signal.SIGTERM)
        self._holder.kill()
        self._holder.wait()
        for mount in Path("/sys/fs/cgroup").iterdir():
            top = mount / self.cgroup_root.strip("/")
            for folder in sorted(top.rglob("*"), reverse=True) if top.is_dir() else []:
                if folder.is_dir():
                    folder.rmdir()
            if top.is_dir():
                top.rmdir()
        shutil.rmtree(self.folder, ignore_errors=True)


class Cri:
    """The client that tests use: stubs, and the shortest way to a pod."""

    def __init__(self, address: str, logs: Path) -> None:
        self.channel = grpc.aio.insecure_channel(address)
        self.runtime: Any = cri_pb2_grpc.RuntimeServiceStub(self.channel)  # type: ignore[no-untyped-call]
        self.images: Any = cri_pb2_grpc.ImageServiceStub(self.channel)  # type: ignore[no-untyped-call]
        self.logs = logs
        self.sandboxes: list[str] = []

    async def ready(self) -> None:
        async def serving() -> bool:
            try:
                await self.runtime.Version(cri.VersionRequest())
            except grpc.aio.AioRpcError:
                return False
            return True

        await eventually(serving, 60)

    def pod_config(self, options: cri.NamespaceOption | None = None, **values: Any) -> cri.PodSandboxConfig:
        number = next(_names)
        options = options or cri.NamespaceOption(pid=cri.CONTAINER)
        config = cri.PodSandboxConfig(
            metadata=cri.PodSandboxMetadata(name=f"pod{number}", uid=f"uid-{os.getpid()}-{number}", namespace="default"),
            hostname="" if options.network == cri.NODE else f"pod{number}",
            log_directory=str(self.logs / f"pod{number}"),
            linux=cri.LinuxPodSandboxConfig(security_context=cri.LinuxSandboxSecurityContext(namespace_options=options)),
        )
        config.MergeFrom(cri.PodSandboxConfig(**values))
        return config

    async def sandbox(self, config: cri.PodSandboxConfig | None = None, handler: str = "") -> tuple[str, cri.PodSandboxConfig]:
        config = config or self.pod_config()
        answer = await self.runtime.RunPodSandbox(cri.RunPodSandboxRequest(config=config, runtime_handler=handler))
        self.sandboxes.append(answer.pod_sandbox_id)
        return answer.pod_sandbox_id, config

    async def create(
        self,
        sandbox: str,
        pod: cri.PodSandboxConfig,
        *command: str,
        image: str = "kubeling.local/host",
        name: str = "main",
        **values: Any,
    ) -> str:
        config = cri.ContainerConfig(
            metadata=cri.ContainerMetadata(name=name),
            image=cri.ImageSpec(image=image),
            command=command,
            log_path=f"{name}.log",
        )
        config.linux.security_context.namespace_options.CopyFrom(pod.linux.security_context.namespace_options)
        config.MergeFrom(cri.ContainerConfig(**values))
        request = cri.CreateContainerRequest(pod_sandbox_id=sandbox, config=config, sandbox_config=pod)
        return (await self.runtime.CreateContainer(request)).container_id

    async def start(self, container: str) -> None:
        await self.runtime.StartContainer(cri.StartContainerRequest(container_id=container))

    async def pod(
        self, *command: str, handler: str = "", pod: cri.PodSandboxConfig | None = None, **values: Any
    ) -> tuple[str, str]:
        """A sandbox with one container that runs `command`; both ids."""
        sandbox, config = await self.sandbox(pod, handler)
        container = await self.create(sandbox, config, *command, **values)
        await self.start(container)
        return sandbox, container

    async def status(self, container: str) -> cri.ContainerStatus:
        return (await self.runtime.ContainerStatus(cri.ContainerStatusRequest(container_id=container))).status

    async def pid(self, container: str) -> int:
        """Of the container's first process, as the test sees it: the runtime's own number is that of its pid namespace."""
        request = cri.ContainerStatusRequest(container_id=container, verbose=True)
        inner = json.loads((await self.runtime.ContainerStatus(request)).info["info"])["pid"]
        for path in Path("/proc").glob("[0-9]*/status"):
            with contextlib.suppress(OSError):
                row = next(line for line in path.read_text().splitlines() if line.startswith("NSpid:")).split()[1:]
                if row[1:2] == [str(inner)] and f"/{container}" in (path.parent / "cgroup").read_text():
                    return int(row[0])
        raise AssertionError(f"no process is {inner} in the node")

    async def finished(self, container: str, seconds: float = 20.0) -> cri.ContainerStatus:
        async def ended() -> cri.ContainerStatus | None:
            status = await self.status(container)
            return status if status.state == cri.CONTAINER_EXITED else None

        found: cri.ContainerStatus = await eventually(ended, seconds)
        return found

    async def output(self, *command: str, **values: Any) -> str:
        """What a container prints that runs `command` to its end."""
        _, container = await self.pod(*command, **values)
        status = await self.finished(container)
        return self.text(status.log_path)

    async def exec(self, container: str, *command: str, timeout: int = 10) -> tuple[int, str, str]:
        request = cri.ExecSyncRequest(container_id=container, cmd=command, timeout=timeout)
        answer = await self.runtime.ExecSync(request)
        return answer.exit_code, answer.stdout.decode(), answer.stderr.decode()

    @staticmethod
    def text(path: str, stream: str = "") -> str:
        """The text of a CRI log, without its stamps."""
        out = ""
        for line in Path(path).read_text().splitlines():
            _, name, flag, text = line.split(" ", 3)
            if not stream or name == stream:
                out += text + ("\n" if flag == "F" else "")
        return out

    async def clean(self) -> None:
        for sandbox in self.sandboxes:
            await self.runtime.RemovePodSandbox(cri.RemovePodSandboxRequest(pod_sandbox_id=sandbox))
        self.sandboxes.clear()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[Node]:
    if os.geteuid() != 0:
        pytest.skip("namespaces are tried as root")
    made = Node(tmp_path_factory.mktemp("node"), f"{worker_id}-{os.getpid()}-{next(_names)}")
    made.start()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def box(node: Node) -> str:
    """The name of an image with a busybox, loaded into the node."""
    if not Path("/bin/busybox").exists():
        pytest.skip("needs a static busybox: apt-get install busybox-static")
    names = (
        "sh",
        "cat",
        "ls",
        "id",
        "sleep",
        "stat",
        "touch",
        "mkdir",
        "chown",
        "mount",
        "hostname",
        "echo",
        "tail",
        "test",
        "true",
    )
    layer = archives.layer(
        ("bin/", None), ("bin/busybox", Path("/bin/busybox").read_bytes()), *(archives.link(f"bin/{name}", "busybox") for name in names),
        ("etc/", None), ("etc/passwd", b"root:x:0:0::/root:/bin/sh\nweb:x:1000:2000::/:/bin/sh\n"), ("data/", None), ("tmp/", None), ("data/file", b"content\n"),
    )  # fmt: skip
    archives.oci(node.folder / "box.tar", "example.org/userns:1", [layer], Env=["PATH=/bin"])
    tool = [sys.executable, "-m", "kubeling.crilite", "image", f"--root={node.root}", "load", str(node.folder / "box.tar")]
    subprocess.run(tool, check=True, capture_output=True)
    return "example.org/userns:1"


@pytest.fixture
async def client(node: Node) -> AsyncIterator[Cri]:
    made = Cri(f"unix://{node.socket}", node.logs)
    await made.ready()
    try:
        yield made
        await made.clean()
    finally:
        await made.channel.close()
