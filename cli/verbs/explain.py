"""`explain`: what a field means, from the server's OpenAPI documents, in kubectl's layout."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Annotated

import typer

from kubeling.cli.session import CommandError, Obj, Session

_WIDTH = 80
_SCHEMAS = "#/components/schemas/"


async def explain(
    session: Session,
    path: Annotated[str, typer.Argument(metavar="TYPE[.FIELD…]")],
    recursive: Annotated[bool, typer.Option("--recursive", help="All fields below, names and types only.")] = False,
    api_version: Annotated[str, typer.Option("--api-version", help="Such as apps/v1.")] = "",
) -> int:
    """What a field means: `kubeling explain deployment.spec.strategy`."""
    word, *fields = path.split(".")
    try:
        resource = await session.resolve(word)
    except CommandError as error:
        raise CommandError(str(error).removeprefix("error: "), complete=True) from error
    group_version = api_version or resource.group_version
    group, _, version = group_version.rpartition("/")
    where = f"apis/{group_version}" if group else f"api/{group_version}"
    index = await session.client.request("GET", "/openapi/v3")
    if where not in index["paths"]:
        raise CommandError(f'couldn\'t find resource for "{group_version}, Resource={resource.plural}"')
    url, _, query = index["paths"][where]["serverRelativeURL"].partition("?")
    document = await session.client.request(
        "GET", url, params=dict(part.split("=", 1) for part in query.split("&") if "=" in part)
    )
    schemas = Schemas(document["components"]["schemas"])
    wanted = {"group": group, "version": version, "kind": resource.kind}
    schema = next((each for each in schemas.all.values() if wanted in (each.get("x-kubernetes-group-version-kind") or [])), None)
    if schema is None:
        raise CommandError(f"the server publishes no schema for {resource.kind} in {group_version}")
    if group:
        print(f"GROUP:      {group}")
    print(f"KIND:       {resource.kind}\nVERSION:    {version}\n")
    for field in fields:
        properties = schemas.properties(schema)
        if field not in properties:
            raise CommandError(f'field "{field}" does not exist')
        schema = properties[field]
    if fields:
        print(f"FIELD: {fields[-1]} <{schemas.type_of(schema)}>")
        print(_enumerated("\nENUM:\n", "    ", "\n", schemas.enum(schema)) + "\n")
    print("DESCRIPTION:")
    print("\n".join(_wrapped(text, 4) for text in schemas.descriptions(schema)) or "    <empty>")
    print("    ")
    if schemas.properties(schema):
        print("FIELDS:")
        _print_fields(schemas, schema, 2, recursive, ())
    print()
    return 0


def _print_fields(schemas: Schemas, schema: Obj, indent: int, recursive: bool, above: tuple[str, ...]) -> None:
    required = schemas.required(schema)
    for name, field in sorted(schemas.properties(schema).items()):
        print(f"{' ' * indent}{name}\t<{schemas.type_of(field)}>{' -required-' if name in required else ''}")
        if schemas.enum(field):
            print(_enumerated(f"{' ' * indent}enum: ", "", ", ", schemas.enum(field)))
        if not recursive:
            print(
                "\n".join(_wrapped(text, indent + 2) for text in list(schemas.descriptions(field))[:1] or ["<no description>"])
                + "\n"
            )
            continue
        target = schemas.element_name(field)
        if target not in above:
            _print_fields(schemas, field, indent + 2, True, (*above, target) if target else above)


def _enumerated(head: str, indent: str, between: str, values: list[str]) -> str:
    return head + between.join(indent + each for each in values) if values else ""


def _wrapped(text: str, indent: int) -> str:
    pad = " " * indent
    return "\n".join(
        textwrap.fill(line, _WIDTH, initial_indent=pad, subsequent_indent=pad, break_long_words=False, break_on_hyphens=False)
        for line in text.splitlines()
    )


class Schemas:
    """The schemas of one OpenAPI document, and what they say behind `$ref`, `allOf`, lists and maps."""

    def __init__(self, schemas: dict[str, Obj]) -> None:
        self.all = schemas

    def _layers(self, schema: Obj) -> Iterator[Obj]:
        """The schema and all that it consists of, outermost first: references, then the elements of a list or map."""
        yield schema
        if "$ref" in schema:
            yield from self._layers(self.all.get(schema["$ref"].removeprefix(_SCHEMAS), {}))
        for part in schema.get("allOf") or []:
            yield from self._layers(part)
        for key in ("items", "additionalProperties"):
            if isinstance(schema.get(key), dict):
                yield from self._layers(schema[key])

    def properties(self, schema: Obj) -> dict[str, Obj]:
        """The fields below: the object's own, or those of the elements of a list or map."""
        return next((each["properties"] for each in self._layers(schema) if each.get("properties")), {})

    def required(self, schema: Obj) -> list[str]:
        return next((each.get("required") or [] for each in self._layers(schema) if each.get("properties")), [])

    def descriptions(self, schema: Obj) -> Iterator[str]:
        return (each["description"] for each in self._layers(schema) if each.get("description"))

    def enum(self, schema: Obj) -> list[str]:
        return [str(each) for layer in self._layers(schema) for each in layer.get("enum") or []]

    def element_name(self, schema: Obj) -> str:
        """The innermost named schema, which ends the recursion where it comes again."""
        names = [each["$ref"] for each in self._layers(schema) if "$ref" in each]
        return str(names[-1]) if names else ""

    def type_of(self, schema: Obj) -> str:
        """`string`, `[]Container`, `map[string]Quantity`."""
        if "$ref" in schema:
            target = self.all.get(schema["$ref"].removeprefix(_SCHEMAS), {})
            own = target.get("type", "object")
            return str(own) if own != "object" else schema["$ref"].rpartition(".")[2]
        if schema.get("allOf"):
            return self.type_of(schema["allOf"][0])
        if schema.get("type") == "array":
            return f"[]{self.type_of(schema.get('items') or {})}"
        if isinstance(schema.get("additionalProperties"), dict):
            return f"map[string]{self.type_of(schema['additionalProperties'])}"
        kind = str(schema.get("type") or "Object")
        return "Object" if kind == "object" else kind
