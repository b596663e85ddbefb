"""Who we are and where the apiservers are: kubeconfig files and the in-cluster service account.

Beyond upstream's format a cluster may carry the extension ``kubeling.dev/servers`` with further URLs of the same cluster, to fail over to.
"""

from __future__ import annotations

import base64
import os
import ssl
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson

IN_CLUSTER_DIR = Path("/var/run/secrets/kubernetes.io/serviceaccount")
SERVERS_EXTENSION = "kubeling.dev/servers"


class KubeconfigError(Exception):
    """The kubeconfig cannot be used; the text names the file, the entry and the remedy."""


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """Everything that a connection needs. `servers` are base URLs of the same cluster; PEM material is held as text."""

    servers: tuple[str, ...]
    ca_pem: str = ""
    cert_pem: str = ""
    key_pem: str = ""
    token: str = ""
    #: Read again for every request where it is set: projected tokens are replaced while we run.
    token_file: str = ""
    basic: tuple[str, str] | None = None
    insecure: bool = False
    tls_server_name: str = ""
    namespace: str = "default"
    #: Whom to act for, as the headers of every request: Impersonate-User, -Group …
    impersonation: tuple[tuple[str, str], ...] = ()

    def ssl_context(self) -> ssl.SSLContext:
        """A context that trusts the cluster's CA and shows our certificate."""
        try:
            context = ssl.create_default_context(cadata=self.ca_pem or None)
            if self.cert_pem:
                _load_chain(context, self.cert_pem, self.key_pem)
        except (ssl.SSLError, OSError) as error:
            raise KubeconfigError(f"the certificates of {self.servers[0]} cannot be used: {error}") from error
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def _load_chain(context: ssl.SSLContext, cert: str, key: str) -> None:
    # OpenSSL's binding reads a certificate from a file only; an anonymous one leaves nothing on disk.
    with tempfile.TemporaryDirectory(prefix="kubeling-") as folder:
        path = Path(folder) / "pair.pem"
        path.touch(0o600)
        path.write_text(cert + "\n" + key)
        context.load_cert_chain(path)


