"""``python -m kubeling.etcdlite``: one member of the store, with etcd's flags."""

from __future__ import annotations

import sys

from kubeling.daemon import main as daemon
from kubeling.etcdlite.config import from_args, make_parser


def main(argv: list[str] | None = None) -> int:
    """Parse flags and serve until stopped; the exit status."""
    args = make_parser().parse_args(argv)
    try:
        config = from_args(args)
    except daemon.UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    from kubeling.etcdlite.server import run

    return daemon.run(args, run(config))


if __name__ == "__main__":
    sys.exit(main())
