"""An apiserver, its store, and schedulers on request, as processes, and a client: no nodes but those that are written to the API."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from kubeling.api.errors import ApiError
from kubeling.api.resources import NAMESPACES, SERVICE_ACCOUNTS
from kubeling.bench.api.servers import OURS, Server
from kubeling.client import kubeconfig
from kubeling.client.rest import Client

Obj = dict[str, Any]


class Plane:
    """Use as a context manager. `folder` must not exist yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._server = Server(OURS, folder)
        self._schedulers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Plane:
        self._server.start()
        lines = [
            "apiVersion: v1",
            "kind: Config",
            "current-context: c",
            f"clusters: [{{name: c, cluster: {{server: '{self._server.url}', certificate-authority: '{self.folder / 'ca.crt'}'}}}}]",
            f"users: [{{name: u, user: {{client-certificate: '{self.folder / 'client.crt'}', client-key: '{self.folder / 'client.key'}'}}}}]",
            "contexts: [{name: c, context: {cluster: c, user: u}}]",
        ]
        self.kubeconfig.write_text("\n".join(lines))
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._schedulers:
            stop(process)
        self._server.stop()

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "admin.conf"

    def cpu(self) -> dict[str, float]:
        """CPU seconds that the apiserver and the schedulers have used so far: what can be compared where others use the machine too."""
        return {"apiserver": self._server.cpu(), "scheduler": sum(_cpu(process.pid) for process in self._schedulers)}

    def client(self) -> Client:
        return Client(kubeconfig.load(self.kubeconfig))

    def scheduler(self, *flags: str, name: str = "scheduler") -> subprocess.Popen[bytes]:
        """Start one; its log is `<name>.log`."""
        with open(self.folder / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "kubeling.scheduler", f"--kubeconfig={self.kubeconfig}", "--secure-port=0", *flags],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        self._schedulers.append(process)
        return process

    async def namespace(self, client: Client, name: str, labels: dict[str, str] | None = None) -> None:
        """A namespace with what pods need to be admitted there; one that is there already is completed."""
        made: list[tuple[Any, Obj, str | None]] = [
            (NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels or {}}}, None),
            (SERVICE_ACCOUNTS, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}, name),
        ]
        for resource, body, where in made:
            try:
                await client.create(resource, body, where)
            except ApiError as refused:
                if refused.code != 409:
                    raise


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that we started."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
