"""`kubeling up` as most people type it, read without typer.

typer and pydantic, which it reads values with, take 0.12 s of CPU to import: a tenth of a cold start, before anything of it has begun. So a line of nothing but
the flags below is read here. Everything else, mistakes and `--help` too, is left to :mod:`.cluster_verbs`, which describes all flags; both bring the
cluster up by :func:`bring_up`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kubeling.cluster.topology import ClusterSpec

DEFAULTS: dict[str, str | int | bool] = {
    "name": "default",
    "control_planes": 1,
    "workers": 1,
    "network": "netns",
    "wait": True,
}


def read(argv: Sequence[str]) -> dict[str, Any] | None:
    """The values of a line of `up`; None where it says anything that is not known here."""
    found: dict[str, Any] = {**DEFAULTS, "name": os.environ.get("KUBELING_NAME") or DEFAULTS["name"]}
    words = iter(argv[1:])
    if list(argv[:1]) != ["up"]:
        return None
    for word in words:
        flag, given, value = word.partition("=")
        if word in ("--wait", "--no-wait"):
            found["wait"] = word == "--wait"
            continue
        name = flag.removeprefix("--").replace("-", "_")
        if not flag.startswith("--") or flag != f"--{name.replace('_', '-')}" or name == "wait" or name not in DEFAULTS:
            return None
        text = value if given else next(words, "")
        if isinstance(DEFAULTS[name], int):
            if not (text.isascii() and text.isdigit()):
                return None
            found[name] = int(text)
        elif not text or text.startswith("-"):
            return None
        else:
            found[name] = text
    return found


def up(argv: Sequence[str]) -> int | None:
    """Run the line; the exit status, or None where it has to be read by typer."""
    values = read(argv)
    if values is None:
        return None
    from kubeling.cluster.state import ClusterError
    from kubeling.cluster.topology import ClusterSpec

    wait = values.pop("wait")
    try:
        bring_up(ClusterSpec(**values), wait=wait)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def bring_up(spec: ClusterSpec, *, wait: bool = True, merge: bool = True, **more: Any) -> None:
    """Bring the cluster up and say so, step by step. `more` goes to :func:`kubeling.cluster.launch.up`. Raises ClusterError."""
    began = time.monotonic()
    from kubeling.cluster import launch

    root = launch.up(spec, _show, wait=wait, merge=merge, **more)
    print(f"Cluster {spec.name!r} is {'up' if wait else 'starting'} after {time.monotonic() - began:.2f}s.", end=" ")
    if merge:
        print(f"kubectl uses it now (context kubeling-{spec.name}).")
    else:
        print(f"Its kubeconfig: {root / 'kubeconfig' / 'admin.conf'}")


def _show(step: dict[str, Any]) -> None:
    print(f" {step.get('mark', '✓')} {step['step']} {step['seconds']:.2f}s", flush=True)
