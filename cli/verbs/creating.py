"""What `create KIND` shares: a maker turns its own flags into an object; the flags that all have, the request and the line that tells are added."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

import typer

from kubeling.api.errors import ApiError
from kubeling.cli import flags
from kubeling.cli.manifests import Manifest
from kubeling.cli.report import Reporter
from kubeling.cli.session import CommandError, Obj, Session
from kubeling.cli.targets import resource_of_manifest

Line = Annotated[list[str] | None, typer.Argument(metavar="NAME")]
Dashed = Annotated[list[str] | None, typer.Argument(metavar="NAME [-- COMMAND ARG…]")]
Images = Annotated[list[str] | None, typer.Option("--image", help="What to run.")]
SaveConfig = Annotated[bool, typer.Option("--save-config", help="Remember the object in an annotation, for `apply`.")]


def name_of(words: list[str] | None) -> str:
    """The one name on the line. Raises CommandError."""
    found = flags.split_at_dashes(words)[0]
    if len(found) != 1:
        raise CommandError(f"exactly one NAME is required, got {len(found)}")
    return found[0]


def made(api_version: str, kind: str, name: str, **rest: object) -> Obj:
    """An object with a name and nothing else but `rest`."""
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, **rest}


def container_name(image: str) -> str:
    """What kubectl calls the container of an image."""
    base = image.rpartition("/")[2].partition("@")[0].partition(":")[0].lower()
    return re.sub(r"[^a-z0-9-]", "-", base).strip("-") or "main"


def one_image(images: list[str] | None) -> str:
    """The image, which must be given."""
    if not images:
        raise CommandError('required flag(s) "image" not set')
    return images[0]


def _called(obj: Obj) -> str:
    """What kubectl calls an object that could not be made."""
    kind: str = obj["kind"]
    if kind == "Service":
        return f"{obj['spec']['type']} service:"
    return {"Secret": "secret", "ResourceQuota": "quota:", "PodDisruptionBudget": "poddisruptionbudgets:"}.get(
        kind, f"{kind.lower()}:"
    )


def creator(make: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, int]]:
    """Make a verb of a maker. One that is a coroutine function gets the Session first."""
    online = inspect.iscoroutinefunction(make)

    async def command(
        session: Session,
        form: flags.Output = "",
        dry_run: flags.DryRun = "none",
        field_manager: flags.FieldManager = "kubectl-create",
        validate: flags.Validate = "strict",
        save_config: SaveConfig = False,
        **own: Any,
    ) -> int:
        params = flags.write_params(dry_run, field_manager, validate)
        obj: Obj = await make(session, **own) if online else make(**own)
        resource = await resource_of_manifest(session, Manifest(obj, ""))
        namespace = session.namespace_for(resource)
        if namespace and dry_run == "client" and session.namespace_given:
            obj["metadata"]["namespace"] = namespace
        if save_config:
            from kubeling.cli.verbs.apply import with_last_applied

            obj = with_last_applied(obj, namespace)
        if dry_run != "client":
            try:
                obj = await session.client.create(resource, obj, namespace, params=params)
            except ApiError as error:
                if resource.kind in ("Namespace", "Role", "ClusterRole") or error.code == 401:
                    raise
                raise CommandError(f"failed to create {_called(obj)} {error.message}") from error
        Reporter(form, dry_run=dry_run).done(resource, obj, "created")
        return 0

    shared = list(inspect.signature(command, eval_str=True).parameters.values())
    own = list(inspect.signature(make, eval_str=True).parameters.values())[online:]
    command.__signature__ = inspect.Signature([shared[0], *own, *shared[1:-1]])  # type: ignore[attr-defined]
    command.__name__, command.__doc__ = make.__name__, make.__doc__
    return command
