"""Configuration files in YAML: read strictly, so that a field with a slip in its name is an error and not a rule that never was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from kubeling.api.times import parse_duration
from kubeling.daemon.main import UsageError

_MISSING: Any = object()


class Section:
    """One mapping of a file. Each field is taken once; :meth:`end` refuses what nobody took."""

    def __init__(self, value: Any, place: str) -> None:
        self.place = place
        if not isinstance(value, Mapping):
            raise UsageError(f"{place}: has to be a mapping")
        self._left = dict(value)

    def wrong(self, field: str, why: str) -> UsageError:
        """The error about a field."""
        return UsageError(f"{self.place}{'.' if not self.place.endswith(': ') else ''}{field}: {why}")

    def _take(self, field: str, kind: type, words: str, default: Any) -> Any:
        value = self._left.pop(field, None)
        if value is None:
            if default is _MISSING:
                raise self.wrong(field, "Required value")
            return default
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.wrong(field, f"has to be {words}")
        return value

    def text(self, field: str, default: Any = _MISSING, *, one_of: Sequence[str] = ()) -> Any:
        """A text; without a default it has to be there."""
        found = self._take(field, str, "a text", default)
        if one_of and found not in one_of:
            raise self.wrong(field, f"Unsupported value: {found!r}: supported values: {', '.join(one_of)}")
        return found

    def flag(self, field: str, default: bool) -> bool:
        """True or false."""
        return bool(self._take(field, bool, "true or false", default))

    def seconds(self, field: str, default: float) -> float:
        """A Go duration."""
        text = self._take(field, str, "a time such as 30s", None)
        if text is None:
            return default
        try:
            found: timedelta = parse_duration(text)
        except ValueError as error:
            raise self.wrong(field, f"{text!r} is not a time such as 2m or 30s") from error
        return found.total_seconds()

    def texts(self, field: str) -> tuple[str, ...]:
        """A list of texts, empty where it is not there."""
        found = self._take(field, list, "a list", [])
        if not all(isinstance(each, str) for each in found):
            raise self.wrong(field, "has to be a list of texts")
        return tuple(found)

    def section(self, field: str) -> Section | None:
        """A mapping within; None where it is not there."""
        value = self._left.pop(field, None)
        return None if value is None else Section(value, f"{self.place}{'.' if not self.place.endswith(': ') else ''}{field}")

    def sections(self, field: str) -> list[Section]:
        """The mappings of a list."""
        dot = "" if self.place.endswith(": ") else "."
        return [Section(each, f"{self.place}{dot}{field}[{at}]") for at, each in enumerate(self._take(field, list, "a list", []))]

    def end(self) -> None:
        """All fields were taken, or there are some that do not exist."""
        if self._left:
            raise UsageError(f"{self.place.removesuffix(': ')}: unknown field {', '.join(map(repr, sorted(self._left)))}")


def load(flag: str, path: str, kind: str, versions: Sequence[str]) -> Section:
    """The document of a file, whose apiVersion and kind have been looked at. UsageError where it is another."""
    import yaml

    place = f"{flag} {path}"
    try:
        document = yaml.safe_load(Path(path).read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{place} cannot be read: {error}") from error
    found = Section(document, f"{place}: ")
    if found.text("kind", "") != kind:
        raise UsageError(f"{place}: it has to be of kind {kind}")
    found.text("apiVersion", one_of=versions)
    return found