def paths() -> list[Path]:
    """The files that kubectl would read: those of $KUBECONFIG, else ~/.kube/config."""
    listed = [part for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    return [Path(each) for each in dict.fromkeys(listed)] or [Path.home() / ".kube" / "config"]


def load(
    path: str | Path | None = None, context: str | None = None, *, cluster: str | None = None, user: str | None = None
) -> ClientConfig:
    """Read a kubeconfig (the default ones where `path` is None, the service account's where they are missing and we are in a pod).

    `cluster` and `user` name others than the context's.
    """
    files = [Path(path)] if path is not None else paths()
    there = files if path is not None else [each for each in files if each.exists()]
    if not there and in_cluster_available():
        return in_cluster()
    if len(there) > 1:
        return from_document(merged({file: read(file) for file in there}), Path("/"), context, cluster=cluster, user=user)
    file = (there or files)[0]
    return from_document(read(file), file, context, cluster=cluster, user=user)


def read(file: Path) -> dict[str, Any]:
    """One file, parsed. Raises KubeconfigError."""
    try:
        document = _parse(file.read_bytes())
    except OSError as error:
        raise KubeconfigError(
            f"cannot read the kubeconfig {file}: {error.strerror}. Is a cluster up? Try: kubeling up"
        ) from error
    except ValueError as error:
        raise KubeconfigError(f"the kubeconfig {file} is not YAML: {error}") from error
    if not isinstance(document, dict):
        raise KubeconfigError(f"the kubeconfig {file} is empty. Try: kubeling up")
    return document


_SECTIONS = {"clusters": "cluster", "users": "user", "contexts": "context"}
_FILES = ("certificate-authority", "client-certificate", "client-key", "tokenFile")


def merged(documents: Mapping[Path, dict[str, Any]]) -> dict[str, Any]:
    """Several as one: of two entries of a name the first counts, and so does the first current context. Names of files are made absolute."""
    found: dict[str, Any] = {"current-context": "", **{section: [] for section in _SECTIONS}}
    for file, document in documents.items():
        found["current-context"] = found["current-context"] or document.get("current-context") or ""
        for section, singular in _SECTIONS.items():
            have = {each.get("name") for each in found[section]}
            for entry in document.get(section) or []:
                if entry.get("name") not in have:
                    body = entry.get(singular) or {}
                    absolute = {key: str(file.absolute().parent / body[key]) for key in _FILES if body.get(key)}
                    found[section].append({**entry, singular: {**body, **absolute}})
    return found


def _parse(text: bytes) -> Any:
    """JSON, as our clusters write it, is read in no time; all else is YAML, whose loader takes 10 ms and a megabyte."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        import yaml

        try:
            return yaml.safe_load(text)
        except ValueError as error:
            raise ValueError(str(error)) from error


def from_document(
    document: dict[str, Any],
    file: Path,
    context: str | None = None,
    *,
    cluster: str | None = None,
    user: str | None = None,
) -> ClientConfig:
    """Take the named (or current) context of a parsed kubeconfig; relative file names in it are relative to `file`."""
    wanted = context or document.get("current-context") or ""
    if not wanted:
        raise KubeconfigError(f"{file} has no current-context. Name one with --context, or try: kubeling up")
    chosen = _entry(document, "contexts", "context", wanted, file)
    server = _entry(document, "clusters", "cluster", cluster or chosen.get("cluster", ""), file)
    named = user or chosen.get("user")
    identity = _entry(document, "users", "user", named, file) if named else {}
    servers = [str(server.get("server", ""))]
    if not servers[0]:
        raise KubeconfigError(f"{file}: cluster {chosen.get('cluster')!r} has no server")
    for extension in server.get("extensions") or []:
        if extension.get("name") == SERVERS_EXTENSION:
            servers += [url for url in extension.get("extension", {}).get("servers", []) if url not in servers]
    cert_pem, key_pem = _pem(identity, "client-certificate", file), _pem(identity, "client-key", file)
    token = identity.get("token", "")
    if identity.get("exec") and not (token or cert_pem):
        token, cert_pem, key_pem = _from_plugin(identity["exec"], servers[0], server, file)
    password = (identity["username"], identity.get("password", "")) if identity.get("username") else None
    return ClientConfig(
        servers=tuple(url.rstrip("/") for url in servers),
        ca_pem=_pem(server, "certificate-authority", file),
        cert_pem=cert_pem,
        key_pem=key_pem,
        token=token,
        token_file=_relative(identity["tokenFile"], file) if identity.get("tokenFile") else "",
        basic=password,
        insecure=bool(server.get("insecure-skip-tls-verify")),
        tls_server_name=server.get("tls-server-name", ""),
        namespace=chosen.get("namespace") or "default",
        impersonation=impersonation(
            identity.get("as", ""),
            identity.get("as-groups") or (),
            identity.get("as-uid", ""),
            identity.get("as-user-extra") or {},
        ),
    )


def impersonation(
    user: str, groups: Sequence[str] = (), uid: str = "", extra: Mapping[str, Sequence[str]] | None = None
) -> tuple[tuple[str, str], ...]:
    """The headers of one who acts for another."""
    headers = [("Impersonate-User", user)] if user else []
    headers += [("Impersonate-Group", each) for each in groups]
    headers += [("Impersonate-Uid", uid)] if uid else []
    headers += [(f"Impersonate-Extra-{quote(key, safe='')}", value) for key, values in (extra or {}).items() for value in values]
    return tuple(headers)


def _from_plugin(spec: dict[str, Any], server: str, cluster: dict[str, Any], file: Path) -> tuple[str, str, str]:
    from kubeling.client import execcredential

    about: dict[str, Any] = {"server": server}
    if ca := _pem(cluster, "certificate-authority", file):
        about["certificate-authority-data"] = base64.b64encode(ca.encode()).decode()
    about |= {key: cluster[key] for key in ("tls-server-name", "insecure-skip-tls-verify") if key in cluster}
    try:
        found = execcredential.run(spec, about, file.parent)
    except execcredential.PluginFailed as error:
        raise KubeconfigError(f"{file}: getting credentials: {error}") from error
    return found.token, found.cert_pem, found.key_pem


def in_cluster_available() -> bool:
    """Whether a pod's service account is mounted here."""
    return "KUBERNETES_SERVICE_HOST" in os.environ and (IN_CLUSTER_DIR / "token").exists()


def in_cluster() -> ClientConfig:
    """The configuration that a pod has: its projected token and the Service's address from the environment."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    return ClientConfig(
        servers=(f"https://{f'[{host}]' if ':' in host else host}:{port}",),
        ca_pem=(IN_CLUSTER_DIR / "ca.crt").read_text(),
        token_file=str(IN_CLUSTER_DIR / "token"),
        namespace=(IN_CLUSTER_DIR / "namespace").read_text().strip() or "default",
    )


def _entry(document: dict[str, Any], plural: str, singular: str, name: str, file: Path) -> dict[str, Any]:
    for each in document.get(plural) or []:
        if each.get("name") == name:
            found = each.get(singular) or {}
            if isinstance(found, dict):
                return found
    have = ", ".join(str(each.get("name")) for each in document.get(plural) or []) or "none"
    raise KubeconfigError(f"{file}: no {singular} named {name!r} (there: {have})")


def _pem(entry: dict[str, Any], key: str, file: Path) -> str:
    if data := entry.get(f"{key}-data"):
        try:
            return base64.b64decode(data, validate=True).decode()
        except ValueError as error:
            raise KubeconfigError(f"{file}: {key}-data is not base64 of PEM: {error}") from error
    if path := entry.get(key):
        try:
            return Path(_relative(path, file)).read_text()
        except OSError as error:
            raise KubeconfigError(f"{file}: cannot read {key} {path}: {error.strerror}") from error
    return ""


def _relative(path: str, file: Path) -> str:
    return str(file.parent / path)
