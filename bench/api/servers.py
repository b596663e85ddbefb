"""Our apiserver on etcdlite, and a real one on etcd, as processes: same certificates, same flags, data on the same disk."""

from __future__ import annotations

import shutil
import signal
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from kubeling.bench.api import wire
from kubeling.bench.etcd.servers import Cluster, _free_ports
from kubeling.cluster import pki

OURS, THEIRS = "kubeling", "kube-apiserver"
_STORES = {OURS: "etcdlite", THEIRS: "etcd"}


def available() -> list[str]:
    """The servers that can be measured here."""
    return [OURS] + ([THEIRS] if shutil.which(THEIRS) and shutil.which("etcd") else [])


@dataclass
class Server:
    """One apiserver with a store of its own. Ends with :meth:`stop`."""

    kind: str
    folder: Path
    url: str = ""
    store: Cluster | None = None
    process: subprocess.Popen[bytes] | None = None
    tls: ssl.SSLContext = field(init=False)

    def start(self) -> float:
        """Start both; the seconds until a request is answered, the store's start included."""
        self.folder.mkdir(parents=True)
        files = self._certificates()
        began = time.monotonic()
        self.store = Cluster(_STORES[self.kind], self.folder / "store", 1).start()
        port = _free_ports(1)[0]
        self.url = f"https://127.0.0.1:{port}"
        with open(self.folder / "apiserver.log", "ab") as log:
            command = self._command(port, files, self.store.urls[0])
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self._wait()
        return time.monotonic() - began

    def _certificates(self) -> dict[str, str]:
        ca = pki.authority("bench-ca")
        made = {
            "server": pki.issue(ca, "kube-apiserver", names=["127.0.0.1"], server=True),
            "client": pki.issue(ca, "kubernetes-admin", ["system:masters"], client=True),
            "sa": pki.issue(ca, "service-accounts", client=True),
        }
        files = {"ca": str(self.folder / "ca.crt")}
        Path(files["ca"]).write_bytes(ca.cert_pem)
        for name, pair in made.items():
            for suffix, data in (("crt", pair.cert_pem), ("key", pair.key_pem)):
                files[f"{name}.{suffix}"] = str(self.folder / f"{name}.{suffix}")
                pki.write_private(self.folder / f"{name}.{suffix}", data)
        self.tls = wire.tls_context(files["ca"], files["client.crt"], files["client.key"])
        return files

    def _command(self, port: int, files: dict[str, str], store: str) -> list[str]:
        start = [sys.executable, "-m", "kubeling.apiserver"] if self.kind == OURS else [THEIRS]
        flags = {
            "--etcd-servers": store,
            "--bind-address": "127.0.0.1",
            "--secure-port": str(port),
            "--tls-cert-file": files["server.crt"],
            "--tls-private-key-file": files["server.key"],
            "--client-ca-file": files["ca"],
            "--service-account-key-file": files["sa.key"],
            "--service-account-signing-key-file": files["sa.key"],
            "--service-account-issuer": "https://kubernetes.default.svc",
            "--authorization-mode": "Node,RBAC",
            "--service-cluster-ip-range": "10.96.0.0/16",
        }
        if self.kind == THEIRS:
            flags["--cert-dir"] = str(self.folder)
        return [*start, *(f"{key}={value}" for key, value in flags.items())]

    def _wait(self) -> None:
        assert self.process is not None
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise wire.Failed(f"{self.kind} has ended: {(self.folder / 'apiserver.log').read_text()[-800:]}")
            try:
                if wire.exchange(self.url, self.tls, wire.request("GET", "/api/v1/namespaces/default")) == [200]:
                    return
            except (OSError, wire.Failed):
                pass
            # Nothing tells a client when a port begins to be listened on.
            time.sleep(0.02)
        raise wire.Failed(f"{self.kind} does not answer")

    def exchange(self, *requests: bytes) -> list[int]:
        """See :func:`wire.exchange`."""
        return wire.exchange(self.url, self.tls, *requests)

    def cpu(self) -> float:
        """CPU seconds that the apiserver has used, the store left out."""
        assert self.process is not None
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    def memory(self) -> float:
        """The apiserver's memory in KB (PSS)."""
        assert self.process is not None
        text = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        return float(text.partition("\nPss:")[2].split()[0])

    def stop(self) -> None:
        """End both and delete their data."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.store is not None:
            self.store.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
