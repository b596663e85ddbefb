"""``python -m kubeling.apiserver``: flags under upstream's names."""

from __future__ import annotations

import argparse
import gc
import resource
import sys
from ipaddress import ip_network

from kubeling.api.resources import BUILTIN, ON_REQUEST, Resource
from kubeling.apiserver import authoptions
from kubeling.apiserver.authoptions import boolean, duration
from kubeling.apiserver.config import DEFAULT_RANGE, Config, Network
from kubeling.daemon import main as daemon


def _parser() -> argparse.ArgumentParser:
    parser = daemon.parser("apiserver", "The Kubernetes API over an etcd v3 store.")
    add = parser.add_argument
    add("--etcd-servers", required=True, type=_strings, help="URLs of the store's members, separated by commas")
    add("--etcd-cafile", default="", metavar="PEM")
    add("--etcd-certfile", default="", metavar="PEM")
    add("--etcd-keyfile", default="", metavar="PEM")
    add("--bind-address", default="0.0.0.0", metavar="IP")
    add("--secure-port", default=6443, type=int, help="0 takes any free port; -1 listens on --listen-fds only")
    add("--advertise-address", default="", metavar="IP", help="where other members of the cluster reach this server")
    add("--listen-fds", default=(), type=_numbers, metavar="N[,N]", help="inherited listening sockets to serve on as well")
    add("--tls-cert-file", default="", metavar="PEM")
    add("--tls-private-key-file", default="", metavar="PEM")
    authoptions.add(parser)
    add("--service-account-key-file", default=[], action="append", metavar="PEM", help="keys that verify service-account tokens")
    add("--service-account-signing-key-file", default="", metavar="PEM", help="the key that signs them")
    add("--service-account-issuer", default="https://kubernetes.default.svc.cluster.local", metavar="URL")
    add("--api-audiences", default=(), type=_strings, metavar="NAME[,NAME]")
    add("--service-cluster-ip-range", default=(DEFAULT_RANGE,), type=_networks, metavar="CIDR[,CIDR]", help="the primary first")
    add("--service-node-port-range", default=(30000, 32767), type=_ports, metavar="FIRST-LAST")
    add("--kubelet-client-certificate", default="", metavar="PEM")
    add("--kubelet-client-key", default="", metavar="PEM")
    add("--kubelet-certificate-authority", default="", metavar="PEM")
    add("--max-requests-inflight", default=100, type=int, metavar="N", help="seats for reading requests; 0 sets no limit")
    add(
        "--max-mutating-requests-inflight", default=50, type=int, metavar="N", help="seats for changing requests; 0 sets no limit"
    )
    add(
        "--enable-priority-and-fairness",
        default=True,
        type=boolean,
        metavar="BOOL",
        help="share the sum of both among priority levels",
    )
    add("--request-timeout", default=60.0, type=duration, metavar="DURATION", help="for requests that are no streams")
    add("--proxy-client-cert-file", default="", metavar="PEM", help="shown to aggregated API servers, as their front proxy")
    add("--proxy-client-key-file", default="", metavar="PEM")
    add("--encryption-provider-config", default="", metavar="YAML", help="which kinds are encrypted in the store, and how")
    add("--audit-policy-file", default="", metavar="YAML", help="what is logged of which request")
    add("--audit-log-path", default="", metavar="FILE", help="where audit events go; - is the standard output")
    add("--audit-log-maxsize", default=100, type=int, metavar="MB", help="at which size the file is put away")
    add("--audit-log-maxage", default=0, type=int, metavar="DAYS", help="how long old files are kept; 0 for ever")
    add("--audit-log-maxbackup", default=0, type=int, metavar="N", help="how many old files are kept; 0 all")
    add("--admission-control-config-file", default="", metavar="YAML", help="what single plug-ins are told (PodSecurity)")
    add("--enable-admission-plugins", default=(), type=_strings, metavar="NAME[,NAME]", help="besides those that are on")
    add("--disable-admission-plugins", default=(), type=_strings, metavar="NAME[,NAME]", help="of those that are on")
    add(
        "--runtime-config",
        default=(),
        type=_more_kinds,
        metavar="GROUP/VERSION=BOOL",
        help="more that is served; or api/alpha, api/all",
    )
    add("--etcd-compaction-interval", default=300.0, type=float, metavar="SECONDS", help="0 never compacts")
    return parser


