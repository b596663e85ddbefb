"""`python -m kubeling.cluster.identities --root DIR`: the certificates and kubeconfigs that the cluster's nodes lack, as a job of the supervisor's.

It needs a cryptographic library that the supervisor itself does not load, and ends when it is done.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from kubeling.cluster import launch, state


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m kubeling.cluster.identities", description="makes missing certificates")
    parser.add_argument("--root", type=Path, required=True)
    args = parser.parse_args(argv)
    found = state.load(args.root)
    if found is None:
        print(f"there is no cluster in {args.root}", file=sys.stderr)
        return 1
    launch.make_identities(found.topology(args.root))
    return 0


if __name__ == "__main__":
    sys.exit(main())
