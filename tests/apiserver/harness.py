"""A store and apiservers of a test's own, as processes, and ways to talk to them: raw HTTP and kubectl."""

from __future__ import annotations

import contextlib
import csv
import json
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.apiserver.streams import Client
from tests.ports import free_port

Obj = dict[str, Any]


class Authority:
    """A CA that writes certificates into a folder."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.path = folder / f"{name}.crt"
        certificate = self._build(self._name, self._key, days=10, ca=True, addresses=())
        self.path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, *groups: str, file: str = "", days: float = 5, addresses: tuple[str, ...] = ()) -> tuple[str, str]:
        """A certificate and its key: their paths. Negative `days` make it expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
        attributes += [x509.NameAttribute(NameOID.ORGANIZATION_NAME, each) for each in groups]
        certificate = self._build(x509.Name(attributes), key, days=days, ca=False, addresses=addresses)
        base = self.folder / (file or name.replace(":", "-"))
        cert_path, key_path = base.with_suffix(".crt"), base.with_suffix(".key")
        cert_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        write_key(key_path, key)
        return str(cert_path), str(key_path)

    def _build(self, subject: x509.Name, key: Any, *, days: float, ca: bool, addresses: tuple[str, ...]) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=10))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if not ca:
            usages = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        if addresses:
            names = [_general_name(each) for each in addresses]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _general_name(text: str) -> x509.GeneralName:
    return x509.IPAddress(ip_address(text)) if text[:1].isdigit() else x509.DNSName(text)


def write_key(path: Path, key: Any) -> None:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path.write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))


def wait_until(what: str, check: Any, seconds: float = 15.0) -> Any:
    """Poll a condition of another process until it holds."""
    until = time.monotonic() + seconds
    last: Any = None
    while time.monotonic() < until:
        try:
            last = check()
            if last:
                return last
        except (OSError, httpx.HTTPError) as error:
            last = error
        time.sleep(0.02)
    raise AssertionError(f"{what}: not within {seconds} s; last seen: {last!r}")


@dataclass
class Daemon:
    """A process and where its output goes."""

    process: subprocess.Popen[bytes]
    log: Path

    def stop(self, seconds: float = 15) -> int:
        self.process.terminate()
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def spawn(log: Path, *argv: str) -> Daemon:
    with log.open("ab") as out:
        return Daemon(subprocess.Popen(argv, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL), log)


@dataclass
class Server:
    """One apiserver."""

    daemon: Daemon
    url: str
    world: World

    def client(self, user: str = "admin", **more: Any) -> Client:
        """A client with a user's certificate, or with none for an empty `user`."""
        context = ssl.create_default_context(cafile=str(self.world.authority.path))
        if user:
            context.load_cert_chain(*self.world.users[user])
        return Client(base_url=self.url, verify=context, timeout=30, **more)

    def kubeconfig(self, path: Path, user: str = "admin", token: str = "") -> Path:
        cert, key = self.world.users[user]
        identity = {"token": token} if token else {"client-certificate": cert, "client-key": key}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "k", "cluster": {"server": self.url, "certificate-authority": str(self.world.authority.path)}}],
            "users": [{"name": user, "user": identity}],
            "contexts": [{"name": "k", "context": {"cluster": "k", "user": user}}],
            "current-context": "k",
        }
        path.write_text(json.dumps(config))
        return path


