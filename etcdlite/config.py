"""How a member is told what to be: etcd's flags, checked."""

from __future__ import annotations

import argparse
import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from kubeling.daemon.main import UsageError, boolean, parser
from kubeling.etcdlite.durations import duration

DEFAULT_PEER_URL = "http://localhost:2380"
DEFAULT_QUOTA = 2 << 30
DEFAULT_MAX_REQUEST = 1536 << 10
#: Flags of etcd's that scripts give, and that mean nothing here: they are taken and have no effect.
_OF_ETCD_ONLY = (
    "logger",
    "log-level",
    "log-outputs",
    "snapshot-count",
    "max-snapshots",
    "max-wals",
    "pre-vote",
    "enable-v2",
    "enable-pprof",
    "metrics",
    "initial-election-tick-advance",
    "backend-batch-interval",
    "backend-batch-limit",
    "experimental-initial-corrupt-check",
)


@dataclass(frozen=True, slots=True)
class TLS:
    """Files of one side's TLS: own certificate and key, and the CA that the other side's certificate has to come from."""

    cert: str = ""
    key: str = ""
    ca: str = ""
    client_auth: bool = False

    @property
    def enabled(self) -> bool:
        return bool(self.cert)


@dataclass(frozen=True, slots=True)
class Peer:
    """A member of the cluster; `id` is made from its peer URLs, as the cluster's own is from its members'."""

    name: str
    peer_urls: tuple[str, ...]

    @property
    def id(self) -> int:
        return _digest("".join(sorted(self.peer_urls)))


@dataclass(slots=True)
class Config:
    """Everything that a member needs to know. URLs are ``http://host:port``, ``https://host:port`` or (for clients) ``unix:///path``."""

    name: str = "default"
    data_dir: Path = Path("default.etcd")
    listen_client_urls: tuple[str, ...] = ("http://localhost:2379",)
    advertise_client_urls: tuple[str, ...] = ("http://localhost:2379",)
    listen_peer_urls: tuple[str, ...] = ("http://localhost:2380",)
    #: Somebody said where peers are to find this member, so it has to be possible.
    peer_urls_given: bool = False
    listen_metrics_urls: tuple[str, ...] = ()
    members: tuple[Peer, ...] = (Peer("default", ("http://localhost:2380",)),)
    token: str = "etcd-cluster"
    #: The cluster runs already: a member without data asks it who it is.
    existing: bool = False
    #: No change of the membership that the members who are alive could not outvote.
    strict_reconfig: bool = True
    max_learners: int = 1
    client_tls: TLS = field(default_factory=TLS)
    peer_tls: TLS = field(default_factory=TLS)
    quota_bytes: int = DEFAULT_QUOTA
    max_request_bytes: int = DEFAULT_MAX_REQUEST
    max_streams: int = 10_000
    #: What a client's pings may come after, and when this side pings a client that says nothing, and gives it up.
    keepalive_seconds: tuple[float, float, float] = (5.0, 7200.0, 20.0)
    heartbeat_seconds: float = 0.1
    election_seconds: float = 1.0
    snapshot_bytes: int = 32 << 20
    max_txn_ops: int = 128
    progress_seconds: float = 600.0
    #: Mode, and retention in seconds or revisions; 0 for none.
    auto_compaction: tuple[str, float] = ("periodic", 0.0)
    #: ``simple``, or ``jwt,…`` with what :mod:`.web_tokens` needs.
    auth_token: str = "simple"
    auth_token_ttl: float = 300.0
    #: Each step doubles what a password costs to try.
    bcrypt_cost: int = 10

    @property
    def cluster_id(self) -> int:
        return _digest(self.token + ",".join(f"{peer.id:016x}" for peer in sorted(self.members, key=lambda one: one.id)))

    @property
    def me(self) -> Peer:
        return next(peer for peer in self.members if peer.name == self.name)

    @property
    def others(self) -> tuple[Peer, ...]:
        return tuple(peer for peer in self.members if peer.name != self.name)


def _digest(text: str) -> int:
    # 63 bits, as some clients print the number as a signed one; never 0, which means "nobody".
    return (int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1) | 1


