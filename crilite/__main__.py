"""``python -m kubeling.crilite``: flags, and the keeper, which comes up beside the daemon."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from kubeling.crilite import keeper_process, oci_tools, registry_flags
from kubeling.crilite.config import DEFAULT_ADDRESS, Config
from kubeling.daemon import main as daemon


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    defaults = Config()
    parser = daemon.parser("crilite", "The container runtime: CRI v1 over a Unix socket.")
    add = parser.add_argument
    add("--listen", default=DEFAULT_ADDRESS, help="where to serve CRI (default %(default)s)")
    add("--root", type=Path, default=defaults.root, help="images, writable layers, records (default %(default)s)")
    add("--state", type=Path, default=defaults.state, help="namespaces and pipes, may be volatile (default %(default)s)")
    add("--cgroup-root", default=defaults.cgroup_root, help="the cgroup above all others (default %(default)s)")
    add(
        "--handlers",
        default=",".join(defaults.handlers),
        help="runtime handlers to offer (default %(default)s); with `native` come crun, runc and runsc where they are installed",
    )
    add("--default-handler", default=defaults.default_handler, choices=("native", "process"))
    add("--stream-address", default=defaults.stream_address, help="where exec, attach and port-forward streams are served")
    add("--stream-port", type=int, default=0, help="its port (default: any free one)")
    add("--pod-address-range", default=defaults.pod_address_range, help="addresses of `process` pods (default %(default)s)")
    add("--pod-cidr", default="", help="addresses of `native` pods, until a kubelet sends others")
    add(
        "--cni-conf-dir",
        type=Path,
        metavar="DIR",
        help="connect pods by the CNI network configured here (default: the built-in one)",
    )
    add(
        "--cni-bin-dir",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help=f"where CNI plugins are; may be repeated (default {' and '.join(map(str, defaults.cni_bin_dirs))})",
    )
    add("--hide", action="append", default=[], metavar="PATH", help="do not show PATH in kubeling.local/host; may be repeated")
    add(
        "--pids-limit",
        type=int,
        default=defaults.pids_limit,
        help="processes of one container, 0 for no limit (default %(default)s)",
    )
    add("--image-policy", type=Path, metavar="FILE", help="which images must be signed, and by which keys")
    registry_flags.add(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    if argv is None:
        argv = sys.argv[1:]
    if argv[:1] == ["image"]:
        from kubeling.crilite.image_cli import main as image_main

        return image_main(argv[1:])
    args = _arguments(argv)
    handlers = tuple(filter(None, args.handlers.split(",")))
    if "native" in handlers:
        # They are in a pod what `native` is, made by somebody else.
        handlers = tuple(dict.fromkeys([*handlers, *oci_tools.installed()]))
    config = Config(
        listen=args.listen,
        root=args.root.absolute(),
        state=args.state.absolute(),
        cgroup_root=args.cgroup_root,
        handlers=handlers if args.default_handler in handlers else (*handlers, args.default_handler),
        default_handler=args.default_handler,
        stream_address=args.stream_address,
        stream_port=args.stream_port,
        pod_address_range=args.pod_address_range,
        pod_cidr=args.pod_cidr,
        cni_conf_dir=args.cni_conf_dir,
        cni_bin_dirs=tuple(args.cni_bin_dir) or Config().cni_bin_dirs,
        hide=tuple(os.path.abspath(path) for path in args.hide),
        pids_limit=args.pids_limit,
        image_policy=args.image_policy.absolute() if args.image_policy else None,
        registries=registry_flags.registries(args),
    )
    keeper = _start_keeper(config.state)

    # It comes up while this process is busy with its imports.
    from kubeling.crilite.server import run

    if keeper is not None:
        keeper.wait()
    return daemon.run(args, run(config))


def _start_keeper(state: Path) -> keeper_process.Start | None:
    """Start the keeper, if the last one is not there any more."""
    from kubeling.crilite.keeper_client import try_connect

    state.mkdir(parents=True, exist_ok=True, mode=0o711)
    there = try_connect(str(state))
    if there is not None:
        there.close()
        return None
    return keeper_process.Start(str(state))


if __name__ == "__main__":
    sys.exit(main())