def _strings(text: str) -> tuple[str, ...]:
    return tuple(each.strip() for each in text.split(",") if each.strip())


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(each) for each in _strings(text))


def _networks(text: str) -> tuple[Network, ...]:
    found = tuple(ip_network(each.strip(), strict=False) for each in text.split(","))
    if len(found) > 2 or len({each.version for each in found}) != len(found):
        raise argparse.ArgumentTypeError(f"{text!r}: one range of each family at most, such as 10.96.0.0/16,fd00:10:96::/112")
    return found


def _ports(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    if not 0 < int(first) <= int(last) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not a range of ports: write 30000-32767")
    return int(first), int(last)


def _more_kinds(text: str) -> tuple[Resource, ...]:
    """The kinds that --runtime-config turns on. What is always served may be named, and cannot be turned off."""
    wanted: set[str] = set()
    known = {each.group_version for each in ON_REQUEST}
    for each in _strings(text):
        name, _, value = each.partition("=")
        on = boolean(value or "true")
        if name in ("api/all", "api/alpha"):
            meant = known
        elif name in ("api/beta", "api/ga", "api/legacy") or any(kind.group_version == name for kind in BUILTIN):
            meant = set()
            if not on:
                raise argparse.ArgumentTypeError(
                    f"{name} is always served; only {', '.join(sorted(known))} can be turned on and off"
                )
        elif name in known:
            meant = {name}
        else:
            raise argparse.ArgumentTypeError(f"{name!r} is not known; write {', '.join(sorted(known))}, api/alpha or api/all")
        wanted = wanted | meant if on else wanted - meant
    return tuple(each for each in ON_REQUEST if each.group_version in wanted)


def config_of(args: argparse.Namespace) -> Config:
    """Flags to configuration."""
    return Config(
        etcd_servers=args.etcd_servers,
        etcd_cafile=args.etcd_cafile,
        etcd_certfile=args.etcd_certfile,
        etcd_keyfile=args.etcd_keyfile,
        bind_address=args.bind_address,
        secure_port=args.secure_port,
        advertise_address=args.advertise_address,
        listen_fds=args.listen_fds,
        tls_cert_file=args.tls_cert_file,
        tls_private_key_file=args.tls_private_key_file,
        auth=authoptions.options(args),
        service_account_key_files=tuple(args.service_account_key_file),
        service_account_signing_key_file=args.service_account_signing_key_file,
        service_account_issuer=args.service_account_issuer,
        api_audiences=args.api_audiences,
        service_cluster_ip_ranges=args.service_cluster_ip_range,
        node_port_range=args.service_node_port_range,
        kubelet_client_certificate=args.kubelet_client_certificate,
        kubelet_client_key=args.kubelet_client_key,
        kubelet_certificate_authority=args.kubelet_certificate_authority,
        max_requests_inflight=args.max_requests_inflight,
        max_mutating_requests_inflight=args.max_mutating_requests_inflight,
        priority_and_fairness=args.enable_priority_and_fairness,
        request_timeout=args.request_timeout,
        proxy_client_cert_file=args.proxy_client_cert_file,
        proxy_client_key_file=args.proxy_client_key_file,
        encryption_provider_config=args.encryption_provider_config,
        audit_policy_file=args.audit_policy_file,
        audit_log_path=args.audit_log_path,
        audit_log_maxsize=args.audit_log_maxsize,
        audit_log_maxage=args.audit_log_maxage,
        audit_log_maxbackup=args.audit_log_maxbackup,
        admission_control_config_file=args.admission_control_config_file,
        enable_admission_plugins=args.enable_admission_plugins,
        disable_admission_plugins=args.disable_admission_plugins,
        more_kinds=args.runtime_config,
        compaction_seconds=args.etcd_compaction_interval,
    )


def _prepare_process() -> None:
    """As many connections as the system allows; and what was imported is never looked at by the garbage collector again."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    gc.enable()


def main(argv: list[str] | None = None) -> int:
    """Run until told to stop; the exit status."""
    args = daemon.parse(_parser(), argv)
    # Until it is imported: looking for garbage meanwhile finds none and takes a fifth of the time.
    gc.disable()
    from kubeling.apiserver.run import run

    _prepare_process()
    return daemon.run(args, run(config_of(args)))


if __name__ == "__main__":
    sys.exit(main())
