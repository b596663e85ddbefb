"""``python -m kubeling.etcdlite``: one member of the store, with etcd's flags."""

from __future__ import annotations

import gc
import sys

from kubeling.daemon import main as daemon
from kubeling.etcdlite.config import from_args, make_parser


def _spare_the_collector(_: object) -> None:
    """What was loaded has no reference cycles and lives long: looking through 100,000 records again and again would only cost pauses."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def main(argv: list[str] | None = None) -> int:
    """Parse flags and serve until stopped; the exit status."""
    args = make_parser().parse_args(argv)
    try:
        config = from_args(args)
    except daemon.UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    from kubeling.etcdlite.server import run

    return daemon.run(args, run(config, ready=_spare_the_collector))


if __name__ == "__main__":
    sys.exit(main())
