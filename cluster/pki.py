"""The cluster's certificates: three authorities (cluster, etcd, front proxy), a certificate for every identity, all on P-256 so that it takes milliseconds.

A private key never leaves the directory: files are made with mode 0600 and the directory with 0700. What exists is kept, so calling this again for
a cluster with more nodes adds what is missing and changes nothing that is in use.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kubeling.cluster.topology import DOMAIN, HOLLOW_USER, Node, Topology

YEARS = timedelta(days=3650)
#: The clocks of a laptop and its containers differ a little.
SKEW = timedelta(minutes=5)

_SERVER = ExtendedKeyUsageOID.SERVER_AUTH
_CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key."""

    cert: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def cert_pem(self) -> bytes:
        return self.cert.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return _key_pem(self.key)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def _subject(cn: str, organizations: Iterable[str] = ()) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, o) for o in organizations]
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, cn)])


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def authority(cn: str, now: datetime | None = None) -> Pair:
    """A new self-signed authority."""
    moment = now or datetime.now(UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    name = _subject(cn)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - SKEW)
        .not_valid_after(moment + YEARS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_usage(ca=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    return Pair(cert, key)


def issue(
    ca: Pair,
    cn: str,
    organizations: Iterable[str] = (),
    *,
    names: Iterable[str] = (),
    server: bool = False,
    client: bool = False,
    now: datetime | None = None,
    valid: timedelta = YEARS,
) -> Pair:
    """A certificate signed by `ca`. `names` are DNS names or IP addresses."""
    moment = now or datetime.now(UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    usages = [oid for oid, wanted in ((_SERVER, server), (_CLIENT, client)) if wanted]
    builder = (
        x509.CertificateBuilder()
        .subject_name(_subject(cn, organizations))
        .issuer_name(ca.cert.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - SKEW)
        .not_valid_after(min(moment + valid, ca.cert.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key()), critical=False)
    )
    alternatives = [_alternative(name) for name in dict.fromkeys(names)]
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return Pair(builder.sign(ca.key, hashes.SHA256()), key)


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner reads, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(path.name + ".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    os.replace(fresh, path)


class Store:
    """The pki directory: `<name>.crt` and `<name>.key`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, name: str) -> Pair | None:
        """The pair under `name`, None where either file is missing."""
        try:
            cert = x509.load_pem_x509_certificate((self.folder / f"{name}.crt").read_bytes())
            key = serialization.load_pem_private_key((self.folder / f"{name}.key").read_bytes(), None)
        except FileNotFoundError:
            return None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{self.folder / name}.key is not an elliptic curve key")
        return Pair(cert, key)

    def save(self, name: str, pair: Pair) -> Pair:
        # The certificate last: a pair counts only when both are there.
        write_private(self.folder / f"{name}.key", pair.key_pem)
        write_private(self.folder / f"{name}.crt", pair.cert_pem)
        return pair

    def authority(self, name: str, cn: str) -> Pair:
        return self.load(name) or self.save(name, authority(cn))

    def has(self, name: str) -> bool:
        return (self.folder / f"{name}.crt").exists() and (self.folder / f"{name}.key").exists()


def api_names(topology: Topology) -> list[str]:
    """Every name and address under which somebody dials an apiserver."""
    inside = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{DOMAIN}"]
    control = topology.of("control-plane")
    nodes = [n.name for n in control] + [each for n in control for each in topology.addresses(n)]
    return ["localhost", "127.0.0.1", "::1", *inside, *topology.spec.api_services, *nodes]


def ensure(topology: Topology) -> Pair:
    """Make every certificate that the topology needs and that is not there yet. Returns the cluster's authority."""
    store = Store(topology.layout.pki)
    ca = store.authority("ca", f"kubeling-{topology.spec.name}")
    etcd_ca = store.authority("etcd/ca", f"kubeling-{topology.spec.name}-etcd")
    if not store.has("apiserver"):
        store.save("apiserver", issue(ca, "kube-apiserver", names=api_names(topology), server=True))
    if not store.has("apiserver-kubelet-client"):
        store.save("apiserver-kubelet-client", issue(ca, KUBELET_CLIENT, client=True))
    if not store.has("apiserver-etcd-client"):
        store.save("apiserver-etcd-client", issue(etcd_ca, "kube-apiserver-etcd-client", client=True))
    front_proxy_ca = store.authority("front-proxy-ca", f"kubeling-{topology.spec.name}-front-proxy")
    if not store.has("front-proxy-client"):
        store.save("front-proxy-client", issue(front_proxy_ca, "front-proxy-client", client=True))
    service_account_keys(store)
    for node in topology.nodes:
        _node(store, ca, etcd_ca, topology, node)
    return ca


def _node(store: Store, ca: Pair, etcd_ca: Pair, topology: Topology, node: Node) -> None:
    names = [node.name, *topology.addresses(node), "127.0.0.1", "localhost"]
    if node.role == "control-plane" and not store.has(f"etcd/{node.name}"):
        store.save(f"etcd/{node.name}", issue(etcd_ca, node.name, names=names, server=True, client=True))
    if (node.role == "worker" or topology.spec.static_pods) and not store.has(f"kubelet-{node.name}"):
        pair = issue(ca, f"system:node:{node.name}", ["system:nodes"], names=names, server=True)
        store.save(f"kubelet-{node.name}", pair)
    if topology.spec.hollow_nodes and node == topology.of("control-plane")[0] and not store.has("hollow"):
        store.save("hollow", issue(ca, HOLLOW_USER, names=names, server=True))


def service_account_keys(store: Store) -> None:
    """The pair that signs and verifies service-account tokens: ``sa.key`` and ``sa.pub``."""
    private, public = store.folder / "sa.key", store.folder / "sa.pub"
    if private.exists() and public.exists():
        return
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    write_private(private, _key_pem(key))
    write_private(public, pem)


#: As whom the apiserver comes to kubelets: no administrator, or a node that gives the API's address for its own would have it talk to itself as one.
KUBELET_CLIENT = "kube-apiserver-kubelet-client"

#: Component -> the subject of its client certificate.
IDENTITIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "admin": ("kubernetes-admin", ("system:masters",)),
    "scheduler": ("system:kube-scheduler", ()),
    "controllers": ("system:kube-controller-manager", ()),
    "cloud": ("system:cloud-controller-manager", ()),
    "kubeproxy": ("system:kube-proxy", ()),
    "dns": ("system:kube-dns", ()),
    "hollow": (HOLLOW_USER, ()),
}


def identity(component: str, node: str) -> tuple[str, tuple[str, ...]]:
    """The subject that `component` on `node` shows to the apiserver."""
    if component == "kubelet":
        return f"system:node:{node}", ("system:nodes",)
    return IDENTITIES[component]
