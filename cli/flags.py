"""The flags that several verbs share, declared once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="[TYPE[.GROUP] [NAME…] | TYPE/NAME…]", help="What is meant: a kind and names, or kind/name pairs."),
]
Filenames = Annotated[
    list[str] | None, typer.Option("-f", "--filename", help="File, folder or - for standard input; may be repeated.")
]
Recursive = Annotated[bool, typer.Option("-R", "--recursive", help="Read folders with what is below them.")]
Kustomize = Annotated[str, typer.Option("-k", "--kustomize", help="A folder that kustomize builds; instead of -f.")]
Selector = Annotated[str, typer.Option("-l", "--selector", help="Label selector, such as app=web,tier!=db.")]
FieldSelector = Annotated[str, typer.Option("--field-selector", help="Field selector, such as status.phase=Running.")]
AllNamespaces = Annotated[bool, typer.Option("-A", "--all-namespaces", help="In every namespace.")]
All = Annotated[bool, typer.Option("--all", help="All objects of the kind.")]
Output = Annotated[
    str, typer.Option("-o", "--output", help="json, yaml, name, wide, jsonpath=…, custom-columns=…, go-template=…")
]
DryRun = Annotated[str, typer.Option("--dry-run", help="none, client (send nothing) or server (send, but keep nothing).")]
FieldManager = Annotated[str, typer.Option("--field-manager", help="The name under which fields are owned.")]
Validate = Annotated[
    str, typer.Option("--validate", help="strict (or true), warn, or ignore (or false): what to do about unknown fields.")
]
Local = Annotated[bool, typer.Option("--local", help="Do not ask the server: change what the files say, and show it.")]
Timeout = Annotated[str, typer.Option("--timeout", help="How long to wait, such as 30s, 5m; 0 does not wait.")]


def duration(text: str) -> float:
    """Seconds of a Go duration; a bare number is seconds."""
    from kubeling.api.times import parse_duration
    from kubeling.cli.session import CommandError

    try:
        return float(text) if text.lstrip("-").replace(".", "", 1).isdigit() else parse_duration(text).total_seconds()
    except ValueError as error:
        raise CommandError(f"{text!r} is not a duration: write 30s, 5m or 1h") from error


def write_params(dry_run: str, field_manager: str, validate: str | None = None) -> dict[str, str | None]:
    """Query parameters of a write. Raises CommandError for values that are none of the choices."""
    from kubeling.cli.session import CommandError

    if dry_run not in ("none", "client", "server"):
        raise CommandError(f'invalid dry-run value ({dry_run}). Must be "none", "server", or "client"')
    levels = {None: None, "true": "Strict", "strict": "Strict", "warn": "Warn", "false": "Ignore", "ignore": "Ignore"}
    if validate not in levels:
        raise CommandError(f"invalid - validate option {validate!r}; must be one of: strict (or true), warn, ignore (or false)")
    return {"fieldManager": field_manager, "dryRun": "All" if dry_run == "server" else None, "fieldValidation": levels[validate]}


def split_at_dashes(words: list[str] | None) -> tuple[list[str], bool, list[str]]:
    """The words before a bare ``--``, whether there was one, and those behind it."""
    found = words or []
    if "--" not in found:
        return found, False, []
    at = found.index("--")
    return found[:at], True, found[at + 1 :]


def pair(text: str) -> tuple[str, str]:
    """Both sides of KEY=VALUE. Raises CommandError."""
    from kubeling.cli.session import CommandError

    key, has_value, value = text.partition("=")
    if not has_value or not key:
        raise CommandError(f"{text!r} is not of the form KEY=VALUE")
    return key, value


def pairs(texts: Iterable[str]) -> dict[str, str]:
    """Several KEY=VALUE. Raises CommandError."""
    return dict(pair(each) for each in texts)
