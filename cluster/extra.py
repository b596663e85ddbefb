"""`--extra-config COMPONENT.FLAG=VALUE`: what daemons are told besides what the cluster itself tells them.

It comes last on their lines, so that it wins where both say something; a flag that may be given several times has it besides. Files that flags name are
copied into the cluster's folder at `up`: what happens to the originals afterwards is of no consequence, and nodes that are added later are the same.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from kubeling.cluster.topology import Layout

#: Component → the daemon of ours. The names are those of minikube's flag.
COMPONENTS = {
    "apiserver": "apiserver",
    "cloud-controller-manager": "cloud",
    "controller-manager": "controllers",
    "dns": "dns",
    "etcd": "etcdlite",
    "proxy": "kubeproxy",
    "scheduler": "scheduler",
}
#: By their end flags are known whose value is a file.
_FILES = ("file", "config")
_NO_FILES = frozenset({"runtime-config"})


class ExtraConfigError(ValueError):
    """A word for `--extra-config` that cannot be meant; the text says what and why."""


def parse(words: Sequence[str]) -> tuple[str, ...]:
    """The words, their files by absolute paths. Raises ExtraConfigError."""
    return tuple(_word(each) for each in words)


def _word(word: str) -> str:
    place, equals, value = word.partition("=")
    component, dot, flag = place.partition(".")
    flag = flag.lstrip("-")
    if not equals or not dot or not flag:
        raise ExtraConfigError(f"{word!r}: write COMPONENT.FLAG=VALUE, such as apiserver.runtime-config=api/alpha=true")
    if component in ("kubelet", "crilite"):
        raise ExtraConfigError(f"{word!r}: what nodes are like is said in a file, with --node-config")
    if component not in COMPONENTS:
        raise ExtraConfigError(f"{word!r}: there is no component {component!r}; there are {', '.join(COMPONENTS)}")
    if _is_file(flag):
        path = Path(value).absolute()
        if not path.is_file():
            raise ExtraConfigError(f"{word!r}: there is no file {path}")
        value = str(path)
    return f"{component}.{flag}={value}"


def _is_file(flag: str) -> bool:
    return flag.endswith(_FILES) and flag not in _NO_FILES


def flags(words: Sequence[str], daemon: str, layout: Layout) -> tuple[str, ...]:
    """The flags of one daemon, with the files where :func:`copy` puts them."""
    return tuple(
        f"--{flag}={_kept(layout, number) if _is_file(flag) else value}"
        for number, component, flag, value in _parts(words)
        if COMPONENTS[component] == daemon
    )


def copy(words: Sequence[str], layout: Layout) -> None:
    """Bring the files into the cluster's folder."""
    import shutil

    for number, _, flag, value in _parts(words):
        if _is_file(flag):
            layout.extra.mkdir(mode=0o700, exist_ok=True)
            shutil.copyfile(value, _kept(layout, number))


def check(words: Sequence[str], environment: Mapping[str, str]) -> None:
    """Ask the daemons whether they understand it: one that refuses its flags would not run at all. Raises ExtraConfigError."""
    of: dict[str, list[str]] = {}
    for _, component, flag, value in _parts(words):
        of.setdefault(component, []).append(f"--{flag}={value}")
    for component, given in of.items():
        problem = ask(COMPONENTS[component], given, environment)
        if problem:
            raise ExtraConfigError(f"{component}: {problem}")


def ask(daemon: str, given: Sequence[str], environment: Mapping[str, str]) -> str:
    """What a daemon has against flags; empty where it has nothing."""
    import subprocess

    argv = [sys.executable, "-P", "-m", f"kubeling.{daemon}", "--check-flags", *given]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=dict(environment))
    if done.returncode == 0:
        return ""
    said = done.stderr.strip().rpartition("\n")[2] or f"exit status {done.returncode}"
    return said.partition("error: ")[2] or said


def _parts(words: Sequence[str]) -> Iterator[tuple[int, str, str, str]]:
    """(its number, component, flag, value) of each."""
    for number, word in enumerate(words):
        place, _, value = word.partition("=")
        component, _, flag = place.partition(".")
        yield number, component, flag, value


def _kept(layout: Layout, number: int) -> Path:
    return layout.extra / str(number)
