"""From flags to a running daemon: the part of a `__main__` that all daemons share."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from kubeling.daemon import log
from kubeling.daemon.tasks import run_until


class UsageError(Exception):
    """A daemon cannot start as it was asked to; the text is one line that says what is wrong and how to mend it."""


def parser(name: str, description: str) -> argparse.ArgumentParser:
    """An argument parser with the flags that every daemon takes."""
    made = argparse.ArgumentParser(prog=f"python -m kubeling.{name}", description=description, allow_abbrev=False)
    made.add_argument("--v", type=int, default=0, metavar="LEVEL", help="log verbosity; 4 and above shows debug lines")
    made.add_argument("--logging-format", choices=("text", "json"), default="text")
    return made


def parse(
    made: argparse.ArgumentParser, argv: Sequence[str] | None, check: Callable[[argparse.Namespace], object] = lambda _: None
) -> argparse.Namespace:
    """Read a line of flags. Where `--check-flags` is among them, none is missed, `check` is asked too (UsageError for what makes no sense), and the process
    ends: who puts a line together for a daemon learns what is wrong with it before the daemon is needed."""
    made.add_argument("--check-flags", action="store_true", help="only say whether the flags make sense")
    words = sys.argv[1:] if argv is None else list(argv)
    if "--check-flags" not in words:
        return made.parse_args(words)
    for each in made._actions:
        each.required = False
    found = made.parse_args(words)
    try:
        check(found)
    except UsageError as error:
        made.error(str(error))
    raise SystemExit(0)


def boolean(text: str) -> bool:
    """For ``type=``: the spellings of a boolean that upstream's flags take."""
    lowered = text.lower()
    if lowered in ("true", "t", "1", "yes"):
        return True
    if lowered in ("false", "f", "0", "no"):
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is not a boolean: use true or false")


def run(args: argparse.Namespace, work: Coroutine[Any, Any, None]) -> int:
    """Set up logging, run `work` until it ends or SIGTERM/SIGINT arrives (then it is cancelled and may clean up), and return the exit status."""
    log.configure(args.v, args.logging_format)
    _rule_out("sniffio")

    async def supervise() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await run_until(stop, work)

    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(supervise())
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Exception:
        log.get_logger("daemon").exception("the daemon failed")
        return 1
    return 0


def _rule_out(module: str) -> None:
    """Where `module` is not installed, remember that: httpcore tries to import it four times a request, a fifth of what a request costs its client."""
    if module not in sys.modules and importlib.util.find_spec(module) is None:
        sys.modules[module] = None  # type: ignore[assignment]
