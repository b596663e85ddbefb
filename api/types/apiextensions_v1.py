"""Kinds that users define: CustomResourceDefinition and what it is made of, but for the schema itself."""

from __future__ import annotations

from typing import Annotated, Required, TypedDict

from kubeling.api.types.apiextensions_schema_v1 import JSONSchemaProps
from kubeling.api.types.declare import f
from kubeling.api.types.meta_v1 import KubeList, KubeObject, Status, Typed
from kubeling.api.types.scalars import Bytes, Int32, RawExtension, Time


class CustomResourceDefinitionNames(TypedDict, total=False):
    """What a kind is called."""

    plural: Annotated[Required[str], f(1, "Plural name, as in URLs; in lower case.")]
    singular: Annotated[str, f(2, "Singular name; the kind in lower case by default.")]
    shortNames: Annotated[list[str], f(3, "Short names for the command line.", list_type="atomic")]
    kind: Annotated[Required[str], f(4, "Kind of the objects, in CamelCase and singular.")]
    listKind: Annotated[str, f(5, "Kind of lists; <kind>List by default.")]
    categories: Annotated[list[str], f(6, "Groups of resources that it is in, such as all.", list_type="atomic")]


class CustomResourceColumnDefinition(TypedDict, total=False):
    """A column that is shown for an object."""

    name: Annotated[Required[str], f(1, "Heading of the column.")]
    type: Annotated[Required[str], f(2, "OpenAPI type of the values, or date.")]
    format: Annotated[str, f(3, "OpenAPI format of the values; name marks the column with the object's name.")]
    description: Annotated[str, f(4, "What the column shows.")]
    priority: Annotated[Int32, f(5, "Columns with 0 are always shown, others only in the wide form.")]
    jsonPath: Annotated[Required[str], f(6, "Where the value stands in the object, as a simple JSON path.")]


class SelectableField(TypedDict, total=False):
    """A field that field selectors may name."""

    jsonPath: Annotated[Required[str], f(1, "Where the value stands in the object, as a simple JSON path.")]


class CustomResourceSubresourceStatus(TypedDict, total=False):
    """Gives objects a status that is written apart."""


class CustomResourceSubresourceScale(TypedDict, total=False):
    """Gives objects a size that is written apart."""

    specReplicasPath: Annotated[Required[str], f(1, "Where the wanted size stands, beneath .spec.")]
    statusReplicasPath: Annotated[Required[str], f(2, "Where the actual size stands, beneath .status.")]
    labelSelectorPath: Annotated[
        str, f(3, "Where the selector of the pods stands in text form; needed for autoscaling.", pointer=True)
    ]


class CustomResourceSubresources(TypedDict, total=False):
    """What may be written apart."""

    status: Annotated[CustomResourceSubresourceStatus, f(1, "The status.", pointer=True)]
    scale: Annotated[CustomResourceSubresourceScale, f(2, "The size.", pointer=True)]


class CustomResourceValidation(TypedDict, total=False):
    """How objects are checked."""

    openAPIV3Schema: Annotated[JSONSchemaProps, f(1, "Schema of the objects, as OpenAPI 3.0 has it.", pointer=True)]


class CustomResourceDefinitionVersion(TypedDict, total=False):
    """A version of a kind."""

    name: Annotated[Required[str], f(1, "Name of the version, such as v1beta1.")]
    served: Annotated[Required[bool], f(2, "Whether it is served.")]
    storage: Annotated[Required[bool], f(3, "Whether objects are stored in it; true for exactly one version.")]
    schema: Annotated[CustomResourceValidation, f(4, "How objects are checked, pruned and defaulted.", pointer=True)]
    subresources: Annotated[CustomResourceSubresources, f(5, "What may be written apart; nothing by default.", pointer=True)]
    additionalPrinterColumns: Annotated[
        list[CustomResourceColumnDefinition], f(6, "Columns that are shown; the age by default.", list_type="atomic")
    ]
    deprecated: Annotated[bool, f(7, "Whether clients are warned; false by default.")]
    deprecationWarning: Annotated[str, f(8, "What they are told; a standard text by default.", pointer=True)]
    selectableFields: Annotated[list[SelectableField], f(9, "Fields that field selectors may name.", list_type="atomic")]


class ServiceReference(TypedDict, total=False):
    """Points at a Service that answers."""

    namespace: Annotated[Required[str], f(1, "Namespace of the Service.")]
    name: Annotated[Required[str], f(2, "Name of the Service.")]
    path: Annotated[str, f(3, "Path of the URL.", pointer=True)]
    port: Annotated[Int32, f(4, "Port of the Service; 443 by default.", pointer=True)]


