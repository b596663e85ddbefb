"""Manifests: from files, folders and standard input to objects."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kubeling.cli import dialect
from kubeling.cli.session import CommandError

Obj = dict[str, Any]

_ENDINGS = (".yaml", ".yml", ".json")
_MAX_BYTES = 64 * 1024 * 1024
_FETCH_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Manifest:
    """One object and the file that it came from."""

    obj: Obj
    source: str


def load(paths: Sequence[str], *, recursive: bool = False) -> list[Manifest]:
    """All objects of `paths` ("-" is standard input) in order. Raises CommandError that names the file and what is wrong with it."""
    found: list[Manifest] = []
    for path in paths:
        for name, text in _texts(path, recursive):
            found += [Manifest(obj, name) for obj in parse(text, name)]
    if not found:
        raise CommandError("no objects passed to apply" if paths else "must specify one of -f")
    return found


def parse(text: str, name: str) -> Iterator[Obj]:
    """The objects of one file; a List counts as its items."""
    try:
        documents = list(dialect.read_yaml(text))
    except yaml.YAMLError as error:
        raise CommandError(f"error parsing {name}: error converting YAML to JSON: {_words(error)}") from error
    for document in documents:
        if document is None:
            continue
        if not isinstance(document, dict):
            raise CommandError(f"{name}: an object is expected, found {type(document).__name__}")
        for field in ("apiVersion", "kind"):
            if not document.get(field):
                raise CommandError(
                    f'error validating "{name}": error validating data: {field} not set; if you choose to ignore these errors, turn validation off with --validate=false'
                )
        if document["kind"].endswith("List") and isinstance(document.get("items"), list):
            yield from document["items"]
        else:
            yield document


def _words(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f"yaml: line {mark.line + 1}: {getattr(error, 'problem', error)}" if mark is not None else f"yaml: {error}"


def _texts(path: str, recursive: bool) -> Iterator[tuple[str, str]]:
    if path == "-":
        yield "STDIN", sys.stdin.read(_MAX_BYTES)
        return
    if path.startswith(("http://", "https://")):
        yield path, _fetched(path)
        return
    place = Path(path)
    if place.is_dir():
        files = sorted(
            each for each in (place.rglob("*") if recursive else place.glob("*")) if each.suffix in _ENDINGS and each.is_file()
        )
        if not files:
            raise CommandError(f"error reading [{path}]: recognized file extensions are {list(_ENDINGS)}")
    elif place.exists():
        files = [place]
    else:
        raise CommandError(f'the path "{path}" does not exist')
    for file in files:
        try:
            yield str(file), file.read_text()
        except UnicodeDecodeError as error:
            raise CommandError(f"{file} is not UTF-8 text: {error}") from error


def _fetched(url: str) -> str:
    """A manifest from the web."""
    from urllib.error import HTTPError
    from urllib.request import urlopen

    try:
        with urlopen(url, timeout=_FETCH_SECONDS) as answer:
            body: bytes = answer.read(_MAX_BYTES)
            return body.decode()
    except HTTPError as error:
        raise CommandError(
            f'unable to read URL "{url}", server reported {error.code} {error.reason}, status code={error.code}'
        ) from error
    except (OSError, ValueError) as error:
        raise CommandError(f'unable to read URL "{url}": {getattr(error, "reason", error)}') from error
