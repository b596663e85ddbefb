"""``python -m kubeling.etcdlite``: one member of the store, with etcd's flags."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys

from kubeling.daemon import main as daemon
from kubeling.etcdlite.config import from_args, make_parser

_SWITCH_SECONDS = 0.0005


def _settle(_: object) -> None:
    """What was loaded has no reference cycles and lives long: looking through 100,000 records again and again would only cost pauses.

    The log that it was loaded from is gone by now, and the pages that held it go back to the system.
    """
    gc.enable()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    with contextlib.suppress(AttributeError):  # only glibc has it, and needs it
        ctypes.CDLL(None).malloc_trim(0)


def main(argv: list[str] | None = None) -> int:
    """Parse flags and serve until stopped; the exit status."""
    args = daemon.parse(make_parser(), argv)
    try:
        config = from_args(args)
    except daemon.UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    from kubeling.etcdlite.server import run

    gc.disable()
    # Snapshots and backups are made in threads: the loop gets its turn back from them after this long.
    sys.setswitchinterval(_SWITCH_SECONDS)
    return daemon.run(args, run(config, ready=_settle))


if __name__ == "__main__":
    sys.exit(main())
