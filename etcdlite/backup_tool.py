"""``python -m kubeling.etcdlite.backup_tool save|status|restore``: backups of a store, taken and brought back. Also `kubeling etcd snapshot`."""

from __future__ import annotations

import argparse
import getpass
import hashlib
import json
import os
import sys
from pathlib import Path

from kubeling.etcdlite import backup
from kubeling.etcdlite.backup import BackupError
from kubeling.etcdlite.journal import sync_directory
from kubeling.etcdlite.mvcc import Store
from kubeling.etcdlite.snapshot import SnapshotDirectory, encode

#: What a restored member believes to have applied. The same for all members of a new cluster, and beyond where an empty one begins.
_INDEX, _TERM = 2, 1
_MAX_MESSAGE = 64 << 20


def make_parser() -> argparse.ArgumentParser:
    """The flags; those of restore are etcdutl's."""
    flags = argparse.ArgumentParser(prog="snapshot", description="Backups of a store, in etcd's own format.")
    verbs = flags.add_subparsers(dest="verb", required=True)
    save = verbs.add_parser("save", help="take a backup from a running member")
    save.add_argument("file", type=Path)
    save.add_argument("--endpoints", default="127.0.0.1:2379", metavar="HOST:PORT", help="one member's client address")
    for name, what in (("cacert", "whom to believe"), ("cert", "client certificate"), ("key", "and its key")):
        save.add_argument(f"--{name}", type=Path, metavar="FILE", help=what)
    save.add_argument(
        "--user",
        default=os.environ.get("ETCDCTL_USER", ""),
        metavar="NAME[:PASSWORD]",
        help="where auth is enabled: a user with the role root (default $ETCDCTL_USER; asks for a password that is not given)",
    )
    status = verbs.add_parser("status", help="what a backup holds")
    status.add_argument("file", type=Path)
    status.add_argument("-w", "--write-out", choices=("simple", "json"), default="simple")
    restore = verbs.add_parser(
        "restore", help="make a member's data directory of a backup; do it for each member of the new cluster"
    )
    restore.add_argument("file", type=Path)
    restore.add_argument("--name", default="default", help="the member's name")
    restore.add_argument("--data-dir", type=Path, metavar="DIR", help="must not be there yet (default NAME.etcd)")
    restore.add_argument("--skip-hash-check", action="store_true", help="for a database copied from a data directory of etcd")
    return flags


def main(argv: list[str] | None = None) -> int:
    """The exit status; errors name the file and the remedy."""
    args = make_parser().parse_args(argv)
    try:
        if args.verb == "save":
            save(args)
        elif args.verb == "status":
            show(args.file, args.write_out)
        else:
            restore(args.file, args.data_dir or Path(f"{args.name}.etcd"), skip_hash=args.skip_hash_check)
    except BackupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error.filename or args.file}: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0


def save(args: argparse.Namespace) -> None:
    """Write the backup beside its name first: a file of that name is a whole one."""
    import grpc

    from kubeling.proto import etcd_pb2 as pb
    from kubeling.proto import etcd_pb2_grpc as rpc

    address = args.endpoints.split(",")[0]
    host = address.removeprefix("http://").removeprefix("https://")
    options = [("grpc.max_receive_message_length", _MAX_MESSAGE)]
    if args.cacert or args.cert or address.startswith("https://"):
        read = [path.read_bytes() if path else None for path in (args.cacert, args.key, args.cert)]
        channel = grpc.secure_channel(host, grpc.ssl_channel_credentials(*read), options)
    else:
        channel = grpc.insecure_channel(host, options)
    unfinished = args.file.with_name(args.file.name + ".part")
    try:
        with channel, open(unfinished, "wb") as file:
            metadata = []
            if args.user:
                name, colon, password = args.user.partition(":")
                request = pb.AuthenticateRequest(name=name, password=password if colon else getpass.getpass())
                metadata = [("token", rpc.AuthStub(channel).Authenticate(request).token)]  # type: ignore[no-untyped-call]
            stub = rpc.MaintenanceStub(channel)  # type: ignore[no-untyped-call]
            for piece in stub.Snapshot(pb.SnapshotRequest(), metadata=metadata):
                file.write(piece.blob)
            file.flush()
            os.fsync(file.fileno())
        backup.check(unfinished.read_bytes(), str(args.file))
        os.rename(unfinished, args.file)
        sync_directory(args.file.resolve().parent)
    except grpc.RpcError as error:
        raise BackupError(f"no backup from {host}: {error.details()}") from None
    finally:
        unfinished.unlink(missing_ok=True)
    print(f"Snapshot saved at {args.file}")


def show(path: Path, form: str) -> None:
    """As ``etcdctl snapshot status`` prints it."""
    data = path.read_bytes()
    found = backup.status(backup.check(data, str(path), skip_hash=len(data) % 512 == 0), str(path))
    if form == "json":
        said = {"hash": found.hash, "revision": found.revision, "totalKey": found.keys, "totalSize": found.size}
        print(json.dumps(said, separators=(",", ":")))
    else:
        print(f"{found.hash:x}, {found.revision}, {found.keys}, {found.size} B")


def restore(path: Path, directory: Path, *, skip_hash: bool = False) -> None:
    """Make `directory`; a member started on it has the backup's keys and revision. Nothing is left of a restore that failed."""
    if directory.exists() and any(directory.iterdir()):
        raise BackupError(f"data-dir {directory} is not empty: give another --data-dir, or remove it if it is not needed")
    meta, encoded = backup.decode(backup.check(path.read_bytes(), str(path), skip_hash=skip_hash), str(path))
    store = Store()
    store.restore(meta.revision, meta.compact_revision, encoded, meta.subs)
    meta.index, meta.term = _INDEX, _TERM
    snapshots = directory / "snap"
    snapshots.mkdir(parents=True, mode=0o700)
    SnapshotDirectory(snapshots).save(_INDEX, encode(meta, store.records()))
    sync_directory(directory)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    print(f"restored revision {store.revision} with {len(store)} keys from {path} (sha256 {digest}…) into {directory}")


if __name__ == "__main__":
    sys.exit(main())
