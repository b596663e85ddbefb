"""A store and an apiserver of this test run's own, on ports of the loopback, and what else is started beside them."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kubeling.client.kubeconfig import ClientConfig
from kubeling.cluster import rbac
from tests.ports import free_port

#: User → group, if any; the token of each is token-of-<user>.
USERS = {"admin": "system:masters", "system:kube-controller-manager": "", "system:cloud-controller-manager": "", "nobody": ""}


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
    """A store and an apiserver, until the block ends; what was started through the plane ends with them."""
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
            "--runtime-config=api/alpha=true",
        )
        wait_for_port(api, made.processes[-1])
        yield made
    finally:
        for each in reversed(made.processes):
            stop(each)
