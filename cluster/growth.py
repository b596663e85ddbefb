"""Adding and removing nodes of a running cluster, and loading images into it.

The supervisor makes and removes nodes, see :mod:`machines`. A node that is removed also goes from the API.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from kubeling.cluster import state
from kubeling.cluster.control import Control
from kubeling.cluster.state import ClusterError


def add_node(name: str) -> str:
    """Add a worker to the cluster `name` and return its name; it is booted but not yet Ready."""
    with Control(state.root_of(name)) as control:
        return str(control.call("node-add")["node"])


def remove_node(name: str, node: str) -> None:
    """Take a worker out of the cluster `name`: its processes, its disk, and its Node object, upon which its pods are made elsewhere."""
    root = state.root_of(name)
    with Control(root) as control:
        control.call("node-remove", node=node)
    _forget(root, node)


def _forget(root: Path, node: str) -> None:
    import asyncio

    from kubeling.api import resources
    from kubeling.api.errors import ApiError
    from kubeling.client import kubeconfig
    from kubeling.client.rest import Client, ConnectionFailed

    async def forget() -> None:
        async with Client(kubeconfig.load(root / "kubeconfig" / "admin.conf")) as client:
            await client.delete(resources.NODES, node)

    try:
        asyncio.run(forget())
    except ApiError as error:
        if error.reason != "NotFound":
            raise ClusterError(
                f"{node} is gone, but its Node object could not be deleted ({error}): `kubectl delete node {node}`"
            ) from error
    except ConnectionFailed as error:
        raise ClusterError(
            f"{node} is gone, but its Node object could not be deleted since the API does not answer: `kubectl delete node {node}` later"
        ) from error


def images(name: str, words: Sequence[str], nodes: Sequence[str], most: int = 0) -> Iterator[str]:
    """Have the runtimes of `nodes` (of all workers where none is named, of at most `most` if that is not 0) do what `words` say, in the words of
    `python -m kubeling.crilite image`. Yields what they print, a line at a time."""
    with Control(state.root_of(name), timeout=3600) as control:
        for message in control.messages("image", words=list(words), nodes=list(nodes), most=most):
            if "line" in message:
                yield str(message["line"])
