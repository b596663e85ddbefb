"""A store and an apiserver of this test run's own, controller-managers on request, and a stand-in for kubelets that marks pods as a node would."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kubeling.api.errors import ApiError
from kubeling.api.resources import NAMESPACES, PODS
from kubeling.api.times import format_time
from kubeling.client.informer import Change, Informer
from kubeling.client.kubeconfig import ClientConfig
from kubeling.client.rest import Client
from kubeling.cluster import rbac
from tests.ports import free_port

USERS = {"admin": "system:masters", "system:kube-controller-manager": "", "system:cloud-controller-manager": ""}
Obj = dict[str, Any]


def make_certificates(folder: Path) -> str:
    """A CA and a serving certificate for 127.0.0.1; returns the CA as PEM."""
    now = datetime.now(UTC)

    def build(name: str, issuer: str, key: Any, signer: Any, ca: bool) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if not ca:
            names = [x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName("localhost")]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(signer, hashes.SHA256())

    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca, cert = build("test-ca", "test-ca", ca_key, ca_key, True), build("apiserver", "test-ca", key, ca_key, False)
    pem = serialization.Encoding.PEM
    (folder / "ca.crt").write_bytes(ca.public_bytes(pem))
    (folder / "server.crt").write_bytes(cert.public_bytes(pem))
    for file, each in (("server.key", key), ("ca.key", ca_key), ("sa.key", ec.generate_private_key(ec.SECP256R1()))):
        (folder / file).write_bytes(
            each.private_bytes(pem, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
        )
    return (folder / "ca.crt").read_text()


@dataclass
class Plane:
    """A running store and apiserver."""

    folder: Path
    url: str
    ca: str
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def config(self, user: str = "admin") -> ClientConfig:
        return ClientConfig((self.url,), ca_pem=self.ca, token=f"token-of-{user}")

    def kubeconfig(self, user: str) -> Path:
        path = self.folder / f"{user}.conf".replace(":", "-")
        path.write_text(
            "\n".join(
                [
                    "apiVersion: v1",
                    "kind: Config",
                    "current-context: c",
                    f"clusters: [{{name: c, cluster: {{server: '{self.url}', certificate-authority: '{self.folder / 'ca.crt'}'}}}}]",
                    f"users: [{{name: u, user: {{token: 'token-of-{user}'}}}}]",
                    "contexts: [{name: c, context: {cluster: c, user: u}}]",
                ]
            )
        )
        return path

    def daemon(self, module: str, *args: str, name: str = "") -> subprocess.Popen[bytes]:
        """Start `python -m kubeling.<module>`; its output goes to a file beside the certificates."""
        with open(self.folder / f"{name or module}.log", "ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", f"kubeling.{module}", *args], stdout=log, stderr=log, start_new_session=True
            )
        self.processes.append(process)
        return process

    def manager(self, *args: str, user: str = "system:kube-controller-manager") -> subprocess.Popen[bytes]:
        """Start a controller-manager that needs no lease."""
        flags = [f"--kubeconfig={self.kubeconfig(user)}", "--secure-port=0", f"--root-ca-file={self.folder / 'ca.crt'}", "--v=4"]
        if not any(each.startswith("--leader-elect=") for each in args):
            flags.append("--leader-elect=false")
        return self.daemon("controllers", *flags, *args)


def stop(process: subprocess.Popen[bytes], *, how: int = signal.SIGTERM) -> None:
    if process.poll() is None:
        process.send_signal(how)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(15)


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    folder = tmp_path_factory.mktemp("plane")
    ca = make_certificates(folder)
    (folder / "tokens.csv").write_text(
        "".join(f'token-of-{user},{user},{uuid.uuid4()},"{groups}"\n' for user, groups in USERS.items())
    )
    port, peer, api = free_port(), free_port(), free_port()
    made = Plane(folder, f"https://127.0.0.1:{api}", ca)
    etcd = f"http://127.0.0.1:{port}"
    try:
        made.daemon(
            "etcdlite",
            "--name=m",
            f"--data-dir={folder / 'store'}",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-cluster=m=http://127.0.0.1:{peer}",
        )
        wait_for_port(port, made.processes[-1])
        rbac.write(folder / "rbac.json")
        made.daemon(
            "apiserver",
            f"--etcd-servers={etcd}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={api}",
            f"--tls-cert-file={folder / 'server.crt'}",
            f"--tls-private-key-file={folder / 'server.key'}",
            f"--token-auth-file={folder / 'tokens.csv'}",
            f"--service-account-key-file={folder / 'sa.key'}",
            f"--service-account-signing-key-file={folder / 'sa.key'}",
            f"--rbac-bootstrap-file={folder / 'rbac.json'}",
        )
        wait_for_port(api, made.processes[-1])
        yield made
    finally:
        for each in reversed(made.processes):
            stop(each)


def wait_for_port(port: int, process: subprocess.Popen[bytes], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        assert process.poll() is None, f"{process.args!r} ended with {process.returncode}"
        time.sleep(0.05)
    raise TimeoutError(f"nobody listens on port {port}")


@pytest_asyncio.fixture
async def client(plane: Plane) -> AsyncIterator[Client]:
    async with Client(plane.config()) as made:
        await until(lambda: reachable(made), "the apiserver is ready")
        yield made


async def reachable(client: Client) -> bool:
    try:
        await client.get(NAMESPACES, "default")
    except ApiError:
        return False
    return True


@pytest.fixture
def manager(plane: Plane) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts controller-managers that end with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*args: str) -> subprocess.Popen[bytes]:
        process = plane.manager(*args)
        started.append(process)
        return process

    yield start
    for each in started:
        stop(each)


@pytest_asyncio.fixture
async def namespace(client: Client) -> AsyncIterator[str]:
    """A namespace of the test's own."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    await client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    with contextlib.suppress(ApiError):
        await client.delete(NAMESPACES, name)


