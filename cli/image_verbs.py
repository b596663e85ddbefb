"""`image load|ls|rm|pull|save`: what images the nodes of a cluster have."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from kubeling.cli.cluster_verbs import DEFAULT, Name, plain_errors

Nodes = Annotated[list[str] | None, typer.Option("--node", help="Only this node; may be repeated.")]
Images = Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Names of images.")]


def _do(name: str, words: Sequence[str], nodes: list[str] | None, most: int = 0) -> None:
    from kubeling.cluster import growth

    with plain_errors():
        for line in growth.images(name, words, nodes or [], most):
            print(line, flush=True)


def load(
    archives: Annotated[list[Path], typer.Argument(metavar="ARCHIVE...", help="OCI or docker archives.")],
    name: Name = DEFAULT,
    node: Nodes = None,
    image: Annotated[str, typer.Option("--as", help="What to call an image that the archive does not name.")] = "",
) -> None:
    """Load images into the nodes' runtimes."""
    from kubeling.cluster.state import ClusterError

    with plain_errors():
        for archive in archives:
            if not archive.is_file():
                raise ClusterError(f"there is no file {archive}")
    called = [f"--name={image}"] if image else []
    _do(name, ["load", *called, *(str(path.absolute()) for path in archives)], node)


def ls(name: Name = DEFAULT, node: Nodes = None) -> None:
    """List the images of the nodes."""
    _do(name, ["ls"], node)


def rm(images: Images, name: Name = DEFAULT, node: Nodes = None) -> None:
    """Remove images from the nodes; a container that uses one keeps its files."""
    _do(name, ["rm", *images], node)


def pull(
    images: Images,
    name: Name = DEFAULT,
    node: Nodes = None,
    authfile: Annotated[
        Path | None, typer.Option(help="Credentials, in docker's form (default: docker's own file, if it is there).")
    ] = None,
    insecure_registry: Annotated[
        list[str] | None, typer.Option(metavar="HOST", help="Do not check the certificate of HOST; may be repeated.")
    ] = None,
) -> None:
    """Have the nodes fetch images; the registry is reached from this machine."""
    found = authfile or _docker_file()
    words = ["pull", *(f"--insecure-registry={host}" for host in insecure_registry or [])]
    _do(name, [*words, *([f"--authfile={found.absolute()}"] if found else []), *images], node)


def _docker_file() -> Path | None:
    path = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
    return path if path.is_file() else None


def save(
    images: Images,
    output: Annotated[Path, typer.Option("--output", "-o", help="The archive to write.")],
    name: Name = DEFAULT,
    node: Nodes = None,
) -> None:
    """Write images of a node (the first, where none is named) to an archive that other tools can read."""
    _do(name, ["save", f"--output={output.absolute()}", *images], node, most=1)


def register(app: typer.Typer) -> None:
    """Add `image` to `app`."""
    group = typer.Typer(help="The images of a cluster.", no_args_is_help=True)
    for verb in (load, ls, rm, pull, save):
        group.command(verb.__name__)(verb)
    app.add_typer(group, name="image", rich_help_panel="Clusters")