def make_parser() -> argparse.ArgumentParser:
    """The flags of ``python -m kubeling.etcdlite``; each may come as ``ETCD_…`` in the environment too. Raises UsageError for a bad value there."""
    flags = parser("etcdlite", "The store: etcd's v3 API, one member of a cluster of one, three or more.")
    flags.add_argument("--name", default="default", help="this member's name, one of those in --initial-cluster")
    flags.add_argument("--data-dir", default="", metavar="DIR", help="where the log and the snapshots live (default NAME.etcd)")
    flags.add_argument("--listen-client-urls", default="http://localhost:2379", metavar="URLS")
    flags.add_argument("--advertise-client-urls", default="", metavar="URLS")
    flags.add_argument("--listen-peer-urls", default=DEFAULT_PEER_URL, metavar="URLS")
    flags.add_argument("--initial-advertise-peer-urls", default="", metavar="URLS")
    flags.add_argument("--initial-cluster", default="", metavar="NAME=URL,…", help="all members (default: this one alone)")
    flags.add_argument("--initial-cluster-state", choices=("new", "existing"), default="new")
    flags.add_argument("--strict-reconfig-check", type=boolean, nargs="?", const=True, default=True)
    flags.add_argument("--max-learners", "--experimental-max-learners", type=int, default=1, metavar="N")
    flags.add_argument("--initial-cluster-token", default="etcd-cluster")
    flags.add_argument("--listen-metrics-urls", default="", metavar="URLS", help="plain HTTP: /health, /readyz, /metrics")
    for side, what in (("", "clients"), ("peer-", "other members")):
        flags.add_argument(f"--{side}cert-file", default="", metavar="FILE", help=f"certificate shown to {what}")
        flags.add_argument(f"--{side}key-file", default="", metavar="FILE")
        flags.add_argument(f"--{side}trusted-ca-file", default="", metavar="FILE", help=f"CA of the certificates of {what}")
        flags.add_argument(f"--{side}client-cert-auth", type=boolean, nargs="?", const=True, default=False)
    flags.add_argument(
        "--quota-backend-bytes", type=int, default=0, metavar="BYTES", help="size at which writes are refused (0: 2 GiB)"
    )
    flags.add_argument("--max-request-bytes", type=int, default=DEFAULT_MAX_REQUEST, metavar="BYTES", help="size of a write")
    flags.add_argument(
        "--max-concurrent-streams", type=int, default=10_000, metavar="N", help="calls at once on a client's connection"
    )
    for name, default, what in (
        ("min-time", "5s", "a client that pings more often is sent away"),
        ("interval", "2h", "a client that says nothing for so long is pinged (0: never)"),
        ("timeout", "20s", "and given up when it does not answer within this"),
    ):
        flags.add_argument(f"--grpc-keepalive-{name}", type=duration, default=duration(default), metavar="TIME", help=what)
    flags.add_argument("--heartbeat-interval", type=int, default=100, metavar="MS")
    flags.add_argument("--election-timeout", type=int, default=1000, metavar="MS")
    flags.add_argument(
        "--snapshot-log-bytes", type=int, default=32 << 20, metavar="BYTES", help="log size at which a snapshot is made"
    )
    flags.add_argument("--auth-token", default="simple", metavar="KIND", help="simple, or jwt,sign-method=…,priv-key=…,ttl=…")
    flags.add_argument("--auth-token-ttl", type=int, default=300, metavar="SECONDS", help="of a simple token that is not used")
    flags.add_argument("--bcrypt-cost", type=int, default=10, metavar="N", help="cost of a password's hash, 4 to 31")
    flags.add_argument("--max-txn-ops", type=int, default=128, metavar="N", help="operations in one branch of a transaction")
    flags.add_argument(
        "--experimental-watch-progress-notify-interval",
        type=duration,
        default=600.0,
        metavar="TIME",
        help="to quiet watches that ask for it",
    )
    flags.add_argument("--auto-compaction-mode", choices=("periodic", "revision"), default="periodic")
    flags.add_argument(
        "--auto-compaction-retention",
        default="0",
        metavar="TIME|N",
        help="what of the past stays: 5m, 1 (hours), or so many revisions",
    )
    for name in _OF_ETCD_ONLY:
        flags.add_argument(f"--{name}", nargs="?", default=None, help=argparse.SUPPRESS)
    for action in flags._actions:
        value = os.environ.get("ETCD_" + action.dest.upper())
        if value is not None and action.option_strings:
            if action.choices is not None and value not in action.choices:
                raise UsageError(f"ETCD_{action.dest.upper()}={value}: not one of {', '.join(action.choices)}")
            # A flag that is given counts more; argparse parses a default that is a text like a flag.
            action.default = value
    return flags


