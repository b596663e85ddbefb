"""The schema language of CustomResourceDefinitions: JSON Schema as OpenAPI 3.0 has it, with Kubernetes' extensions."""

from __future__ import annotations

from typing import Annotated, Required, TypedDict

from kubeling.api.types.declare import f
from kubeling.api.types.scalars import Double, Int64, Json, SchemaOrBool, SchemaOrList, SchemaOrStrings


class ExternalDocumentation(TypedDict, total=False):
    """Points at more to read."""

    description: Annotated[str, f(1, "What it is.")]
    url: Annotated[str, f(2, "Where it is.")]


class ValidationRule(TypedDict, total=False):
    """A rule in CEL."""

    rule: Annotated[Required[str], f(1, "The expression; must yield true. `self` is the value.")]
    message: Annotated[str, f(2, "What is said where it does not hold.")]
    messageExpression: Annotated[str, f(3, "CEL expression that yields the message; wins over message.")]
    reason: Annotated[
        str, f(4, "FieldValueInvalid, FieldValueForbidden, FieldValueRequired or FieldValueDuplicate.", pointer=True)
    ]
    fieldPath: Annotated[str, f(5, "Field that is to blame, relative to the value.")]
    optionalOldSelf: Annotated[bool, f(6, "Whether a rule on oldSelf runs on creation too; false by default.", pointer=True)]


_Words = TypedDict(
    "_Words",
    {
        "$schema": Annotated[str, f(2, "URI of the dialect; not used.", wire="schema")],
        "$ref": Annotated[str, f(3, "Points at another schema; not allowed in definitions.", pointer=True, wire="ref")],
        "not": Annotated["JSONSchemaProps", f(28, "A schema that the value must not match.", pointer=True)],
        "x-kubernetes-preserve-unknown-fields": Annotated[
            bool, f(38, "Keep fields that the schema does not name.", pointer=True, wire="xKubernetesPreserveUnknownFields")
        ],
        "x-kubernetes-embedded-resource": Annotated[
            bool, f(39, "The value is an object with apiVersion, kind and metadata.", wire="xKubernetesEmbeddedResource")
        ],
        "x-kubernetes-int-or-string": Annotated[
            bool, f(40, "The value is a whole number or a string.", wire="xKubernetesIntOrString")
        ],
        "x-kubernetes-list-map-keys": Annotated[
            list[str], f(41, "Fields that tell the items of a list of type map apart.", wire="xKubernetesListMapKeys")
        ],
        "x-kubernetes-list-type": Annotated[
            str, f(42, "atomic, set or map; atomic by default.", pointer=True, wire="xKubernetesListType")
        ],
        "x-kubernetes-map-type": Annotated[
            str, f(43, "granular or atomic; granular by default.", pointer=True, wire="xKubernetesMapType")
        ],
        "x-kubernetes-validations": Annotated[
            list[ValidationRule],
            f(44, "Rules in CEL.", merge_key="rule", keys="rule", wire="xKubernetesValidations"),
        ],
    },
    total=False,
)


class JSONSchemaProps(_Words, total=False):
    """A schema, or a part of one."""

    id: Annotated[str, f(1, "ID of the schema; not used.")]
    description: Annotated[str, f(4, "What the value means.")]
    type: Annotated[str, f(5, "object, array, string, integer, number or boolean.")]
    format: Annotated[str, f(6, "Refines the type, such as date-time or int32.")]
    title: Annotated[str, f(7, "A short name.")]
    default: Annotated[Json, f(8, "What is filled in where nothing is given.", pointer=True)]
    maximum: Annotated[Double, f(9, "Greatest number.", pointer=True)]
    exclusiveMaximum: Annotated[bool, f(10, "Whether maximum itself is too great; false by default.")]
    minimum: Annotated[Double, f(11, "Smallest number.", pointer=True)]
    exclusiveMinimum: Annotated[bool, f(12, "Whether minimum itself is too small; false by default.")]
    maxLength: Annotated[Int64, f(13, "Most characters.", pointer=True)]
    minLength: Annotated[Int64, f(14, "Fewest characters.", pointer=True)]
    pattern: Annotated[str, f(15, "Regular expression that the string must match.")]
    maxItems: Annotated[Int64, f(16, "Most items.", pointer=True)]
    minItems: Annotated[Int64, f(17, "Fewest items.", pointer=True)]
    uniqueItems: Annotated[bool, f(18, "Not allowed; use x-kubernetes-list-type set.")]
    multipleOf: Annotated[Double, f(19, "The number must be a multiple of this.", pointer=True)]
    enum: Annotated[list[Json], f(20, "Values that are allowed.", list_type="atomic")]
    maxProperties: Annotated[Int64, f(21, "Most properties.", pointer=True)]
    minProperties: Annotated[Int64, f(22, "Fewest properties.", pointer=True)]
    required: Annotated[list[str], f(23, "Properties that must be given.", list_type="atomic")]
    items: Annotated[SchemaOrList, f(24, "Schema of the items of a list.", pointer=True)]
    allOf: Annotated[list[JSONSchemaProps], f(25, "Schemas that must all match.", list_type="atomic")]
    oneOf: Annotated[list[JSONSchemaProps], f(26, "Schemas of which exactly one must match.", list_type="atomic")]
    anyOf: Annotated[list[JSONSchemaProps], f(27, "Schemas of which one must match.", list_type="atomic")]
    properties: Annotated[dict[str, JSONSchemaProps], f(29, "Schemas of the properties, by name.")]
    additionalProperties: Annotated[SchemaOrBool, f(30, "Schema of the other properties.", pointer=True)]
    patternProperties: Annotated[dict[str, JSONSchemaProps], f(31, "Not allowed in definitions.")]
    dependencies: Annotated[dict[str, SchemaOrStrings], f(32, "Not allowed in definitions.")]
    additionalItems: Annotated[SchemaOrBool, f(33, "Not allowed in definitions.", pointer=True)]
    definitions: Annotated[dict[str, JSONSchemaProps], f(34, "Not allowed in definitions.")]
    externalDocs: Annotated[ExternalDocumentation, f(35, "More to read.", pointer=True)]
    example: Annotated[Json, f(36, "An example; not used.", pointer=True)]
    nullable: Annotated[bool, f(37, "Whether null is allowed; false by default.")]
