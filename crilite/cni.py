"""The Container Network Interface, specification 1.0: network configurations from files, and plugins that are run.

A plugin is a program: what to do is in its environment (``CNI_COMMAND``, ``CNI_NETNS`` …), its configuration on standard input, its result or error as
JSON on standard output. A configuration list is a chain: ADD and CHECK go through it in order, each plugin being given the result of the one before,
DEL in reverse.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubeling.crilite.errors import CriError

_SECONDS = 120.0
_MAX_OUTPUT = 4 << 20
_SUFFIXES = (".conflist", ".conf", ".json")
#: From these versions on the specification has CHECK, and GC with STATUS.
_CHECKS, _COLLECTS = (0, 4), (1, 1)


class CniError(CriError):
    """A plugin says no, cannot be run, or talks nonsense."""


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """A configuration list."""

    name: str
    version: str
    plugins: tuple[Mapping[str, Any], ...]
    disable_check: bool = False
    disable_gc: bool = False

    @property
    def number(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.version.split(".") if part.isdigit())

    @property
    def has_check(self) -> bool:
        return self.number >= _CHECKS and not self.disable_check

    @property
    def has_gc(self) -> bool:
        return self.number >= _COLLECTS and not self.disable_gc

    @property
    def has_status(self) -> bool:
        return self.number >= _COLLECTS

    def raw(self) -> dict[str, Any]:
        """As :func:`parse` reads it."""
        return {
            "name": self.name,
            "cniVersion": self.version,
            "disableCheck": self.disable_check,
            "disableGC": self.disable_gc,
            "plugins": [dict(one) for one in self.plugins],
        }


def parse(body: Any) -> NetworkConfig:
    """From the JSON of a list, or of a single plugin. A ValueError says what is wrong."""
    if not isinstance(body, dict):
        raise ValueError("not an object")
    plugins = body.get("plugins", [body])
    name = body.get("name")
    if not isinstance(name, str) or not name or "/" in name:
        raise ValueError("a network needs a name")
    if not isinstance(plugins, list) or not plugins:
        raise ValueError("no plugins")
    for one in plugins:
        kind = one.get("type") if isinstance(one, dict) else None
        if not isinstance(kind, str) or not kind or "/" in kind:
            raise ValueError(f"a plugin's type must be the name of a program, not {kind!r}")
    return NetworkConfig(
        name,
        str(body.get("cniVersion") or "0.2.0"),
        tuple(plugins),
        _truth(body.get("disableCheck")),
        _truth(body.get("disableGC")),
    )


def _truth(value: Any) -> bool:
    return value is True or (isinstance(value, str) and value.lower() == "true")


def first(folder: Path) -> NetworkConfig:
    """The network of the first file in `folder` that has one, by name, as every runtime takes it. A CniError says why there is none."""
    wrong = []
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(_SUFFIXES))
    except OSError as error:
        raise CniError(f"no CNI configuration: {folder}: {error.strerror}") from error
    for name in names:
        try:
            body = json.loads((folder / name).read_bytes())
            if not name.endswith(".conflist") and "plugins" in body:
                raise ValueError("a list must be called .conflist")
            return parse(body)
        except (OSError, ValueError, TypeError) as error:
            wrong.append(f"{name}: {error}")
    raise CniError(f"no CNI configuration in {folder}" + (f" can be used: {'; '.join(wrong)}" if wrong else ""))


class Plugins:
    """The programs in `folders`."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders

    def path(self, kind: str) -> str:
        for folder in self._folders:
            candidate = folder / kind
            if os.access(candidate, os.X_OK) and candidate.is_file():
                return str(candidate)
        raise CniError(f"there is no CNI plugin {kind!r} in {', '.join(map(str, self._folders))}")

    def run(self, kind: str, command: str, environment: Mapping[str, str], config: Mapping[str, Any]) -> Any:
        """What the plugin answers; None if that is nothing."""
        env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("CNI_")},
            "CNI_COMMAND": command,
            "CNI_PATH": ":".join(map(str, self._folders)),
            **environment,
        }
        try:
            done = subprocess.run(
                [self.path(kind)],
                input=json.dumps(config).encode(),
                capture_output=True,
                env=env,
                cwd="/",
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise CniError(f"CNI plugin {kind} has not ended its {command} after {_SECONDS:.0f} s") from error
        except OSError as error:
            raise CniError(f"CNI plugin {kind} cannot be run: {error}") from error
        if done.returncode != 0:
            raise CniError(f"CNI plugin {kind} {command}: {_reason(done)}")
        if not done.stdout.strip():
            return None
        if len(done.stdout) > _MAX_OUTPUT:
            raise CniError(f"CNI plugin {kind} {command}: its answer is too long")
        try:
            return json.loads(done.stdout)
        except ValueError as error:
            raise CniError(f"CNI plugin {kind} {command}: it answers no JSON: {error}") from error

    def versions(self, kind: str) -> list[str]:
        """The versions of the specification that a plugin knows."""
        answer = self.run(kind, "VERSION", {}, {"cniVersion": "1.0.0"})
        if not isinstance(answer, dict):
            raise CniError(f"CNI plugin {kind} VERSION: it answers nothing")
        return [str(one) for one in answer.get("supportedVersions") or []]


def _reason(done: subprocess.CompletedProcess[bytes]) -> str:
    try:
        body = json.loads(done.stdout)
        return f"{body['msg']}{': ' + body['details'] if body.get('details') else ''} (code {body['code']})"
    except (ValueError, KeyError, TypeError):
        words = done.stderr or done.stdout
        return f"exit status {done.returncode}: {words.decode(errors='replace').strip()[:1000] or 'nothing said'}"


def config_for(
    network: NetworkConfig, plugin: Mapping[str, Any], capabilities: Mapping[str, Any], previous: Any = None
) -> dict[str, Any]:
    """What is written to a plugin's standard input: its own configuration, what it can be told of `capabilities`, and the result so far."""
    made = {key: value for key, value in plugin.items() if key != "capabilities"}
    made |= {"name": network.name, "cniVersion": network.version}
    can = plugin.get("capabilities") or {}
    told = {name: value for name, value in capabilities.items() if can.get(name) is True}
    if told:
        made["runtimeConfig"] = told
    if previous is not None:
        made["prevResult"] = previous
    return made


def addresses(result: Any, link: str) -> list[str]:
    """The pod's addresses in a result of any version: those of `link`, or of no link in particular."""
    if not isinstance(result, dict):
        return []
    found = []
    links = result.get("interfaces") or []
    for one in result.get("ips") or []:
        index = one.get("interface")
        if isinstance(index, int) and 0 <= index < len(links):
            owner = links[index]
            if not owner.get("sandbox") or owner.get("name") != link:
                continue
        found.append(str(one["address"]).partition("/")[0])
    for key in ("ip4", "ip6"):
        if result.get(key):
            found.append(str(result[key]["ip"]).partition("/")[0])
    return found
