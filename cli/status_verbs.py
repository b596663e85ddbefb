"""`status` and `logs`: what a cluster is doing, and what its daemons say."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from kubeling.cli.cluster_verbs import DAEMON_LOGS, DEFAULT, Name, default_root, plain_errors, print_table

_READ = 64 * 1024


def status(
    name: Name = DEFAULT, json_output: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False
) -> None:
    """Daemons with their processes, restarts, health and memory; nodes; who leads."""
    from kubeling.cluster.control import Control

    root = default_root(name)
    with plain_errors():
        if not (root / "state.json").exists():
            from kubeling.cluster.state import ClusterError

            raise ClusterError(f"there is no cluster {name!r}: `kubeling list` shows which there are")
        with Control(root) as control:
            found = control.call("status")
    leaders, ready = _ask_the_api(root)
    if json_output:
        import json

        print(json.dumps({**found, "leaders": leaders, "ready_nodes": ready}, indent=1))
        return
    _print(found, leaders, ready)


def _print(found: dict[str, Any], leaders: dict[str, str], ready: dict[str, str]) -> None:
    word = "ready" if found["ready"] else f"not ready: {found['error'] or 'still starting'}"
    print(f"Cluster {found['name']!r}: {word}, up for {_age(found['uptime'])}, {found['server']}, network {found['network']}")
    print()
    table: list[tuple[str, ...]] = [("NODE", "ADDRESS", "STATE", "KUBERNETES", "BOOTS", "PID", "PSS")]
    for node in found["nodes"]:
        condition = ready.get(node["name"], "-")
        table.append(
            (
                node["name"],
                node["address"],
                node["state"],
                condition,
                str(node["boots"]),
                str(node["pid"] or "-"),
                _mib(node["pss_kib"]),
            )
        )
    print_table(table)
    print()
    rows: list[tuple[str, ...]] = [("DAEMON", "NODE", "STATE", "HEALTH", "LEADS", "RESTARTS", "AGE", "PID", "CPU", "PSS")]
    for own in found["own"]:
        rows.append(
            (
                own["name"],
                "host",
                "running",
                "",
                "",
                "",
                "",
                str(own["pid"] or "-"),
                f"{own['cpu_seconds']:.2f}s",
                _mib(own["pss_kib"]),
            )
        )
    names = [daemon["daemon"] for daemon in found["daemons"]]
    for daemon in found["daemons"]:
        rows.append(
            (
                daemon["daemon"],
                daemon["node"],
                daemon["state"],
                daemon["health"] or "-",
                "leader" if _leads(daemon, leaders, names.count(daemon["daemon"]) == 1) else "",
                str(daemon["restarts"]) + (f" ({daemon['last_exit']})" if daemon["last_exit"] and daemon["restarts"] else ""),
                _age(daemon["age"]) if daemon["pid"] else "-",
                str(daemon["pid"] or "-"),
                f"{daemon['cpu_seconds']:.2f}s",
                _mib(daemon["pss_kib"]),
            )
        )
    print_table(rows)
    total = sum(entry["pss_kib"] for part in ("own", "nodes", "daemons") for entry in found[part])
    print(f"\nTogether {total / 1024:.0f} MiB (PSS: what is shared counts once).")


#: Daemon -> the Lease that its leader holds.
LEASES = {"scheduler": "kube-scheduler", "controllers": "kube-controller-manager", "cloud": "cloud-controller-manager"}


def _leads(daemon: dict[str, Any], leaders: dict[str, str], alone: bool) -> bool:
    if "leader" in daemon:
        return bool(daemon["leader"])
    holder = leaders.get(LEASES.get(daemon["daemon"], ""), "")
    # An identity is a host's name, an underscore and something unique. What runs on the host itself, or alone, is known without.
    return bool(daemon["pid"] and holder) and (alone or holder.rpartition("_")[0] == daemon["node"])


def _ask_the_api(root: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Lease -> holder, and node -> Ready or what else; empty where the API does not answer."""
    import asyncio

    from kubeling.api import resources
    from kubeling.api.errors import ApiError
    from kubeling.client import kubeconfig
    from kubeling.client.rest import Client, ConnectionFailed

    async def ask() -> tuple[dict[str, str], dict[str, str]]:
        async with asyncio.timeout(3), Client(kubeconfig.load(root / "kubeconfig" / "admin.conf")) as client:
            leases, nodes = await asyncio.gather(client.list(resources.LEASES, "kube-system"), client.list(resources.NODES))
        holders = {lease["metadata"]["name"]: lease.get("spec", {}).get("holderIdentity") or "" for lease in leases["items"]}
        return holders, {node["metadata"]["name"]: _readiness(node) for node in nodes["items"]}

    try:
        return asyncio.run(ask())
    except (ApiError, ConnectionFailed, TimeoutError, OSError, kubeconfig.KubeconfigError) as error:
        print(
            f"warning: the API does not answer ({error or 'timed out'}): leaders and node conditions are not shown",
            file=sys.stderr,
        )
        return {}, {}


