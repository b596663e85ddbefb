"""The compose files and the unit files say nothing that the daemons do not understand."""

from __future__ import annotations

import functools
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubeling.tests.deploy.support import DEPLOY

UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
ENVIRONMENT = {unit: ("worker.env" if "kubeling-worker.target" in unit.read_text() else "control-plane.env") for unit in UNITS}


@functools.cache
def flags(module: str) -> frozenset[str]:
    """The flags that `python -m module` takes."""
    told = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True).stdout
    return frozenset(re.findall(r"--[a-z][a-z-]*", told))


def check(words: list[str]) -> None:
    """`words` is a module and its flags."""
    module, *rest = words
    unknown = [word for word in rest if word.partition("=")[0] not in flags(module)]
    assert not unknown, f"{module} has no {unknown}"


def compose(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / name).read_text())
    return found


def services() -> dict[str, dict[str, Any]]:
    return {**compose("docker-compose.yml")["services"], **compose("docker-compose.loadbalancer.yml")["services"]}


def commands(service: dict[str, Any]) -> list[list[str]]:
    """The daemons that a service runs."""
    if "haproxy" in service.get("entrypoint", []):
        return []
    found: list[list[str]] = [[]]
    for word in shlex.split(service["command"]):
        if word == "--":
            found.append([])
        else:
            found[-1].append(word)
    return found


def test_every_flag_in_the_compose_files_is_one_of_its_daemon() -> None:
    checked = set()
    for name, service in services().items():
        if name == "setup":
            continue
        for words in commands(service):
            check(words)
            checked.add(words[0].removeprefix("kubeling."))
    assert checked >= {"etcdlite", "apiserver", "scheduler", "controllers", "dns", "crilite", "kubelet", "kubeproxy", "cloud"}


def test_the_compose_file_has_two_of_everything_and_three_of_the_store() -> None:
    names = list(services())
    count = {
        kind: sum(bool(re.fullmatch(rf"{kind}-\d", name)) for name in names)
        for kind in ("etcd", "apiserver", "scheduler", "controllers", "node")
    }
    assert count == {"etcd": 3, "apiserver": 2, "scheduler": 2, "controllers": 2, "node": 2}
    assert {name for name, service in services().items() if "healthcheck" not in service} == {"setup", "bootstrap"}


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_every_flag_in_a_unit_is_one_of_its_daemon_and_every_variable_is_in_the_environment_file(unit: Path) -> None:
    text = unit.read_text().replace("\\\n", " ")
    (line,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    python, dash_m, *words = shlex.split(line)
    assert (python, dash_m) == ("/opt/kubeling/bin/python", "-m")
    check(words)
    given = re.findall(r"^([A-Z_]+)=", (DEPLOY / "systemd" / ENVIRONMENT[unit]).read_text(), re.MULTILINE)
    assert set(re.findall(r"\$\{([A-Z_]+)\}", text)) <= set(given)


def test_systemd_understands_the_units(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("not installed: systemd-analyze")
    for source in (*UNITS, *(DEPLOY / "systemd").glob("*.target")):
        # What is installed on a real machine need not be on this one.
        text = re.sub(r"^(Exec\w+=)\S+", rf"\g<1>{sys.executable}", source.read_text(), flags=re.MULTILINE)
        (tmp_path / source.name).write_text(text)
    told = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, sorted(tmp_path.iterdir()))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (told.returncode, told.stderr) == (0, "")
