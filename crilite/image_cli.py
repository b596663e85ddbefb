"""``python -m kubeling.crilite image load|ls|rm|pull|save``: the image store by hand. A running daemon sees the change at once."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from kubeling.crilite import archive, reference, registry_flags
from kubeling.crilite.config import Config
from kubeling.crilite.errors import CriError
from kubeling.crilite.images import ImageStore

if TYPE_CHECKING:
    from kubeling.crilite.registry import Progress

_REPORT_SECONDS = 0.5


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m kubeling.crilite image", description=__doc__, allow_abbrev=False)
    parser.add_argument("--root", type=Path, default=Config().root, help="the daemon's --root (default %(default)s)")
    verbs = parser.add_subparsers(dest="verb", required=True)
    load = verbs.add_parser("load", help="load the images of OCI or docker archives")
    load.add_argument("archive", nargs="+", type=Path)
    load.add_argument("--name", default="", help="what to call an image that the archive does not name")
    verbs.add_parser("ls", help="list images")
    remove = verbs.add_parser("rm", help="remove images with all their names")
    remove.add_argument("image", nargs="+")
    pull = verbs.add_parser("pull", help="fetch images from their registries")
    pull.add_argument("image", nargs="+")
    pull.add_argument("--authfile", type=Path, help="credentials, in the form of docker's config.json")
    registry_flags.add(pull)
    save = verbs.add_parser("save", help="write images to an archive that load and other tools read")
    save.add_argument("image", nargs="+")
    save.add_argument("--output", "-o", type=Path, required=True, help="the archive to write")
    args = parser.parse_args(argv)
    # What fails is said once, by the error at the end.
    logging.disable(logging.WARNING)
    try:
        registries = registry_flags.registries(args) if args.verb == "pull" else Config().registries
        return _run(args, ImageStore(args.root.absolute() / "images", registries))
    except (CriError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _run(args: argparse.Namespace, store: ImageStore) -> int:
    if args.verb == "load":
        for path in args.archive:
            for image_id, names in archive.load(store.content, path, args.name):
                print(f"loaded {', '.join(names) or image_id}")
    elif args.verb == "rm":
        for name in args.image:
            if store.find(name) is None:
                raise CriError(f"image {name!r} is not present")
            # The layers of running containers must stay: which those are, the records say.
            asyncio.run(store.remove(name, _used(args.root)))
            print(f"removed {name}")
    elif args.verb == "pull":
        for name in args.image:
            asyncio.run(_pull(store, name, args.authfile))
    elif args.verb == "save":
        from kubeling.crilite import export

        export.save(store, args.image, args.output)
        print(f"saved {', '.join(args.image)} to {args.output}")
    else:
        for image in store.all():
            for name in image.tags or (image.reference,):
                print(f"{name:50} {image.id.removeprefix('sha256:')[:12]} {image.size / 1e6:8.1f} MB")
    return 0


async def _pull(store: ImageStore, name: str, authfile: Path | None) -> None:
    from kubeling.crilite import authfile as credentials
    from kubeling.crilite.registry import Progress
    from kubeling.proto import cri_pb2

    auth = credentials.find(authfile, reference.parse(name)) if authfile else cri_pb2.AuthConfig()
    report = _Report(name)
    image = await store.pull(name, auth, Progress(report.changed))
    report.end()
    print(f"pulled {name} {image.id.removeprefix('sha256:')[:12]} {image.size / 1e6:.1f} MB")


class _Report:
    """Progress: one line that changes on a terminal, a line now and then elsewhere."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._live = sys.stdout.isatty()
        self._said = time.monotonic()
        self._open = False

    def changed(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._said < (0.1 if self._live else 10 * _REPORT_SECONDS):
            return
        self._said = now
        here, whole = sum(progress.here.values()), sum(progress.sizes.values())
        done = sum(1 for digest, size in progress.sizes.items() if progress.here.get(digest) == size)
        text = f"{self._name}: {here / 1e6:.1f} of {whole / 1e6:.1f} MB, {done} of {len(progress.sizes)} blobs"
        text += f", {progress.unpacked} layers unpacked"
        print(f"\r\x1b[K{text}" if self._live else text, end="" if self._live else "\n", flush=True)
        self._open = self._live

    def end(self) -> None:
        if self._open:
            print("\r\x1b[K", end="")


def _used(root: Path) -> set[str]:
    used = set()
    for path in (root.absolute() / "containers").glob("*/record.json"):
        with contextlib.suppress(OSError, ValueError):
            used.add(str(json.loads(path.read_bytes())["image_id"]))
    return used
