"""Small files that the kubelet keeps for each pod: /etc/hosts, termination messages, log folders."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kubeling.api.meta import Object, metadata_of, namespace_of, uid_of
from kubeling.kubelet.convert import BindMount
from kubeling.kubelet.dnsconfig import hosts_file
from kubeling.kubelet.logs import open_plain
from kubeling.kubelet.podstate import ContainerRecord

MESSAGE_LIMIT = 4096
#: What FallbackToLogsOnError shows: this much of the log's end, at most so many lines.
LOG_LIMIT = 2048
LOG_LINES = 80
_TAIL_READ = 16 * 1024
ETC_HOSTS = "/etc/hosts"


class PodFiles:
    """`pods_dir/<uid>/…` and `logs_dir/<namespace>_<name>_<uid>/…`."""

    def __init__(self, pods_dir: Path, logs_dir: Path, cluster_domain: str) -> None:
        self._pods = pods_dir
        self._logs = logs_dir
        self._domain = cluster_domain

    def log_dir(self, pod: Object) -> Path:
        return self._logs / f"{namespace_of(pod)}_{metadata_of(pod)['name']}_{uid_of(pod)}"

    def log_file(self, pod: Object, container: str, attempt: int) -> Path:
        return self.log_dir(pod) / container / f"{attempt}.log"

    def make_log_dir(self, pod: Object) -> None:
        self.log_dir(pod).mkdir(parents=True, exist_ok=True)

    def last_attempt(self, pod: Object, container: str) -> int:
        """The highest restart number that has left a log; -1 where there is none."""
        try:
            names = os.listdir(self.log_dir(pod) / container)
        except FileNotFoundError:
            return -1
        return max((int(each.split(".")[0]) for each in names if each.split(".")[0].isdigit()), default=-1)

    def remove_logs(self, pod: Object) -> None:
        shutil.rmtree(self.log_dir(pod), ignore_errors=True)

    def remove_log(self, pod: Object, container: str, attempt: int) -> None:
        """The log of one dead container, with what was rotated away."""
        for each in self.log_file(pod, container, attempt).parent.glob(f"{attempt}.log*"):
            each.unlink(missing_ok=True)

    def container_mounts(self, pod: Object, container: dict[str, Any], attempt: int, ips: Sequence[str]) -> list[BindMount]:
        """/etc/hosts and the termination message, made ready to be mounted."""
        found = []
        mounted = {each["mountPath"].rstrip("/") for each in container.get("volumeMounts") or ()}
        if ETC_HOSTS not in mounted and ips:
            found.append(BindMount(ETC_HOSTS, str(self._etc_hosts(pod, ips))))
        path = container.get("terminationMessagePath") or "/dev/termination-log"
        if path.rstrip("/") not in mounted:
            message = self._message_file(uid_of(pod), container["name"], attempt)
            message.parent.mkdir(parents=True, exist_ok=True)
            message.write_bytes(b"")
            message.chmod(0o666)
            found.append(BindMount(path, str(message)))
        return found

    def _etc_hosts(self, pod: Object, ips: Sequence[str]) -> Path:
        path = self._pods / uid_of(pod) / "etc-hosts"
        try:
            host = Path(ETC_HOSTS).read_text()
        except OSError:
            host = ""
        text = hosts_file(pod, ips, self._domain, host)
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Written in place: it is mounted in containers, which would not see a new file.
            path.write_text(text)
            path.chmod(0o644)
        return path

    def _message_file(self, uid: str, container: str, attempt: int) -> Path:
        return self._pods / uid / "containers" / container / f"termination-{attempt}"

    def termination_message(self, pod: Object, container: dict[str, Any], record: ContainerRecord) -> str:
        """What a dead container left behind, cut to what a status may hold."""
        try:
            with open_plain(self._message_file(uid_of(pod), record.name, record.attempt)) as file:
                text = file.read(MESSAGE_LIMIT).decode(errors="replace")
        except OSError:
            text = ""
        policy = container.get("terminationMessagePolicy") or "File"
        if not text and policy == "FallbackToLogsOnError" and record.exit_code != 0:
            text = tail_of_log(self.log_file(pod, record.name, record.attempt))
        return text


def tail_of_log(path: Path) -> str:
    """The last lines of a CRI log, without time and stream."""
    try:
        with open_plain(path) as file:
            file.seek(0, os.SEEK_END)
            size = file.tell()
            file.seek(max(0, size - _TAIL_READ))
            data = file.read()
    except OSError:
        return ""
    lines = data.split(b"\n")
    if size > _TAIL_READ:
        lines = lines[1:]
    out = b""
    for line in lines:
        parts = line.split(b" ", 3)
        if len(parts) == 4:
            out += parts[3] + (b"" if parts[2] == b"P" else b"\n")
    kept = out.split(b"\n")[-LOG_LINES - 1 :]
    return b"\n".join(kept)[-LOG_LIMIT:].decode(errors="replace")
