"""Kustomization files and what they name, read from folders of this machine. A file may only name files in or below its own folder, and any folder."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from kubeling.cli import dialect
from kubeling.cli.kustomization.problems import KustomizationError

Map = dict[str, Any]

NAMES = ("kustomization.yaml", "kustomization.yml", "Kustomization")
API_VERSIONS = {"Kustomization": "kustomize.config.k8s.io/v1beta1", "Component": "kustomize.config.k8s.io/v1alpha1"}
_LISTS = (
    "resources",
    "bases",
    "components",
    "labels",
    "images",
    "replicas",
    "configMapGenerator",
    "secretGenerator",
    "patches",
    "patchesStrategicMerge",
    "patchesJson6902",
)
_MAPS = ("commonLabels", "commonAnnotations", "generatorOptions", "sortOptions", "metadata")
_TEXTS = ("apiVersion", "kind", "namespace", "namePrefix", "nameSuffix")
#: What kustomize knows and we do not.
UNSUPPORTED = (
    "replacements",
    "vars",
    "crds",
    "configurations",
    "generators",
    "transformers",
    "validators",
    "helmCharts",
    "helmGlobals",
    "helmChartInflationGenerator",
    "inventory",
    "openapi",
    "buildMetadata",
    "imageTags",
)
_DEPRECATED = {"bases": "resources", "commonLabels": "labels", "patchesStrategicMerge": "patches", "patchesJson6902": "patches"}
_REMOTE = re.compile(
    r"[a-z][a-z0-9+.-]*://|git::|git@|[\w.-]+@[\w.-]+:|(github|gitlab)\.com[/:]|[^?]*\?(ref|version|timeout|submodules)="
)
_MAX_BYTES = 64 * 1024 * 1024


class _Reader(dialect.Reader):
    """YAML in which only true and false are booleans: `on` and `yes` are text. Numbers are JSON's, in which 1.0 is 1."""

    def _number(self, node: Any) -> Any:
        value = self.construct_yaml_float(node)
        return int(value) if value.is_integer() and abs(value) < 1e21 else value

    def _octal(self, node: Any) -> int:
        return int(node.value.replace("_", ""), 8)


_Reader.yaml_implicit_resolvers = {
    letter: [(tag, form) for tag, form in pairs if tag != "tag:yaml.org,2002:bool"]
    for letter, pairs in dialect.Reader.yaml_implicit_resolvers.items()
}
_Reader.add_constructor("tag:yaml.org,2002:float", _Reader._number)
_Reader.add_constructor("!octal", _Reader._octal)
_Reader.add_implicit_resolver("!octal", re.compile(r"^[-+]?0o[0-7_]+$"), list("-+0"))
_Reader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


def documents(text: str, source: str) -> list[Any]:
    """The YAML documents of a text, without the empty ones. Raises KustomizationError."""
    try:
        return [each for each in yaml.load_all(text, Loader=_Reader) if each is not None]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark is not None else ""
        raise KustomizationError(
            f"MalformedYAMLError: yaml: {where}{getattr(error, 'problem', error)} in File: {source}"
        ) from error


def objects(text: str, source: str) -> Iterator[Map]:
    """The objects of a text; a List counts as its items. Raises KustomizationError."""
    for document in documents(text, source):
        if not isinstance(document, dict):
            raise KustomizationError(f"{source}: an object is expected, found {type(document).__name__}")
        if str(document.get("kind") or "").endswith("List") and isinstance(document.get("items"), list):
            yield from document["items"]
            continue
        if not document.get("kind"):
            raise KustomizationError(f"missing Resource metadata: {source}: an object without kind")
        if not (document.get("metadata") or {}).get("name"):
            raise KustomizationError(f"missing metadata.name in object {document['kind']} of {source}")
        yield document


