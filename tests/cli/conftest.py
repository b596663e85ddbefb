"""A store, an apiserver and a controller-manager of this test run's own, and both command lines against them."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kubeling.cluster import rbac
from tests.ports import free_port

USERS = {"admin": "system:masters", "system:kube-controller-manager": "", "nobody": ""}


def make_certificates(folder: Path) -> None:
    """A CA and a serving certificate for 127.0.0.1, and a key for tokens."""
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
    for file, each in (("server.key", key), ("sa.key", ec.generate_private_key(ec.SECP256R1()))):
        (folder / file).write_bytes(
            each.private_bytes(pem, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
        )


@dataclass
class Plane:
    """A running store, apiserver and controller-manager."""

    folder: Path
    url: str
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def kubeconfig(self, user: str = "admin") -> Path:
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

    def daemon(self, module: str, *args: str) -> subprocess.Popen[bytes]:
        """Start `python -m kubeling.<module>`; its output goes to a file beside the certificates."""
        with open(self.folder / f"{module}.log", "ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", f"kubeling.{module}", *args], stdout=log, stderr=log, start_new_session=True
            )
        self.processes.append(process)
        return process


def stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(15)


def wait_for_port(port: int, process: subprocess.Popen[bytes], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        assert process.poll() is None, f"{process.args!r} ended with {process.returncode}"
        time.sleep(0.05)
    raise TimeoutError(f"nobody listens on port {port}")


@contextlib.contextmanager
def running_plane(folder: Path) -> Iterator[Plane]:
    make_certificates(folder)
    (folder / "tokens.csv").write_text(
        "".join(f'token-of-{user},{user},{uuid.uuid4()},"{groups}"\n' for user, groups in USERS.items())
    )
    port, peer, api = free_port(), free_port(), free_port()
    made = Plane(folder, f"https://127.0.0.1:{api}")
    etcd, peers = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer}"
    try:
        made.daemon(
            "etcdlite",
            "--name=m",
            f"--data-dir={folder / 'store'}",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=m={peers}",
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
        made.daemon(
            "controllers",
            f"--kubeconfig={made.kubeconfig('system:kube-controller-manager')}",
            "--secure-port=0",
            f"--root-ca-file={folder / 'ca.crt'}",
            "--leader-elect=false",
        )
        yield made
    finally:
        for each in reversed(made.processes):
            stop(each)


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    with running_plane(tmp_path_factory.mktemp("plane")) as made:
        shell = Shell(made)
        deadline = time.monotonic() + 30
        while shell.kubeling("get serviceaccount default -o name").code and time.monotonic() < deadline:
            time.sleep(0.1)
        yield made


@dataclass(frozen=True)
class Result:
    """What a command line gave."""

    code: int
    out: str
    err: str


class Shell:
    """Runs command lines against a plane."""

    def __init__(self, plane: Plane, user: str = "admin", namespace: str = "") -> None:
        self.plane, self.user, self.namespace = plane, user, namespace
        self.environment = {
            **os.environ,
            "KUBECONFIG": str(plane.kubeconfig(user)),
            "HOME": str(plane.folder),
            "COLUMNS": "200",
            "NO_COLOR": "1",
        }

    def run(self, program: Sequence[str], line: str | Sequence[str], stdin: str = "", timeout: float = 60) -> Result:
        words = line.split() if isinstance(line, str) else list(line)
        if self.namespace:
            words = [words[0], f"--namespace={self.namespace}", *words[1:]]
        done = subprocess.run(
            [*program, *words], input=stdin, capture_output=True, text=True, env=self.environment, timeout=timeout, check=False
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def kubeling(self, line: str | Sequence[str], stdin: str = "", timeout: float = 60) -> Result:
        return self.run([sys.executable, "-m", "kubeling.cli"], line, stdin, timeout)

    def kubectl(self, line: str | Sequence[str], stdin: str = "", timeout: float = 60) -> Result:
        program = shutil.which("kubectl")
        if program is None:
            pytest.skip("kubectl is not installed: nothing to compare with")
        return self.run([program], line, stdin, timeout)

    def start(self, line: str | Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        """kubeling in the background; the caller ends it."""
        words = line.split() if isinstance(line, str) else list(line)
        if self.namespace:
            words = [words[0], f"--namespace={self.namespace}", *words[1:]]
        return subprocess.Popen([sys.executable, "-m", "kubeling.cli", *words], env=self.environment, **options)


@pytest.fixture
def shell(plane: Plane) -> Iterator[Shell]:
    """A shell in a namespace of the test's own."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    shell = Shell(plane)
    assert shell.kubeling(f"create namespace {name}").code == 0
    shell.namespace = name
    yield shell
    shell.namespace = ""
    shell.kubeling(f"delete namespace {name} --wait=false")


_VARYING = [
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "UID"),
    (re.compile(r"\b\d+(m?s|[mhd])(\d+[smh])?\b"), "AGE"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"), "TIME"),
    (re.compile(r"resourceVersion: \"\d+\""), "resourceVersion: RV"),
    (re.compile(r"10\.96\.\d+\.\d+"), "CLUSTERIP"),
]


def plain(text: str, *namespaces: str) -> str:
    """Without what differs from one object to its twin: ages, uids, versions, the test's namespace."""
    for namespace in namespaces:
        text = text.replace(namespace, "NS")
    for pattern, word in _VARYING:
        text = pattern.sub(word, text)
    return re.sub(r"  +", "  ", text)


@pytest.fixture
def same(shell: Shell) -> Callable[..., Result]:
    """Runs one line with both programs and holds kubeling to what kubectl says; returns kubeling's result."""

    def check(line: str | Sequence[str], stdin: str = "", *, errors: bool = True) -> Result:
        theirs, ours = shell.kubectl(line, stdin), shell.kubeling(line, stdin)
        where = f"\n$ {line if isinstance(line, str) else ' '.join(line)}\nkubectl: {theirs}\nkubeling: {ours}"
        assert plain(ours.out, shell.namespace) == plain(theirs.out, shell.namespace), where
        if errors:
            assert plain(ours.err, shell.namespace) == plain(theirs.err.replace("kubectl", "kubeling"), shell.namespace), where
        assert ours.code == theirs.code, where
        return ours

    return check
