"""The process behind ``--uplink user``: becomes slirp4netns, which gives the switch an interface. It is kept alive like any daemon."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from kubeling.cluster import uplink

#: The largest that it takes: fewer packets for the same bytes.
_MTU = 65520


def main(argv: Sequence[str] | None = None) -> int:
    """Does not return where all is well."""
    flags = argparse.ArgumentParser(prog="python -m kubeling.cluster.slirp", description=(__doc__ or "").splitlines()[0])
    flags.add_argument("--switch-fd", type=int, required=True, help="the switch's network namespace")
    flags.add_argument("--ipv6", action="store_true")
    flags.add_argument("--host-loopback", action="store_true", help="the host's 127.0.0.1 is reached too")
    args = flags.parse_args(argv)
    os.set_inheritable(args.switch_fd, True)
    # Without rights and with few system calls once it runs: it reads what pods send.
    words = [uplink.PROGRAM, "--configure", f"--mtu={_MTU}", "--enable-sandbox", "--enable-seccomp", "--netns-type=path"]
    words += [] if args.host_loopback else ["--disable-host-loopback"]
    words += ["--enable-ipv6"] if args.ipv6 else []
    try:
        os.execvp(uplink.PROGRAM, [*words, f"/proc/self/fd/{args.switch_fd}", uplink.LINK])
    except OSError as error:
        print(f"{uplink.PROGRAM}: {error.strerror}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
