"""What every kubectl verb needs: the connection, the namespace, and what the words that people type for kinds mean."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kubeling.api.errors import ApiError
from kubeling.api.resources import Resource, Subresource
from kubeling.cli import flags
from kubeling.cli.globalflags import options
from kubeling.client import kubeconfig
from kubeling.client.kubeconfig import ClientConfig
from kubeling.client.rest import Client, ConnectionFailed

Obj = dict[str, Any]

_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"


class CommandError(Exception):
    """The command cannot do what was asked; the text is what the user sees after "error: ", or, if it is `complete`, all of it."""

    def __init__(self, text: str, *, complete: bool = False) -> None:
        super().__init__(text if complete else f"error: {text}")


@dataclass(slots=True)
class Session:
    """One verb's run."""

    client: Client
    namespace: str
    #: Whether the namespace was given on the line: a manifest that names another is then an error.
    namespace_given: bool = False
    _kinds: list[Resource] = field(default_factory=list)

    async def kinds(self) -> list[Resource]:
        """Every resource that the server serves, the preferred version of each first; asked once a run."""
        if not self._kinds:
            for path in ("/api", "/apis"):
                document = await self.client.request("GET", path, headers={"accept": _AGGREGATED})
                self._kinds += _from_discovery(document)
        return self._kinds

    async def resolve(self, word: str) -> Resource:
        """`po`, `pod`, `pods`, `Pod`, `deployments.apps`, `deployments.v1.apps` → the resource. Raises CommandError."""
        plain, _, rest = word.lower().partition(".")
        version, _, group = rest.partition(".")
        for kind in await self.kinds():
            names = {kind.plural, kind.singular_name, kind.kind.lower(), *kind.short_names}
            if plain not in names:
                continue
            if (
                not rest
                or kind.group == rest
                or (kind.group == group and kind.version == version)
                or (kind.group.startswith(rest) and "." not in rest)
            ):
                return kind
        raise CommandError(f'the server doesn\'t have a resource type "{word}"')

    async def categories(self, word: str) -> list[Resource]:
        """The resources of a category such as `all`; empty where it is none."""
        seen: dict[tuple[str, str], Resource] = {}
        for kind in await self.kinds():
            if word in kind.categories:
                seen.setdefault((kind.group, kind.plural), kind)
        return list(seen.values())

    def namespace_for(self, resource: Resource, *, everywhere: bool = False) -> str | None:
        return None if everywhere or not resource.namespaced else self.namespace


def _from_discovery(document: Obj) -> list[Resource]:
    found: list[Resource] = []
    for item in document.get("items") or []:
        group = (item.get("metadata") or {}).get("name", "")
        for version in item.get("versions") or []:
            for each in version.get("resources") or []:
                kind = each.get("responseKind") or {}
                subresources = tuple(
                    Subresource(
                        sub["subresource"], tuple(sub.get("verbs") or ()), (sub.get("responseKind") or {}).get("kind", "")
                    )
                    for sub in each.get("subresources") or []
                )
                found.append(
                    Resource(
                        group,
                        version["version"],
                        each["resource"],
                        kind.get("kind", ""),
                        namespaced=each.get("scope") == "Namespaced",
                        short_names=tuple(each.get("shortNames") or ()),
                        categories=tuple(each.get("categories") or ()),
                        verbs=tuple(each.get("verbs") or ()),
                        subresources=subresources,
                        singular=each.get("singularResource", ""),
                    )
                )
    return found


def run(body: Callable[[Session], Coroutine[Any, Any, int | None]]) -> int:
    """Open a session, run `body`, and put what goes wrong into the words that kubectl uses. Returns the exit status."""

    async def main() -> int:
        config = connection()
        limit = flags.duration(options.request_timeout) if options.request_timeout else 0
        warnings: list[str] = []

        def warn(text: str) -> None:
            warnings.append(text)
            print(f"Warning: {text}", file=sys.stderr)

        async with Client(config, user_agent="kubeling", on_warning=warn) as client:
            session = Session(client, options.namespace or config.namespace, options.namespace is not None)
            within = asyncio.timeout(limit or None)
            try:
                async with within:
                    status = await body(session) or 0
            except TimeoutError:
                if within.expired():
                    raise CommandError(f"the server did not answer within --request-timeout={options.request_timeout}") from None
                raise
        if warnings and options.warnings_as_errors == "true":
            raise CommandError(f"{len(warnings)} warning{'s' if len(warnings) > 1 else ''} received")
        return status

    return run_offline(lambda: asyncio.run(main()))


def run_offline(body: Callable[[], int]) -> int:
    """Run a verb, and put what goes wrong into the words that kubectl uses. Returns the exit status."""
    try:
        return body()
    except ApiError as error:
        print(words_of(error), file=sys.stderr)
    except ConnectionFailed as error:
        print(f"error: cannot reach the cluster: {error}. Is it up? Try: kubeling status", file=sys.stderr)
    except BrokenPipeError:
        raise
    except TimeoutError:
        print("error: timed out waiting for the condition", file=sys.stderr)
    except CommandError as error:
        print(error, file=sys.stderr)
    except (kubeconfig.KubeconfigError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    return 1


def connection() -> ClientConfig:
    """Whom to talk to and as whom: what the kubeconfig says, with what the line says in its place. Raises KubeconfigError."""
    config = kubeconfig.load(options.kubeconfig, options.context, cluster=options.cluster, user=options.user)
    if options.server:
        config = replace(config, servers=(options.server.rstrip("/"),))
    if options.token:
        config = replace(config, token=options.token, cert_pem="", key_pem="")
    if options.username:
        config = replace(config, basic=(options.username, options.password or ""), token="")
    if options.certificate_authority:
        config = replace(config, ca_pem=Path(options.certificate_authority).read_text())
    if options.client_certificate and options.client_key:
        pair = (Path(options.client_certificate).read_text(), Path(options.client_key).read_text())
        config = replace(config, cert_pem=pair[0], key_pem=pair[1])
    if options.tls_server_name:
        config = replace(config, tls_server_name=options.tls_server_name)
    if options.insecure_skip_tls_verify == "true":
        config = replace(config, insecure=True, ca_pem="")
    if options.as_user or options.as_group or options.as_uid:
        if not options.as_user:
            raise CommandError("requesting uid, groups or user-extra without impersonating a user")
        extra: dict[str, list[str]] = {}
        for each in options.as_user_extra:
            key, _, value = each.partition("=")
            extra.setdefault(key, []).append(value)
        asked = kubeconfig.impersonation(options.as_user, options.as_group, options.as_uid or "", extra)
        config = replace(config, impersonation=asked)
    return config


def words_of(error: ApiError, doing: str = "") -> str:
    """A refusal as kubectl shows it; `doing` is such as `error when creating "web.yaml"`."""
    if error.code == 401:
        return "error: You must be logged in to the server (Unauthorized)"
    details = error.status.get("details") or {}
    if error.reason == "Invalid" and error.causes:
        named = details.get("kind") or details.get("name")
        head = (
            f'The {details.get("kind", "object")} "{details.get("name", "")}" is invalid:' if named else "The request is invalid:"
        )
        lines = [f"{cause.get('field', '')}: {cause.get('message', '')}" for cause in error.causes]
        return f"{head} {lines[0]}" if len(lines) == 1 else "\n".join([head + " ", *(f"* {line}" for line in lines)])
    reason = f" ({error.reason})" if error.reason else ""
    return f"Error from server{reason}: {doing + ': ' if doing else ''}{error.message}"