def from_args(args: argparse.Namespace) -> Config:
    """The configuration that the flags describe. Raises UsageError."""
    own_urls = args.initial_advertise_peer_urls or args.listen_peer_urls
    members = _members(args.initial_cluster) if args.initial_cluster else (Peer(args.name, _urls("peer", own_urls)),)
    config = Config(
        name=args.name,
        data_dir=Path(args.data_dir or f"{args.name}.etcd"),
        listen_client_urls=_urls("--listen-client-urls", args.listen_client_urls),
        advertise_client_urls=_urls("--advertise-client-urls", args.advertise_client_urls or args.listen_client_urls),
        listen_peer_urls=_urls("--listen-peer-urls", args.listen_peer_urls),
        listen_metrics_urls=_urls("--listen-metrics-urls", args.listen_metrics_urls) if args.listen_metrics_urls else (),
        members=members,
        token=args.initial_cluster_token,
        peer_urls_given=args.listen_peer_urls != DEFAULT_PEER_URL or bool(args.initial_cluster),
        existing=args.initial_cluster_state == "existing",
        strict_reconfig=args.strict_reconfig_check,
        max_learners=args.max_learners,
        client_tls=_tls("", args.cert_file, args.key_file, args.trusted_ca_file, args.client_cert_auth),
        peer_tls=_tls(
            "peer-", args.peer_cert_file, args.peer_key_file, args.peer_trusted_ca_file, bool(args.peer_trusted_ca_file)
        ),
        quota_bytes=args.quota_backend_bytes or DEFAULT_QUOTA,
        max_request_bytes=args.max_request_bytes,
        max_streams=args.max_concurrent_streams,
        keepalive_seconds=(args.grpc_keepalive_min_time, args.grpc_keepalive_interval, args.grpc_keepalive_timeout),
        heartbeat_seconds=args.heartbeat_interval / 1000,
        election_seconds=args.election_timeout / 1000,
        snapshot_bytes=args.snapshot_log_bytes,
        max_txn_ops=args.max_txn_ops,
        progress_seconds=args.experimental_watch_progress_notify_interval,
        auto_compaction=(args.auto_compaction_mode, _retention(args.auto_compaction_mode, args.auto_compaction_retention)),
        auth_token=args.auth_token,
        auth_token_ttl=args.auth_token_ttl,
        bcrypt_cost=args.bcrypt_cost,
    )
    if config.name not in {peer.name for peer in members}:
        raise UsageError(f"--name {config.name} is not in --initial-cluster {args.initial_cluster}")
    if len({peer.id for peer in members}) != len(members) or len({peer.name for peer in members}) != len(members):
        raise UsageError("--initial-cluster names a member or a peer URL twice")
    if config.election_seconds < 3 * config.heartbeat_seconds:
        raise UsageError("--election-timeout must be at least three times --heartbeat-interval")
    if config.max_request_bytes <= 0 or config.max_streams <= 0:
        raise UsageError("--max-request-bytes and --max-concurrent-streams must be more than 0")
    if not 4 <= config.bcrypt_cost <= 31 or config.auth_token_ttl <= 0:
        raise UsageError("--bcrypt-cost must be from 4 to 31, and --auth-token-ttl more than 0")
    secure = [url for url in config.listen_client_urls if url.startswith("https:")]
    if secure and not config.client_tls.enabled:
        raise UsageError(f"{secure[0]} needs --cert-file and --key-file")
    return config


def host_port(url: str) -> tuple[str, int]:
    """Host and port of a URL."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 0


def _urls(flag: str, text: str) -> tuple[str, ...]:
    found = tuple(one.strip() for one in text.split(",") if one.strip())
    for one in found:
        try:
            parts = urlsplit(one)
            usable = parts.scheme in ("http", "https") and parts.hostname and parts.port is not None
        except ValueError:
            usable = False
        if not usable and not one.startswith("unix://"):
            raise UsageError(f"{flag}: {one!r} is not a URL with a port, like http://127.0.0.1:2379")
    return found


def _retention(mode: str, text: str) -> float:
    """As etcd reads it: a number is of hours, or of revisions; periodic retentions may have units."""
    try:
        if text.isdigit():
            return float(text) * (3600 if mode == "periodic" else 1)
        if mode == "periodic":
            return duration(text)
    except argparse.ArgumentTypeError:
        pass
    raise UsageError(
        f"--auto-compaction-retention {text}: not {'a duration like 5m or a number of hours' if mode == 'periodic' else 'a number of revisions'}"
    )


def _members(text: str) -> tuple[Peer, ...]:
    urls: dict[str, list[str]] = {}
    for one in text.split(","):
        name, equals, url = one.strip().partition("=")
        if not equals:
            raise UsageError(f"--initial-cluster: {one!r} is not NAME=URL")
        urls.setdefault(name, []).extend(_urls("--initial-cluster", url))
    return tuple(Peer(name, tuple(found)) for name, found in urls.items())


def _tls(side: str, cert: str, key: str, ca: str, client_auth: bool) -> TLS:
    if bool(cert) != bool(key):
        raise UsageError(f"--{side}cert-file and --{side}key-file go together")
    if client_auth and not ca:
        raise UsageError(f"--{side}client-cert-auth needs --{side}trusted-ca-file")
    for path in (cert, key, ca):
        if path and not Path(path).is_file():
            raise UsageError(f"{path}: no such file")
    return TLS(cert, key, ca, client_auth)
