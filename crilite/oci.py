"""Containers by OCI runtimes (the handlers `crun`, `runc` and `runsc`): from our launch spec to the ``config.json`` of a bundle. Plain functions.

Standard library only: it is used in the keeper's children. Limits are not in it, since the container's cgroup is made and limited as for every other
handler; the device rules are, since these runtimes make device nodes of their own.
"""

from __future__ import annotations

from typing import Any

from kubeling.crilite.users import Identity
from kubeling.linux import capabilities

RUNTIMES = ("crun", "runc", "runsc")

_DEVICES = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2)]
_PROPAGATION = {"private": "rprivate", "slave": "rslave"}


def config(spec: dict[str, Any], root: str, me: Identity) -> dict[str, Any]:
    """The bundle's configuration for `spec`, whose root file system is at `root` and whose user is `me`."""
    where = spec["namespaces"]
    namespaces: list[dict[str, str]] = [{"type": "mount"}, {"type": "cgroup"}]
    if isinstance(where["pid"], int):
        namespaces.append({"type": "pid", "path": f"/proc/{where['pid']}/ns/pid"})
    elif where["pid"] == "new":
        namespaces.append({"type": "pid"})
    namespaces += [
        {"type": kind, "path": where[name]} for name, kind in (("net", "network"), ("ipc", "ipc"), ("uts", "uts")) if where[name]
    ]
    linux: dict[str, Any] = {
        "namespaces": namespaces,
        "cgroupsPath": spec["oci"]["cgroup"],
        "resources": {"devices": _device_rules(spec)},
        "maskedPaths": spec["masked_paths"],
        "readonlyPaths": spec["readonly_paths"],
        "devices": spec["oci"].get("devices") or [],
    }
    if spec["oci"].get("seccomp"):
        linux["seccomp"] = spec["oci"]["seccomp"]
    return {
        "ociVersion": "1.0.2",
        "process": process(spec, me),
        "root": {"path": root, "readonly": spec["readonly_rootfs"]},
        "mounts": [*_standard_mounts(spec), *(_mount(entry) for entry in spec["mounts"] if not entry.get("device"))],
        "linux": linux,
    }


def process(spec: dict[str, Any], me: Identity) -> dict[str, Any]:
    """The process of a container, or of a command that is run in one."""
    environment = {name: value for name, _, value in (entry.partition("=") for entry in spec["env"])}
    environment.setdefault("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    environment.setdefault("HOME", me.home)
    if spec["tty"]:
        environment.setdefault("TERM", "xterm")
    made: dict[str, Any] = {
        "terminal": spec["tty"],
        "user": {"uid": me.uid, "gid": me.gid, "additionalGids": list(me.groups)},
        "args": spec["args"],
        "env": [f"{name}={value}" for name, value in environment.items()],
        "cwd": spec["cwd"] or "/",
        "capabilities": _capabilities(spec, me),
        "noNewPrivileges": spec["no_new_privs"],
    }
    return made


def _capabilities(spec: dict[str, Any], me: Identity) -> dict[str, list[str]]:
    most = capabilities.bounding()
    caps = spec["capabilities"]
    bounding = most if caps is None else caps["bounding"] & most
    ambient = 0 if caps is None else caps["ambient"] & bounding
    # Root has what it is bound by; another user what is ambient.
    own = bounding if me.uid == 0 else ambient
    return {
        "bounding": _names(bounding),
        "effective": _names(own),
        "permitted": _names(own),
        "inheritable": _names(ambient),
        "ambient": _names(ambient),
    }


def _names(bits: int) -> list[str]:
    return [f"CAP_{name}" for number, name in enumerate(capabilities.NAMES) if bits >> number & 1]


def _device_rules(spec: dict[str, Any]) -> list[dict[str, Any]]:
    if spec["privileged"]:
        return [{"allow": True, "access": "rwm"}]
    rules: list[dict[str, Any]] = [{"allow": False, "access": "rwm"}]
    rules += [{"allow": True, "type": "c", "major": major, "minor": minor, "access": "rwm"} for major, minor in _DEVICES]
    rules.append({"allow": True, "type": "c", "major": 136, "access": "rwm"})
    for one in spec["oci"].get("devices") or []:
        rules.append({"allow": True, "type": one["type"], "major": one["major"], "minor": one["minor"], "access": "rwm"})
    return rules


def _standard_mounts(spec: dict[str, Any]) -> list[dict[str, Any]]:
    quiet = ["nosuid", "noexec", "nodev"]
    closed = [] if spec["privileged"] else ["ro"]
    made: list[dict[str, Any]] = [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": quiet},
        {
            "destination": "/dev",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        },
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        },
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": quiet},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*quiet, *closed]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": [*quiet, "relatime", *closed]},
    ]
    if spec["namespaces"]["pid"] == "node":
        made[0] = {"destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind", *quiet]}
    return made


def _mount(entry: dict[str, Any]) -> dict[str, Any]:
    options = ["rbind", _PROPAGATION[entry.get("propagation", "private")], "nodev"]
    if entry.get("recursive_readonly"):
        options.append("rro")
    options.append("ro" if entry.get("readonly") else "rw")
    if entry.get("noexec"):
        options.append("noexec")
    return {"destination": entry["target"], "type": "bind", "source": entry["source"], "options": options}
