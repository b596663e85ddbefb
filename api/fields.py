"""Field selectors: `status.phase!=Running,spec.nodeName=n1`. Which fields a kind can be selected by is in its strategy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class FieldRequirement:
    """One field equal, or not equal, to one value."""

    field: str
    value: str
    negated: bool = False

    def __str__(self) -> str:
        escaped = self.value.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")
        return f"{self.field}{'!=' if self.negated else '='}{escaped}"


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """All of its requirements; none selects everything."""

    requirements: tuple[FieldRequirement, ...] = ()

    def matches(self, fields: Mapping[str, str]) -> bool:
        """Whether an object with these selectable fields is selected; an absent field counts as empty."""
        return all((fields.get(each.field, "") == each.value) != each.negated for each in self.requirements)

    @property
    def everything(self) -> bool:
        return not self.requirements

    def exact(self, field: str) -> str | None:
        """The value to which it pins the field, if it does."""
        return next((each.value for each in self.requirements if each.field == field and not each.negated), None)

    def unsupported(self, known: Iterable[str]) -> str | None:
        """The first field that is none of the `known` ones; the API answers 400 `field label not supported: …`."""
        names = frozenset(known)
        return next((each.field for each in self.requirements if each.field not in names), None)

    def __str__(self) -> str:
        return ",".join(str(each) for each in self.requirements)


EVERYTHING = FieldSelector()
#: Selectors up to this length are kept parsed; a client cannot fill the memory with long ones.
_REMEMBERED = 512


def parse(text: str) -> FieldSelector:
    """The text form; `\\,`, `\\=` and `\\\\` stand for themselves in values. ValueError with upstream's words."""
    return _remembered(text) if len(text) <= _REMEMBERED else _parse(text)


@lru_cache(maxsize=512)
def _remembered(text: str) -> FieldSelector:
    return _parse(text)


def _parse(text: str) -> FieldSelector:
    found: list[FieldRequirement] = []
    for term in _split(text):
        if not term:
            continue
        field, operator, raw = _operation(term)
        if not operator:
            raise ValueError(f"invalid selector: '{text}'; can't understand '{term}'")
        found.append(FieldRequirement(field, _unescape(raw), operator == "!="))
    return FieldSelector(tuple(found))


def _split(text: str) -> list[str]:
    terms, at, start = [], 0, 0
    while at < len(text):
        if text[at] == "\\":
            at += 1
        elif text[at] == ",":
            terms.append(text[start:at])
            start = at + 1
        at += 1
    return [*terms, text[start:]]


def _operation(term: str) -> tuple[str, str, str]:
    for at in range(len(term)):
        for operator in ("!=", "==", "="):
            if term.startswith(operator, at):
                return term[:at], operator, term[at + len(operator) :]
    return term, "", ""


def _unescape(raw: str) -> str:
    out, at = [], 0
    while at < len(raw):
        if raw[at] == "\\":
            at += 1
            if at == len(raw) or raw[at] not in "\\,=":
                raise ValueError(f"invalid field selector: invalid escape sequence: {raw[at - 1 : at + 1]}")
        elif raw[at] in ",=":
            raise ValueError(f"invalid field selector: unescaped character in value: {raw[at]}")
        out.append(raw[at])
        at += 1
    return "".join(out)
