"""The flags about registries, which the daemon and ``crilite image pull`` share."""

from __future__ import annotations

import argparse
from pathlib import Path

from kubeling.crilite.endpoints import Registries

_DEFAULTS = Registries()


def add(parser: argparse.ArgumentParser) -> None:
    """Add them to `parser`."""
    flag = parser.add_argument
    flag(
        "--insecure-registry",
        action="append",
        default=[],
        metavar="HOST",
        help="do not check the certificate of HOST, or speak to it without TLS where it has none; may be repeated",
    )
    flag(
        "--registry-mirror",
        action="append",
        default=[],
        type=_mirror,
        metavar="REGISTRY=URL",
        help="ask URL before REGISTRY (* for any); may be repeated",
    )
    flag("--registry-config-dir", type=Path, metavar="DIR", help="where DIR/REGISTRY/hosts.toml says how to reach each registry")
    flag(
        "--image-pull-progress-timeout",
        type=float,
        default=_DEFAULTS.idle,
        metavar="SECONDS",
        help="how long a registry may send nothing (default %(default)s)",
    )
    flag(
        "--max-concurrent-downloads",
        type=int,
        default=_DEFAULTS.parallel,
        help="layers of one image fetched at a time (default %(default)s)",
    )


def _mirror(text: str) -> str:
    registry, equals, url = text.partition("=")
    if not registry or not equals or not url:
        raise argparse.ArgumentTypeError(f"{text!r} is not REGISTRY=URL")
    return text


def registries(args: argparse.Namespace) -> Registries:
    """What they say."""
    return Registries(
        insecure=tuple(args.insecure_registry),
        mirrors=tuple(args.registry_mirror),
        config_dir=args.registry_config_dir,
        idle=args.image_pull_progress_timeout,
        parallel=max(1, args.max_concurrent_downloads),
    )
