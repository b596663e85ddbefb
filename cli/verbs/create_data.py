"""`create` of namespaces, service accounts, ConfigMaps and Secrets, and `create token`."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from kubeling.api.errors import ApiError
from kubeling.api.resources import SERVICE_ACCOUNTS
from kubeling.cli import flags, output
from kubeling.cli.session import CommandError, Obj, Session
from kubeling.cli.verbs.creating import Line, creator, made, name_of

_VARIABLE = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
Literals = Annotated[list[str] | None, typer.Option("--from-literal", help="key=value; may be repeated.")]
Files = Annotated[list[str] | None, typer.Option("--from-file", help="[key=]path of a file or a folder; may be repeated.")]
EnvFiles = Annotated[list[str] | None, typer.Option("--from-env-file", help="A file of key=value lines; may be repeated.")]


@creator
def namespace(words: Line = None) -> Obj:
    """Make a namespace: `kubeling create namespace web`."""
    return made("v1", "Namespace", name_of(words))


@creator
def serviceaccount(words: Line = None) -> Obj:
    """Make a service account: `kubeling create serviceaccount builder`."""
    return made("v1", "ServiceAccount", name_of(words))


@creator
def configmap(words: Line = None, literals: Literals = None, files: Files = None, env_files: EnvFiles = None) -> Obj:
    """Make a ConfigMap: `kubeling create configmap conf --from-literal=a=b --from-file=app.conf`."""
    text: dict[str, str] = {}
    binary: dict[str, str] = {}
    for key, value in _data(literals, files, env_files).items():
        try:
            text[key] = value.decode()
        except UnicodeDecodeError:
            binary[key] = base64.b64encode(value).decode()
    data: dict[str, Any] = {**({"data": text} if text else {}), **({"binaryData": binary} if binary else {})}
    return made("v1", "ConfigMap", name_of(words), **data)


@creator
def generic(
    words: Line = None,
    literals: Literals = None,
    files: Files = None,
    env_files: EnvFiles = None,
    kind: Annotated[str, typer.Option("--type", help="The type; Opaque where none is given.")] = "",
) -> Obj:
    """Make a Secret: `kubeling create secret generic login --from-literal=password=x`."""
    return _secret(name_of(words), _data(literals, files, env_files), kind)


@creator
def tls(
    words: Line = None,
    cert: Annotated[str, typer.Option("--cert", help="A file with the certificate.")] = "",
    key: Annotated[str, typer.Option("--key", help="A file with its key.")] = "",
) -> Obj:
    """Make a Secret of a certificate and its key: `kubeling create secret tls web --cert=web.crt --key=web.key`."""
    if not cert or not key:
        raise CommandError("key and cert must be specified")
    return _secret(name_of(words), {"tls.crt": _read(cert), "tls.key": _read(key)}, "kubernetes.io/tls")


@creator
def docker_registry(
    words: Line = None,
    server: Annotated[str, typer.Option("--docker-server", help="The registry.")] = "https://index.docker.io/v1/",
    username: Annotated[str, typer.Option("--docker-username")] = "",
    password: Annotated[str, typer.Option("--docker-password")] = "",
    email: Annotated[str, typer.Option("--docker-email")] = "",
    files: Files = None,
) -> Obj:
    """Make a Secret for pulling images: `kubeling create secret docker-registry pull --docker-username=u --docker-password=p`."""
    name, kind, field = name_of(words), "kubernetes.io/dockerconfigjson", ".dockerconfigjson"
    if files:
        found = _data(None, files, None)
        return _secret(name, {field: found[field] if field in found else next(iter(found.values()))}, kind)
    if not username or not password:
        raise CommandError(
            "either --from-file or the combination of --docker-username, --docker-password and --docker-server is required"
        )
    entry = {"username": username, "password": password, **({"email": email} if email else {})}
    entry["auth"] = base64.b64encode(f"{username}:{password}".encode()).decode()
    return _secret(name, {field: json.dumps({"auths": {server: entry}}, separators=(",", ":")).encode()}, kind)


def _secret(name: str, data: dict[str, bytes], kind: str) -> Obj:
    encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
    return made("v1", "Secret", name, **({"data": encoded} if encoded else {}), **({"type": kind} if kind else {}))


def _data(literals: list[str] | None, files: list[str] | None, env_files: list[str] | None) -> dict[str, bytes]:
    data: dict[str, bytes] = {}

    def put(key: str, value: bytes) -> None:
        if key in data:
            raise CommandError(f"cannot add key {key}, another key by that name already exists")
        data[key] = value

    if env_files and (literals or files):
        raise CommandError("from-env-file cannot be combined with from-file or from-literal")
    for each in literals or []:
        key, has, value = each.partition("=")
        if not has or not key:
            raise CommandError(f"invalid literal source {each}, expected key=value")
        put(key, value.encode())
    for each in files or []:
        key, has, path = each.partition("=")
        file = Path(path if has else each)
        for one in sorted(file.iterdir()) if file.is_dir() else [file]:
            if not one.is_dir():
                put(key if has else one.name, _read(str(one)))
    for each in env_files or []:
        for line in _read(each).decode().splitlines():
            key, has, value = line.lstrip().partition("=")
            if key and has and not key.startswith("#"):
                if not _VARIABLE.fullmatch(key):
                    raise CommandError(f"{key!r} is not a valid key name: it must be one of an environment variable")
                put(key, value.encode())
    return data


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise CommandError(f"error reading {path}: {error.strerror.lower() if error.strerror else error}") from error


async def token(
    session: Session,
    words: Line = None,
    duration: Annotated[str, typer.Option("--duration", help="How long it is good for, such as 10m.")] = "0s",
    audiences: Annotated[list[str] | None, typer.Option("--audience", help="Whom it is for; may be repeated.")] = None,
    bound_kind: Annotated[str, typer.Option("--bound-object-kind", help="Pod, Secret or Node: it dies with that.")] = "",
    bound_name: Annotated[str, typer.Option("--bound-object-name")] = "",
    bound_uid: Annotated[str, typer.Option("--bound-object-uid")] = "",
    form: flags.Output = "",
) -> int:
    """Ask for a token of a service account: `kubeling create token builder --duration=10m`."""
    name, seconds = name_of(words), flags.duration(duration)
    if seconds < 0:
        raise CommandError("--duration must be positive")
    spec: Obj = {"audiences": audiences} if audiences else {}
    if seconds:
        spec["expirationSeconds"] = int(seconds)
    if bound_kind:
        if not bound_name:
            raise CommandError("--bound-object-name is required if --bound-object-kind is provided")
        spec["boundObjectRef"] = {"kind": bound_kind, "apiVersion": "v1", "name": bound_name}
        if bound_uid:
            spec["boundObjectRef"]["uid"] = bound_uid
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    try:
        answer = await session.client.create(SERVICE_ACCOUNTS, body, session.namespace, name=name, subresource="token")
    except ApiError as error:
        raise CommandError(f"failed to create token: {error.message}") from error
    if form:
        print(output.printer(form)(answer), end="")
    else:
        print(answer["status"]["token"])
    return 0
