"""The apiserver's door: what comes in as JSON is checked here, once, and is a well-formed object afterwards.

Three steps, of which most objects need only the middle one. :mod:`.body` turns bytes into Python values. :mod:`.door` has pydantic's core check
them against the kind's schema; it is built from the same `TypedDict`s as everything else, but by way of
:class:`~kubeling.api.schema.Schema` and not of a `TypeAdapter`, which would take a second of start-up for the same validator. What that refuses
goes through :mod:`.tidy`, which drops nulls and unknown fields and says which, and is tried again.

What is absent stays absent: defaults are :mod:`kubeling.api.defaults`' business, and missing fields :mod:`kubeling.api.validation`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from kubeling.api.builtin import schema_of
from kubeling.api.decode.body import loads_json
from kubeling.api.decode.door import Mismatch, check
from kubeling.api.decode.errors import DecodeError, cannot_handle
from kubeling.api.decode.tidy import tidy

__all__ = ["DecodeError", "decode", "loads_json", "warm_up"]


def decode(
    obj: Any, api_version: str, kind: str, *, strict: bool = False, duplicates: Sequence[str] = ()
) -> tuple[dict[str, Any], list[str]]:
    """The object as it is kept, and what was odd about it, in upstream's words: `unknown field "spec.foo"`.

    Nulls and unknown fields are dropped, quantities and times are put into their canonical form; `obj` itself is not changed. `duplicates` are
    the findings of :func:`loads_json` and are put before the others. With `strict` any finding is an error.

    Raises DecodeError (a 400) for a value of the wrong type, KeyError for a kind that is not built in.
    """
    schema = schema_of(api_version, kind)
    problems = list(duplicates)
    try:
        checked = check(schema, obj)
    except Mismatch:
        try:
            obj = tidy(schema, obj, problems)
            checked = check(schema, obj)
        except Mismatch as error:
            raise cannot_handle(api_version, kind, str(error)) from None
        except RecursionError:
            raise cannot_handle(api_version, kind, "json: exceeded max depth") from None
    if strict and problems:
        raise cannot_handle(api_version, kind, f"strict decoding error: {', '.join(problems)}")
    return checked, problems


def warm_up(kinds: Iterable[tuple[str, str]]) -> None:
    """Make what :func:`decode` needs for these (apiVersion, kind) ahead of their first use: some 50 ms for the first, a few for each other."""
    for api_version, kind in kinds:
        check(schema_of(api_version, kind), {})
