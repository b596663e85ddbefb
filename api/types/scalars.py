"""The scalars of the API: plain Python types, refined by how they are spelled in JSON and in protobuf."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from kubeling.api.types.declare import Scalar

Int32: TypeAlias = Annotated[int, Scalar("integer", "int32")]
Int64: TypeAlias = Annotated[int, Scalar("integer", "int64")]
Double: TypeAlias = Annotated[float, Scalar("number", "double")]
#: For messages that have a field called `bool`.
Boolean: TypeAlias = bool
#: Bytes in base64.
Bytes: TypeAlias = Annotated[str, Scalar("string", "byte")]
#: RFC 3339, to the second: 2026-11-20T23:54:00Z.
Time: TypeAlias = Annotated[str, Scalar("string", "date-time")]
#: RFC 3339, to the microsecond: 2026-11-20T23:54:00.000000Z.
MicroTime: TypeAlias = Annotated[str, Scalar("string", "micro-time")]
#: As Go writes it: 1h30m0s.
Duration: TypeAlias = Annotated[str, Scalar("string", "duration")]
#: A decimal number with a suffix: 500m, 1.5Gi, 2e3.
Quantity: TypeAlias = Annotated[str, Scalar("string", "quantity")]
#: A number, or text: the name of a port, a percentage.
IntOrString: TypeAlias = Annotated[int | str, Scalar("any", "int-or-string")]
#: An object of any kind.
RawExtension: TypeAlias = Annotated[dict[str, Any], Scalar("any", "raw")]
#: Any JSON value.
Json: TypeAlias = Annotated[Any, Scalar("any", "raw")]
#: A set of fields, as managedFields has it.
FieldsV1: TypeAlias = Annotated[dict[str, Any], Scalar("any", "fields-v1")]
#: A list of strings that is a message of its own in protobuf, so that maps can hold it.
StringBox: TypeAlias = Annotated[list[str], Scalar("list", "boxed")]
#: A schema, or a list of schemas; of one or of several in protobuf.
SchemaOrList: TypeAlias = Annotated[Any, Scalar("any", "schema-or-list")]
#: A schema, or true or false.
SchemaOrBool: TypeAlias = Annotated[Any, Scalar("any", "schema-or-bool")]
#: A schema, or the names of properties.
SchemaOrStrings: TypeAlias = Annotated[Any, Scalar("any", "schema-or-strings")]