@dataclass
class World:
    """A store, certificates, and the servers over them."""

    folder: Path
    authority: Authority
    users: dict[str, tuple[str, str]] = field(default_factory=dict)
    store_url: str = ""
    store: Daemon | None = None
    servers: list[Server] = field(default_factory=list)
    store_argv: tuple[str, ...] = ()

    def start_store(self) -> None:
        self.store = spawn(self.folder / "store.log", *self.store_argv)

    def start_server(self, *flags: str, port: int = 0) -> Server:
        """An apiserver, ready."""
        port = port or free_port()
        cert, key = self.users["server"]
        log = self.folder / f"apiserver-{port}.log"
        argv = [sys.executable, "-m", "kubeling.apiserver", "--etcd-servers", self.store_url, "--bind-address", "127.0.0.1"]
        argv += ["--secure-port", str(port), "--tls-cert-file", cert, "--tls-private-key-file", key]
        argv += ["--client-ca-file", str(self.authority.path), "--token-auth-file", str(self.folder / "tokens.csv")]
        argv += ["--service-account-signing-key-file", str(self.folder / "sa.key"), *flags]
        server = Server(spawn(log, *argv), f"https://127.0.0.1:{port}", self)
        self.servers.append(server)
        with server.client() as client:
            wait_until("the apiserver is ready", lambda: _alive(server) and client.get("/readyz").status_code == 200, 60)
        with server.client() as client:
            wait_until(
                "the namespaces are there", lambda: client.get("/api/v1/namespaces/kube-node-lease").status_code == 200, 60
            )
        return server

    def close(self) -> None:
        for server in self.servers:
            if server.daemon.process.poll() is None:
                server.daemon.stop()
        if self.store is not None and self.store.process.poll() is None:
            self.store.stop()


def _alive(server: Server) -> bool:
    if server.daemon.process.poll() is not None:
        raise AssertionError(f"the apiserver ended: {server.daemon.log.read_text()[-2000:]}")
    return True


def etcdlite(folder: Path, port: int) -> tuple[str, ...]:
    peer = free_port()
    client_url, peer_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer}"
    argv = (sys.executable, "-m", "kubeling.etcdlite", "--name", "m", "--data-dir", str(folder / "data"))
    argv += ("--listen-client-urls", client_url, "--advertise-client-urls", client_url, "--listen-peer-urls", peer_url)
    return (*argv, "--initial-advertise-peer-urls", peer_url, "--initial-cluster", f"m={peer_url}")


def real_etcd(folder: Path, port: int) -> tuple[str, ...]:
    return ("etcd", *etcdlite(folder, port)[3:])


@contextlib.contextmanager
def world(folder: Path, store: str = "etcdlite") -> Iterator[World]:
    """A store with its certificates and users; servers are started in it."""
    authority = Authority(folder)
    made = World(folder, authority)
    made.users = {
        "server": authority.issue("kube-apiserver", file="server", addresses=("127.0.0.1",)),
        "admin": authority.issue("kubernetes-admin", "system:masters", file="admin"),
        "bob": authority.issue("bob", "devs", file="bob"),
        "node": authority.issue("system:node:n1", "system:nodes", file="node"),
        "scheduler": authority.issue("system:kube-scheduler", file="scheduler"),
    }
    with (folder / "tokens.csv").open("w") as out:
        csv.writer(out).writerow(["admin-token", "tina", "7", "system:masters,ops"])
    write_key(folder / "sa.key", ec.generate_private_key(ec.SECP256R1()))
    port = free_port()
    made.store_url = f"http://127.0.0.1:{port}"
    made.store_argv = (etcdlite if store == "etcdlite" else real_etcd)(folder, port)
    made.start_store()
    try:
        yield made
    finally:
        made.close()


@dataclass
class Kubectl:
    """A kubectl with its kubeconfig and a cache of its own."""

    binary: str
    config: Path
    cache: Path

    def __call__(self, *argv: str, stdin: str | bytes = "", check: bool = True) -> str:
        done = self.run(*argv, stdin=stdin)
        if check and done.returncode:
            raise AssertionError(f"kubectl {' '.join(argv)}: {done.stderr}")
        return done.stdout

    def run(self, *argv: str, stdin: str | bytes = "") -> subprocess.CompletedProcess[str]:
        command = [self.binary, f"--kubeconfig={self.config}", f"--cache-dir={self.cache}", *argv]
        data = stdin if isinstance(stdin, bytes) else stdin.encode()
        done = subprocess.run(command, input=data, capture_output=True, timeout=60, check=False)
        return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())


def pod(name: str, **spec: Any) -> Obj:
    """A small Pod."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i"}], **spec},
    }


def config_map(name: str, **data: str) -> Obj:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def service(name: str, **spec: Any) -> Obj:
    base = {"selector": {"app": name}, "ports": [{"port": 80}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {**base, **spec}}


def deployment(name: str, **spec: Any) -> Obj:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    base = {"selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {**base, **spec}}