class WebhookClientConfig(TypedDict, total=False):
    """How to reach a webhook; url or service is set."""

    service: Annotated[ServiceReference, f(1, "A Service of the cluster.", pointer=True)]
    caBundle: Annotated[Bytes, f(2, "Certificates in PEM (base64) that the server's must go back to; the system's by default.")]
    url: Annotated[str, f(3, "URL, https only.", pointer=True)]


class WebhookConversion(TypedDict, total=False):
    """Conversion by a webhook."""

    clientConfig: Annotated[WebhookClientConfig, f(2, "How to reach it.", pointer=True)]
    conversionReviewVersions: Annotated[
        Required[list[str]], f(3, "Versions of ConversionReview that it understands, best first.", list_type="atomic")
    ]


class CustomResourceConversion(TypedDict, total=False):
    """How objects get from one version into another."""

    strategy: Annotated[Required[str], f(1, "None, which changes only apiVersion, or Webhook.")]
    webhook: Annotated[WebhookConversion, f(2, "The webhook; only with Webhook.", pointer=True)]


class CustomResourceDefinitionSpec(TypedDict, total=False):
    """What a kind is."""

    group: Annotated[Required[str], f(1, "API group.")]
    names: Annotated[Required[CustomResourceDefinitionNames], f(3, "What it is called.")]
    scope: Annotated[Required[str], f(4, "Cluster or Namespaced.")]
    versions: Annotated[Required[list[CustomResourceDefinitionVersion]], f(7, "Its versions.", list_type="atomic")]
    conversion: Annotated[CustomResourceConversion, f(9, "How objects get from one version into another.", pointer=True)]
    preserveUnknownFields: Annotated[bool, f(10, "Old switch; must be false.")]


class CustomResourceDefinitionCondition(TypedDict, total=False):
    """One observation of a definition."""

    type: Annotated[Required[str], f(1, "Established, NamesAccepted, NonStructuralSchema, Terminating and the like.")]
    status: Annotated[Required[str], f(2, "True, False or Unknown.")]
    lastTransitionTime: Annotated[Time, f(3, "When the status last changed.")]
    reason: Annotated[str, f(4, "One CamelCase word for the last change, for programs.")]
    message: Annotated[str, f(5, "Details of the last change, for people.")]


class CustomResourceDefinitionStatus(TypedDict, total=False):
    """State of a definition."""

    conditions: Annotated[
        list[CustomResourceDefinitionCondition], f(1, "The latest observations, one for each type.", keys="type")
    ]
    acceptedNames: Annotated[CustomResourceDefinitionNames, f(2, "Names that are in use.")]
    storedVersions: Annotated[list[str], f(3, "Versions in which objects have been stored.", list_type="atomic")]


class CustomResourceDefinition(KubeObject, total=False):
    """A kind that a user defines; its name is <plural>.<group>."""

    spec: Annotated[Required[CustomResourceDefinitionSpec], f(2, "What is wanted.")]
    status: Annotated[CustomResourceDefinitionStatus, f(3, "What has been observed; written by the system.")]


class CustomResourceDefinitionList(KubeList, total=False):
    """A list of CustomResourceDefinitions."""

    items: Annotated[Required[list[CustomResourceDefinition]], f(2, "The CustomResourceDefinitions.")]


class ConversionRequest(TypedDict, total=False):
    """Objects to convert."""

    uid: Annotated[Required[str], f(1, "ID of this question; the answer repeats it.")]
    desiredAPIVersion: Annotated[Required[str], f(2, "Group and version to convert to.")]
    objects: Annotated[Required[list[RawExtension]], f(3, "The objects.", list_type="atomic")]


class ConversionResponse(TypedDict, total=False):
    """Objects that were converted."""

    uid: Annotated[Required[str], f(1, "ID of the question.")]
    convertedObjects: Annotated[Required[list[RawExtension]], f(2, "The objects, in the same order.", list_type="atomic")]
    result: Annotated[Required[Status], f(3, "Success, or what went wrong.")]


class ConversionReview(Typed, total=False):
    """A question to a conversion webhook, or its answer."""

    request: Annotated[ConversionRequest, f(1, "The question.", pointer=True)]
    response: Annotated[ConversionResponse, f(2, "The answer.", pointer=True)]
