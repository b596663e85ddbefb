"""Certificates and kubeconfigs for a cluster of several machines or containers: one folder for each, holding what that one needs and nothing more.

    identities.py --out DIR --etcd NAME[=ADDRESS]… --apiserver NAME[=ADDRESS]… --node NAME[=ADDRESS]… --server URL…

| folder | what it holds | who gets it |
| --- | --- | --- |
| ``ca/`` | the two authorities with their keys | nobody: whoever has it can be anybody |
| ``control-plane/`` | the certificates of the store's members and of the apiserver, the service-account keys, kubeconfigs, the daemons' rights | control planes |
| ``<node>/`` | the kubelet's certificate, kubeconfigs of kubelet and kubeproxy | that node |
| ``admin/`` | the administrator's kubeconfig | you |

What exists stays: run it again with one more ``--node`` and only that node's folder is new. Everything comes from :mod:`kubeling.cluster.pki` and
:mod:`kubeling.cluster.kubeconfig`, which `kubeling up` uses as well.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kubeling.cluster import kubeconfig, pki, rbac
from kubeling.cluster.topology import API_SERVICE, DOMAIN

#: Names by which pods know the apiserver.
INSIDE = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{DOMAIN}", API_SERVICE)
LOCAL = ("localhost", "127.0.0.1", "::1")
CONTROL_PLANE = "control-plane"
RESERVED = ("ca", "admin", CONTROL_PLANE)


@dataclass(frozen=True, slots=True)
class Place:
    """A daemon's host: its name, and its address where the name alone does not lead there."""

    name: str
    address: str = ""

    @classmethod
    def parse(cls, text: str) -> Place:
        """NAME or NAME=ADDRESS."""
        name, _, address = text.partition("=")
        if not name or "/" in name or name.startswith("."):
            raise argparse.ArgumentTypeError(f"{text!r} is not NAME or NAME=ADDRESS")
        return cls(name, address)

    @property
    def names(self) -> list[str]:
        """All that it may be called in its certificate."""
        return [name for name in (self.name, self.address, *LOCAL) if name]


class Identities:
    """Writes the folders beneath `out`."""

    def __init__(self, out: Path, cluster: str, servers: Sequence[str]) -> None:
        self._out = out
        self._cluster = cluster
        self._servers = servers
        authorities = pki.Store(self._folder("ca"))
        self._ca = authorities.authority("ca", f"kubeling-{cluster}")
        self._etcd_ca = authorities.authority("etcd-ca", f"kubeling-{cluster}-etcd")

    def _folder(self, name: str) -> Path:
        folder = self._out / name
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # A mounted volume exists already, with whatever mode it was given.
        folder.chmod(0o700)
        return folder

    def control_plane(self, etcd: Iterable[Place], apiservers: Iterable[Place], names: Iterable[str]) -> None:
        """What the store's members, the apiservers and those beside them need."""
        folder = self._folder(CONTROL_PLANE)
        store = pki.Store(folder)
        pki.write_private(folder / "ca.crt", self._ca.cert_pem)
        pki.write_private(folder / "etcd-ca.crt", self._etcd_ca.cert_pem)
        for place in etcd:
            if not store.has(f"etcd-{place.name}"):
                store.save(
                    f"etcd-{place.name}", pki.issue(self._etcd_ca, place.name, names=place.names, server=True, client=True)
                )
        if not store.has("apiserver"):
            called = [*INSIDE, *LOCAL, *names, *(name for place in apiservers for name in place.names)]
            store.save("apiserver", pki.issue(self._ca, "kube-apiserver", names=called, server=True))
        if not store.has("apiserver-kubelet-client"):
            pair = pki.issue(self._ca, pki.KUBELET_CLIENT, client=True)
            store.save("apiserver-kubelet-client", pair)
        if not store.has("apiserver-etcd-client"):
            store.save("apiserver-etcd-client", pki.issue(self._etcd_ca, "kube-apiserver-etcd-client", client=True))
        pki.service_account_keys(store)
        rbac.write(folder / "rbac.json")
        for component in ("scheduler", "controllers", "dns", "cloud"):
            self._kubeconfig(folder, component, self._servers)
        self._kubeconfig(folder, "admin", self._servers, file="bootstrap")

    def node(self, place: Place) -> None:
        """What a worker needs."""
        folder = self._folder(place.name)
        store = pki.Store(folder)
        pki.write_private(folder / "ca.crt", self._ca.cert_pem)
        if not store.has("kubelet"):
            cn, organizations = pki.identity("kubelet", place.name)
            store.save("kubelet", pki.issue(self._ca, cn, organizations, names=place.names, server=True))
        for component in ("kubelet", "kubeproxy"):
            self._kubeconfig(folder, component, self._servers, node=place.name)

    def admin(self, outside: str) -> None:
        """The administrator's kubeconfig, for where the API is published."""
        self._kubeconfig(self._folder("admin"), "admin", [outside] if outside else self._servers)

    def _kubeconfig(self, folder: Path, component: str, servers: Sequence[str], *, node: str = "", file: str = "") -> None:
        path = folder / f"{file or component}.conf"
        if path.exists():
            return
        cn, organizations = pki.identity(component, node)
        pair = pki.issue(self._ca, cn, organizations, client=True)
        name = kubeconfig.context_name(self._cluster)
        user = name if component == "admin" else cn
        content = kubeconfig.document(name, user, servers, self._ca, pair)
        # JSON is YAML.
        pki.write_private(path, json.dumps(content, indent=2).encode() + b"\n")


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """All flags."""
    flags = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    add = flags.add_argument

    def places(flag: str, meaning: str) -> None:
        add(flag, type=Place.parse, action="append", default=[], metavar="NAME[=ADDRESS]", help=meaning)

    add("--out", type=Path, required=True, metavar="DIR", help="where the folders are made")
    add("--cluster", default="kubeling", metavar="NAME", help="the cluster's name in kubeconfigs and authorities")
    places("--etcd", "a member of the store")
    places("--apiserver", "an apiserver")
    places("--node", "a worker")
    add("--api-name", action="append", default=[], metavar="NAME", help="one more name or address under which the API is reached")
    add("--server", action="append", required=True, metavar="URL", help="the API as daemons reach it; more than one to fail over")
    add("--admin-server", default="", metavar="URL", help="the API as you reach it, where that differs")
    args = flags.parse_args(argv)
    for node in args.node:
        if node.name in RESERVED:
            flags.error(f"--node {node.name}: the folder of that name has another use; choose another name")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    try:
        made = Identities(args.out, args.cluster, args.server)
        if args.etcd or args.apiserver:
            made.control_plane(args.etcd, args.apiserver, args.api_name)
        for node in args.node:
            made.node(node)
        made.admin(args.admin_server)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"identities are in {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
