"""``python -m kubeling.crilite image load|ls|rm``: the image store by hand. A running daemon sees the change at once."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
from pathlib import Path

from kubeling.crilite import archive
from kubeling.crilite.config import Config
from kubeling.crilite.errors import CriError
from kubeling.crilite.images import ImageStore


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
    args = parser.parse_args(argv)
    try:
        return _run(args, ImageStore(args.root.absolute() / "images"))
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
    else:
        for image in store.all():
            for name in image.tags or (image.reference,):
                print(f"{name:50} {image.id.removeprefix('sha256:')[:12]} {image.size / 1e6:8.1f} MB")
    return 0


def _used(root: Path) -> set[str]:
    used = set()
    for path in (root.absolute() / "containers").glob("*/record.json"):
        with contextlib.suppress(OSError, ValueError):
            used.add(str(json.loads(path.read_bytes())["image_id"]))
    return used