async def until(check: Callable[[], Awaitable[Any]], what: str, seconds: float = 30) -> Any:
    """Poll until `check` returns something true; its last value is returned. An assertion or 404 in it counts as not yet."""
    deadline = time.monotonic() + seconds
    problem: object = None
    while True:
        try:
            found = await check()
            if found:
                return found
            problem = found
        except AssertionError as error:
            problem = error
        except ApiError as error:
            problem = error
            if error.code != 404:
                raise
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}; last: {problem!r}")
        await asyncio.sleep(0.05)


class Hollow:
    """Plays the nodes of one namespace: pods become Running and ready, and pods that are to be deleted go."""

    def __init__(self, client: Client, namespace: str, node: str = "hollow") -> None:
        self.client, self.namespace, self.node = client, namespace, node
        self.paused: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._addresses: dict[str, str] = {}
        self.informer = Informer(client, PODS, namespace=namespace)
        self.informer.add_handler(self._seen)
        #: What to do with a pod whose image says so: the phase that it ends in.
        self.fate: Callable[[Obj], str] = lambda pod: "Running"

    def _seen(self, change: Change) -> None:
        if change.new is None:
            return
        task = asyncio.get_running_loop().create_task(self._move(change.new))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _move(self, pod: Obj) -> None:
        meta = pod["metadata"]
        with contextlib.suppress(ApiError):
            if meta.get("deletionTimestamp"):
                await self.client.delete(PODS, meta["name"], self.namespace, grace_period_seconds=0, uid=meta["uid"])
            elif (pod.get("status") or {}).get("phase") in (None, "", "Pending") and self.fate(pod) != "Pending":
                if not pod["spec"].get("nodeName"):
                    binding = {
                        "apiVersion": "v1",
                        "kind": "Binding",
                        "metadata": {"name": meta["name"], "namespace": self.namespace},
                        "target": {"apiVersion": "v1", "kind": "Node", "name": wanted_node(pod) or self.node},
                    }
                    await self.client.create(PODS, binding, self.namespace, name=meta["name"], subresource="binding")
                # Its binding is a change too, and may be seen before it runs: a pod keeps the address that it was given first.
                number = len(self._addresses) + 1
                address = self._addresses.setdefault(meta["uid"], f"10.244.{number // 250}.{number % 250 + 1}")
                await mark(self.client, pod, self.fate(pod), address)

    async def __aenter__(self) -> Hollow:
        self._run = asyncio.get_running_loop().create_task(self.informer.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._run.cancel()
        for each in list(self._tasks):
            each.cancel()
        await asyncio.gather(self._run, *self._tasks, return_exceptions=True)


def wanted_node(pod: Obj) -> str:
    """The node to which a DaemonSet's affinity pins a pod."""
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    terms = (affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}).get("nodeSelectorTerms") or [{}]
    fields = terms[0].get("matchFields") or [{}]
    return str((fields[0].get("values") or [""])[0])


async def mark(client: Client, pod: Obj, phase: str, address: str = "", *, ready: bool = True) -> Obj:
    """Write a pod's status as a kubelet would."""
    now = format_time(datetime.now(UTC))
    is_ready = "True" if ready and phase == "Running" else "False"
    status: Obj = {
        "phase": phase,
        "conditions": [
            {"type": kind, "status": is_ready if kind in ("Ready", "ContainersReady") else "True", "lastTransitionTime": now}
            for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")
        ],
    }
    if address:
        status |= {"podIP": address, "podIPs": [{"ip": address}], "hostIP": "127.0.0.1", "startTime": now}
    meta = pod["metadata"]
    return await client.patch(PODS, meta["name"], {"status": status}, meta["namespace"], subresource="status")


@pytest_asyncio.fixture
async def hollow(client: Client, namespace: str) -> AsyncIterator[Hollow]:
    async with Hollow(client, namespace) as made:
        yield made


@pytest.fixture
def tools() -> Any:
    """This module: test files cannot import it."""
    return sys.modules[__name__]