def _readiness(node: dict[str, Any]) -> str:
    conditions = {c["type"]: c["status"] for c in node.get("status", {}).get("conditions", [])}
    words = ["Ready" if conditions.get("Ready") == "True" else "NotReady"]
    if node.get("spec", {}).get("unschedulable"):
        words.append("SchedulingDisabled")
    return ",".join(words)


def _mib(kib: int) -> str:
    return f"{kib / 1024:.1f}M"


def _age(seconds: float) -> str:
    whole = int(seconds)
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if whole >= 2 * size:
            return f"{whole // size}{unit}"
    return f"{whole}s"


def logs(
    daemon: Annotated[str, typer.Argument(help="DAEMON, NODE/DAEMON, or supervisor, zygote, bootstrap.")],
    name: Name = DEFAULT,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is written from now on.")] = False,
    tail: Annotated[int, typer.Option(help="Only so many of the last lines; -1 for all.")] = -1,
) -> None:
    """What the daemons of a cluster write, of every node where no node is given."""
    from kubeling.cluster.state import ClusterError

    folder = default_root(name) / "logs"
    with plain_errors():
        if not folder.is_dir():
            raise ClusterError(f"there is no cluster {name!r}: `kubeling list` shows which there are")
        paths = matching(folder, daemon)
        if not paths:
            known = ", ".join(sorted(p.stem for p in folder.glob("*.log")))
            raise ClusterError(f"nothing called {daemon!r} has written a log here; there are {known}")
        ends = {path: _copy(path, 0 if tail < 0 else _last_lines(path, tail), len(paths) > 1) for path in paths}
        if follow:
            _follow(ends)


def matching(folder: Path, daemon: str) -> list[Path]:
    """The logs that `daemon` (NODE/DAEMON, DAEMON, or the whole name) stands for."""
    if "/" in daemon:
        wanted = folder / f"{daemon.replace('/', '-')}.log"
        return [wanted] if wanted.exists() else _of_static_pods(folder, *daemon.split("/", 1))
    exact = folder / f"{daemon}.log"
    found = [exact] if exact.exists() else sorted(p for p in folder.glob("*.log") if p.stem.endswith(f"-{daemon}"))
    return found or _of_static_pods(folder, "*", daemon)


def _of_static_pods(folder: Path, node: str, daemon: str) -> list[Path]:
    """The newest log of the static pods that run `daemon`: it can be read while the API is away, which `kubectl logs` cannot."""
    pods = folder.parent.glob(f"nodes/{node}/kubelet/log/pods/kube-system_{daemon}-*_*/{daemon}")
    logs = [list(pod.glob("*.log")) for pod in pods]
    return sorted(max(each, key=lambda path: path.stat().st_mtime) for each in logs if each)


def _last_lines(path: Path, count: int) -> int:
    """Where the last `count` lines of the file begin."""
    with path.open("rb") as file:
        position = file.seek(0, os.SEEK_END)
        block, found = b"", 0
        while position and found <= count:
            step = min(_READ, position)
            position -= step
            file.seek(position)
            block = file.read(step) + block
            found = block.count(b"\n")
        lines = block.splitlines(keepends=True)
        return position + len(block) - sum(len(line) for line in lines[len(lines) - count :]) if count else position + len(block)


def _copy(path: Path, start: int, several: bool) -> int:
    """Print the file from `start`; with `several`, each line behind its file's name. Returns where it ended."""
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) < start:
            start = 0  # It was cut meanwhile.
        file.seek(start)
        out = sys.stdout.buffer
        if several:
            for line in file:
                out.write(f"{path.stem}: ".encode() + line)
        else:
            while block := file.read(_READ):
                out.write(block)
        out.flush()
        return file.tell()


def _follow(ends: dict[Path, int]) -> None:
    """Print what is appended, woken by inotify."""
    from kubeling.linux import inotify

    for changed in inotify.watch([str(path) for path in ends]):
        # The first wake-up names none: what was written between the copy and the watch is fetched for all.
        for path in [Path(changed)] if changed else list(ends):
            ends[path] = _copy(path, ends[path], len(ends) > 1)


def register(app: typer.Typer) -> None:
    """Add the verbs to `app`."""
    app.command(rich_help_panel="Clusters")(status)
    app.command(DAEMON_LOGS, rich_help_panel="Clusters")(logs)
