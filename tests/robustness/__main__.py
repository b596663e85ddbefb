"""``python -m tests.robustness``: run scenarios against a store in namespaces of their own, or look at a kept history again.

Exit codes: 0 nothing found, 1 a promise was broken, 2 the run itself failed, 77 not possible here.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import traceback
from pathlib import Path

from . import sandbox
from .broken import WAYS as BROKEN_WAYS


def main(arguments: list[str] | None = None) -> int:
    flags = argparse.ArgumentParser(prog="python -m tests.robustness", description=__doc__)
    verbs = flags.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", help="one scenario")
    run.add_argument("scenario")
    run.add_argument("--store", choices=("etcdlite", "etcd"), default="etcdlite")
    run.add_argument("--seed", default="", help="any text (default: a new one, which is printed)")
    run.add_argument("--seconds", type=float, default=5.0, help="how long the traffic goes on")
    run.add_argument("--directory", default="", help="where data, logs and the history of a failed run go (default: a new one)")
    run.add_argument(
        "--break", dest="broken", choices=("", *BROKEN_WAYS), default="", help="make the store lie, to see that it is found out"
    )
    run.add_argument("--faults", default="", metavar="NAME,…", help="of the faults that the scenario chains only these")
    many = verbs.add_parser("all", help="all scenarios in turn, with seeds out of one seed, until the time is over")
    many.add_argument("--store", choices=("etcdlite", "etcd"), default="etcdlite")
    many.add_argument("--seed", default="", help="any text (default: a new one, which is printed)")
    many.add_argument("--seconds", type=float, default=600.0, help="when no new run is begun any more")
    many.add_argument("--each", type=float, default=20.0, help="how long the traffic of one run goes on")
    many.add_argument("--only", default="", metavar="NAME,…", help="these scenarios (default: all)")
    many.add_argument("--directory", default="", help="where failed runs are kept (default: a new one)")
    check = verbs.add_parser("check", help="judge a kept history again")
    check.add_argument("history", type=Path)
    args = flags.parse_args(arguments)
    if args.verb == "check":
        return _check(args.history)
    if args.verb == "all":
        from .long import run_all

        return run_all(args)
    from .scenarios import SCENARIOS

    if args.scenario not in SCENARIOS:
        flags.error(f"no scenario {args.scenario}; there are {', '.join(sorted(SCENARIOS))}")
    entry = SCENARIOS[args.scenario]
    if reason := sandbox.unavailable(args.store, disk=entry.disk, clock=entry.clock):
        print(f"skipped: {reason}")
        return sandbox.SKIPPED
    seed = args.seed or str(random.SystemRandom().randrange(1 << 32))
    directory = Path(args.directory or tempfile.mkdtemp(prefix="robustness-")).absolute()
    directory.mkdir(parents=True, exist_ok=True)
    sandbox.enter()
    return asyncio.run(_run(args, seed, directory))


async def _run(args: argparse.Namespace, seed: str, directory: Path) -> int:
    from .known import sort
    from .report import report
    from .run import Run
    from .scenarios import SCENARIOS

    name, store = args.scenario, args.store
    run = Run(store, seed, args.seconds, directory, args.broken)
    run.only = set(filter(None, args.faults.split(",")))
    try:
        await SCENARIOS[name].script(run)
        verdict, violations = await run.finish()
    except Exception:
        traceback.print_exc()
        run.history.save(directory / "history.jsonl")
        print(f"BROKEN (seed {seed}): the run of {name} did not get to its end; what there is: {directory}")
        return sandbox.BROKEN
    finally:
        await run.close()
    violations, known = sort(store, run.history, violations)
    print(report(f"{name} on {store}, seed {seed}", seed, run.history, verdict, violations, known, directory))
    return sandbox.VIOLATED if violations else sandbox.PASSED


def _check(path: Path) -> int:
    from .history import History
    from .report import summary
    from .validate import validate

    history = History.load(path)
    verdict, violations = validate(history)
    print(summary(str(path), history, verdict))
    for one in violations:
        print(f"VIOLATED: {one}")
    return sandbox.VIOLATED if violations else sandbox.PASSED


if __name__ == "__main__":
    sys.exit(main())