class Folder:
    """One folder of a build; `above` are those that led here, and `restricted` says that files have to be in or below it."""

    def __init__(self, root: Path, above: tuple[Path, ...] = (), *, restricted: bool = True) -> None:
        self.root = root
        self.above = above
        self.restricted = restricted

    def read(self, name: str) -> bytes:
        """A file in or below the folder. Raises KustomizationError."""
        self._demand_local(name)
        path = (self.root / name).resolve()
        if self.restricted and not path.is_relative_to(self.root):
            raise KustomizationError(f"security; file '{path}' is not in or below '{self.root}'")
        try:
            if path.stat().st_size > _MAX_BYTES:
                raise KustomizationError(f"file '{path}' is larger than {_MAX_BYTES} bytes")
            return path.read_bytes()
        except OSError as error:
            raise KustomizationError(f"cannot read '{path}': {(error.strerror or str(error)).lower()}") from error

    def text(self, name: str) -> str:
        """Its text. Raises KustomizationError."""
        try:
            return self.read(name).decode()
        except UnicodeDecodeError as error:
            raise KustomizationError(f"file '{name}' is no UTF-8 text") from error

    def is_folder(self, name: str) -> bool:
        """Whether a name that the file gives is a folder's."""
        self._demand_local(name)
        return (self.root / name).is_dir()

    def below(self, name: str) -> Folder:
        """A folder that this one builds on. Raises KustomizationError."""
        root = (self.root / name).resolve()
        if root == self.root or root in self.above or self.root.is_relative_to(root):
            raise KustomizationError(f"cycle detected: candidate root '{root}' contains visited root '{self.root}'")
        return Folder(root, (*self.above, self.root), restricted=self.restricted)

    def _demand_local(self, name: str) -> None:
        if _REMOTE.match(name):
            raise KustomizationError(
                f"'{name}' is remote: kubeling builds from folders of this machine only. Fetch it first, or: "
                f"kubectl kustomize '{self.root}' | kubeling apply -f -"
            )

    def kustomization(self) -> Map:
        """What the folder's kustomization file says, checked. Raises KustomizationError."""
        found = [name for name in NAMES if (self.root / name).is_file()]
        if not found:
            raise KustomizationError(f"unable to find one of {_spoken(NAMES)} in directory '{self.root}'")
        if len(found) > 1:
            raise KustomizationError(f"Found multiple kustomization files under: {self.root}")
        read = documents(self.text(found[0]), str(self.root / found[0]))
        if not read:
            raise KustomizationError("kustomization.yaml is empty")
        if len(read) > 1 or not isinstance(read[0], dict):
            raise KustomizationError(f"invalid Kustomization: {self.root / found[0]} has to hold one object")
        return _checked(read[0])


def _checked(said: Map) -> Map:
    kind = said.get("kind") or "Kustomization"
    if kind not in API_VERSIONS:
        raise KustomizationError("kind should be Kustomization or Component")
    if said.get("apiVersion") and said["apiVersion"] != API_VERSIONS[kind]:
        raise KustomizationError(f"apiVersion for {kind} should be {API_VERSIONS[kind]}")
    for name, value in said.items():
        if name in UNSUPPORTED:
            raise KustomizationError(f"the field '{name}' of kustomization files is not supported; kubectl kustomize knows it")
        expected = list if name in _LISTS else dict if name in _MAPS else str if name in _TEXTS else None
        if expected is None:
            raise KustomizationError(f'invalid Kustomization: json: unknown field "{name}"')
        if value is not None and not isinstance(value, expected):
            shown = {list: "a list", dict: "a map", str: "text"}[expected]
            raise KustomizationError(f"invalid Kustomization: {name} has to be {shown}")
    return {key: value for key, value in said.items() if value is not None}


def warnings(said: Map) -> list[str]:
    """What is to be said of fields that have successors."""
    return [
        f"# Warning: '{old}' is deprecated. Please use '{new}' instead. "
        "Run 'kustomize edit fix' to update your Kustomization automatically."
        for old, new in _DEPRECATED.items()
        if said.get(old)
    ]


def known(entry: Any, field: str, *names: str) -> Map:
    """An entry of a list of the file, which has no other members than these. Raises KustomizationError."""
    if not isinstance(entry, dict):
        raise KustomizationError(f"invalid Kustomization: an entry of {field} has to be a map")
    for name in entry:
        if name not in names:
            raise KustomizationError(f'invalid Kustomization: json: unknown field "{name}" in {field}')
    return entry


def _spoken(names: tuple[str, ...]) -> str:
    return ", ".join(f"'{each}'" for each in names[:-1]) + f" or '{names[-1]}'"
