"""The kubeconfig files of this user as one, and where each entry stands, for the verbs that change them."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from kubeling.cli.session import CommandError
from kubeling.client import kubeconfig
from kubeling.cluster.kubeconfig import changed

Obj = dict[str, Any]

#: Section → what its entries are called in the singular.
SECTIONS = {"clusters": "cluster", "users": "user", "contexts": "context"}
_EMBEDDABLE = ("certificate-authority", "client-certificate", "client-key")
#: Fields that are no text, by the section they are in.
_BOOLEANS = frozenset(("insecure-skip-tls-verify", "disable-compression", "provideClusterInfo"))


class Kubeconfigs:
    """Those that are there, read once; every change is written at once."""

    def __init__(self, explicit: str | None = None) -> None:
        """`explicit` is the one that --kubeconfig names."""
        self._files = [Path(explicit)] if explicit else kubeconfig.paths()
        self._documents: dict[Path, Obj] = {each: kubeconfig.read(each) for each in self._files if _has_text(each)}

    @property
    def default(self) -> Path:
        """Where what is new is written."""
        return next(iter(self._documents), self._files[-1])

    @property
    def current(self) -> str:
        """The name of the current context, or nothing."""
        return next((str(each["current-context"]) for each in self._documents.values() if each.get("current-context")), "")

    def entries(self, section: str) -> dict[str, Obj]:
        """Name → body; of two of a name the first counts."""
        found: dict[str, Obj] = {}
        for document in self._documents.values():
            for entry in document.get(section) or []:
                found.setdefault(str(entry.get("name")), entry.get(SECTIONS[section]) or {})
        return found

    def document(self, *, flatten: bool = False) -> Obj:
        """All as one kubeconfig, in kubectl's order; with what is in the files that it names where it is to be flat."""
        whole: Obj = {"apiVersion": "v1", "kind": "Config", "preferences": {}, "current-context": self.current}
        for section, singular in SECTIONS.items():
            entries = self.entries(section)
            whole[section] = [
                {"name": name, singular: self._flat(section, name, body) if flatten else dict(body)}
                for name, body in sorted(entries.items())
            ] or None
        return whole

    def _flat(self, section: str, name: str, body: Obj) -> Obj:
        folder = (self._file_of(section, name) or self.default).absolute().parent
        body = dict(body)
        for key in _EMBEDDABLE:
            if path := body.pop(key, ""):
                body.setdefault(f"{key}-data", base64.b64encode((folder / path).read_bytes()).decode())
        return body

    def _file_of(self, section: str, name: str) -> Path | None:
        for file, document in self._documents.items():
            if any(entry.get("name") == name for entry in document.get(section) or []):
                return file
        return None

    def set_current(self, name: str) -> None:
        """Make a context the current one, in the file that says which is."""
        file = next((each for each, document in self._documents.items() if document.get("current-context")), self.default)
        with changed(file) as document:
            _complete(document)
            document["current-context"] = name

    def put(self, section: str, name: str, fields: Obj) -> bool:
        """Set fields of an entry ("" takes one away), which is made where there is none. Returns whether there was one."""
        file, singular = self._file_of(section, name), SECTIONS[section]
        fields = {key: _beside(file or self.default, value) if key in _EMBEDDABLE else value for key, value in fields.items()}
        with changed(file or self.default) as document:
            _complete(document)
            entries = [dict(each) for each in document.get(section) or []]
            entry = next((each for each in entries if each.get("name") == name), None)
            if entry is None:
                entry = {"name": name}
                entries.append(entry)
            body = {**(entry.get(singular) or {}), **fields}
            entry[singular] = {key: value for key, value in body.items() if value != ""}
            document[section] = entries
        return file is not None

    def remove(self, section: str, name: str) -> Path | None:
        """Take an entry away. Returns the file that had it, None where none has."""
        file = self._file_of(section, name)
        if file is not None:
            with changed(file) as document:
                document[section] = [each for each in document.get(section) or [] if each.get("name") != name]
        return file

    def rename(self, section: str, old: str, new: str) -> None:
        """Give an entry another name; the current context stays the current one."""
        file = self._file_of(section, old)
        assert file is not None, "the caller has looked"
        with changed(file) as document:
            document[section] = [{**each, "name": new} if each.get("name") == old else each for each in document[section]]
        if self.current == old:
            self.set_current(new)

    def set_path(self, path: str, value: str | None) -> None:
        """Set the field at `contexts.NAME.namespace`, `users.NAME.exec.command`, `current-context` …; None takes it away. Raises CommandError."""
        section, _, rest = path.partition(".")
        if section == "current-context" and not rest:
            self.set_current(value or "")
            return
        if section not in SECTIONS or not rest:
            raise CommandError(
                f"unable to parse path {path!r} at {section!r}: write clusters, users or contexts, a name and a field"
            )
        name, fields = self._split(section, rest)
        if not fields:
            if value is None and self.remove(section, name) is not None:
                return
            raise CommandError(
                f"current map key `{name}` is invalid" if value is None else f"can't set a whole {SECTIONS[section]}"
            )
        body = _copied(self.entries(section).get(name) or {})
        if value is None and not body:
            raise CommandError(f"current map key `{name}` is invalid")
        place = body
        for each in fields[:-1]:
            place = place.setdefault(each, {})
        place[fields[-1]] = value == "true" if fields[-1] in _BOOLEANS else value or ""
        self.put(section, name, {fields[0]: body[fields[0]]})

    def _split(self, section: str, rest: str) -> tuple[str, list[str]]:
        """A name may have dots in it: one that is there counts first."""
        for name in sorted(self.entries(section), key=len, reverse=True):
            if rest == name or rest.startswith(f"{name}."):
                return name, [each for each in rest[len(name) + 1 :].split(".") if each]
        name, _, fields = rest.partition(".")
        return name, [each for each in fields.split(".") if each]


def _has_text(file: Path) -> bool:
    try:
        return bool(file.read_bytes().strip())
    except FileNotFoundError:
        return False


def _beside(file: Path, named: str) -> str:
    """The name of a file as it is written into the kubeconfig `file`: short where it lies in the same folder or below."""
    folder = file.absolute().parent
    path = Path(named)
    return str(path.relative_to(folder)) if named and path.is_relative_to(folder) else named


def _complete(document: Obj) -> None:
    for key, value in (("apiVersion", "v1"), ("kind", "Config"), ("preferences", {}), ("current-context", "")):
        document.setdefault(key, value)
    for section in SECTIONS:
        document.setdefault(section, [])


def _copied(body: Obj) -> Obj:
    return {key: _copied(value) if isinstance(value, dict) else value for key, value in body.items()}
