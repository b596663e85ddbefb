"""Content negotiation: which of the answer's forms the client wants."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple

from kubeling.api import errors

JSON = "application/json"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"

Form = Literal["json", "yaml", "protobuf"]
_FORMS: dict[str, Form] = {
    JSON: "json",
    "application/*": "json",
    "*/*": "json",
    YAML: "yaml",
    "text/yaml": "yaml",
    PROTOBUF: "protobuf",
}
_PARTIAL = frozenset({"PartialObjectMetadata", "PartialObjectMetadataList"})


class Output(NamedTuple):
    """`transform` is empty, "Table", "PartialObjectMetadata" or an aggregated discovery kind; `version` and `group` are its own."""

    form: Form
    transform: str = ""
    version: str = ""
    group: str = ""

    @property
    def plain(self) -> bool:
        """Whether stored bytes can go out as they are."""
        return self.form == "json" and not self.transform

    @property
    def content_type(self) -> bytes:
        return {"json": b"application/json", "yaml": b"application/yaml", "protobuf": PROTOBUF.encode()}[self.form]


PLAIN = Output("json")


@lru_cache(maxsize=1024)
def accepted(header: str) -> tuple[Output, ...]:
    """What an Accept header asks for, best first; what nobody knows is left out."""
    found: list[tuple[float, int, Output]] = []
    for position, clause in enumerate(header.split(",")):
        media, *parameters = (part.strip() for part in clause.split(";"))
        form = _FORMS.get(media.lower())
        if form is None:
            continue
        values = dict(part.partition("=")[::2] for part in parameters)
        try:
            quality = float(values.get("q", "1"))
        except ValueError:
            quality = 1.0
        output = Output(form, values.get("as", ""), values.get("v", ""), values.get("g", ""))
        if quality > 0:
            found.append((-quality, position, output))
    return tuple(output for _, _, output in sorted(found))


@lru_cache(maxsize=1024)
def choose(header: str, protobuf: bool = True) -> Output:
    """For objects and lists; `protobuf` says whether they can be had so, as metadata always can. Raises 406 where nothing fits."""
    if not header:
        return PLAIN
    for output in accepted(header):
        if not output.transform:
            if output.form == "protobuf" and not protobuf:
                continue
            return output
        if output.group == "meta.k8s.io" and output.version in ("v1", "v1beta1"):
            if output.transform == "Table" and output.form == "json":
                return output
            if output.transform in _PARTIAL:
                return output._replace(transform="PartialObjectMetadata")
    raise errors.not_acceptable((JSON, YAML, PROTOBUF) if protobuf else (JSON, YAML))
