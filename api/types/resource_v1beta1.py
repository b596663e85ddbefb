"""Dynamic resource allocation: devices, and claims on them."""

from __future__ import annotations

from typing import Annotated, Required, TypedDict

from kubeling.api.types.core_reference import NodeSelector
from kubeling.api.types.declare import f, inline
from kubeling.api.types.meta_v1 import Condition, KubeList, KubeObject, ObjectMeta
from kubeling.api.types.scalars import Boolean, Int64, Quantity, RawExtension, Time


class CELDeviceSelector(TypedDict, total=False):
    """A test on devices in CEL."""

    expression: Annotated[Required[str], f(1, "The expression; must yield true for a device.")]


class DeviceSelector(TypedDict, total=False):
    """A test on devices."""

    cel: Annotated[CELDeviceSelector, f(1, "The test in CEL.", pointer=True)]


class DeviceToleration(TypedDict, total=False):
    """Lets a device be given in spite of a taint."""

    key: Annotated[str, f(1, "Key of the taint; empty with Exists means every taint.")]
    operator: Annotated[str, f(2, "Exists or Equal; Equal by default.", default="Equal")]
    value: Annotated[str, f(3, "Value of the taint; empty with Exists.")]
    effect: Annotated[str, f(4, "NoSchedule or NoExecute; empty means both.")]
    tolerationSeconds: Annotated[Int64, f(5, "Seconds for which NoExecute is put up with; for ever by default.", pointer=True)]


class DeviceSubRequest(TypedDict, total=False):
    """One alternative for a request."""

    name: Annotated[Required[str], f(1, "Name of the alternative.")]
    deviceClassName: Annotated[Required[str], f(2, "The DeviceClass.")]
    selectors: Annotated[list[DeviceSelector], f(3, "Tests that a device must pass.", list_type="atomic")]
    allocationMode: Annotated[str, f(4, "ExactCount or All; ExactCount by default.")]
    count: Annotated[Int64, f(5, "How many devices; 1 by default.")]
    tolerations: Annotated[list[DeviceToleration], f(7, "Taints of devices that are put up with.", list_type="atomic")]


class DeviceRequest(TypedDict, total=False):
    """A request for devices."""

    name: Annotated[Required[str], f(1, "Name of the request.")]
    deviceClassName: Annotated[str, f(2, "The DeviceClass.", always=True)]
    selectors: Annotated[list[DeviceSelector], f(3, "Tests that a device must pass.", list_type="atomic")]
    allocationMode: Annotated[str, f(4, "ExactCount or All; ExactCount by default.")]
    count: Annotated[Int64, f(5, "How many devices; 1 by default.")]
    adminAccess: Annotated[bool, f(6, "Whether devices in use may be looked at too; false by default.", pointer=True)]
    firstAvailable: Annotated[list[DeviceSubRequest], f(7, "Alternatives, best first, instead of a class.", list_type="atomic")]
    tolerations: Annotated[list[DeviceToleration], f(8, "Taints of devices that are put up with.", list_type="atomic")]


class DeviceConstraint(TypedDict, total=False):
    """What several devices must have in common."""

    requests: Annotated[list[str], f(1, "Requests that it is about; all by default.", list_type="atomic")]
    matchAttribute: Annotated[str, f(2, "Attribute that must be equal.", pointer=True)]


class OpaqueDeviceConfiguration(TypedDict, total=False):
    """Settings that only a driver understands."""

    driver: Annotated[Required[str], f(1, "Name of the driver.")]
    parameters: Annotated[Required[RawExtension], f(2, "The settings.")]


class DeviceConfiguration(TypedDict, total=False):
    """Settings for devices."""

    opaque: Annotated[OpaqueDeviceConfiguration, f(1, "Settings for one driver.", pointer=True)]


class DeviceClaimConfiguration(DeviceConfiguration, total=False):
    """Settings for some requests."""

    requests: Annotated[list[str], f(1, "Requests that they are for; all by default.", list_type="atomic")]


inline(DeviceClaimConfiguration, DeviceConfiguration, "deviceConfiguration", 2)


class DeviceClaim(TypedDict, total=False):
    """Which devices are wanted, and how."""

    requests: Annotated[list[DeviceRequest], f(1, "The requests; all must be met.", list_type="atomic")]
    constraints: Annotated[list[DeviceConstraint], f(2, "What the devices must have in common.", list_type="atomic")]
    config: Annotated[list[DeviceClaimConfiguration], f(3, "Settings for the devices.", list_type="atomic")]


class ResourceClaimSpec(TypedDict, total=False):
    """What is claimed."""

    devices: Annotated[DeviceClaim, f(1, "Which devices.")]


class DeviceRequestAllocationResult(TypedDict, total=False):
    """A device that was given."""

    request: Annotated[Required[str], f(1, "Name of the request that it meets.")]
    driver: Annotated[Required[str], f(2, "Driver of the device.")]
    pool: Annotated[Required[str], f(3, "Pool of the device.")]
    device: Annotated[Required[str], f(4, "Name of the device.")]
    adminAccess: Annotated[bool, f(5, "Whether it was given for looking only.", pointer=True)]
    tolerations: Annotated[list[DeviceToleration], f(6, "Taints that were put up with.", list_type="atomic")]


class DeviceAllocationConfiguration(DeviceConfiguration, total=False):
    """Settings for devices that were given."""

    source: Annotated[Required[str], f(1, "FromClass or FromClaim.")]
    requests: Annotated[list[str], f(2, "Requests that they are for; all by default.", list_type="atomic")]


inline(DeviceAllocationConfiguration, DeviceConfiguration, "deviceConfiguration", 3)


class DeviceAllocationResult(TypedDict, total=False):
    """Devices that were given."""

    results: Annotated[list[DeviceRequestAllocationResult], f(1, "The devices.", list_type="atomic")]
    config: Annotated[list[DeviceAllocationConfiguration], f(2, "Settings for them.", list_type="atomic")]


class AllocationResult(TypedDict, total=False):
    """What was given."""

    devices: Annotated[DeviceAllocationResult, f(1, "Devices that were given.")]
    nodeSelector: Annotated[NodeSelector, f(3, "Nodes on which they can be used; all by default.", pointer=True)]


class ResourceClaimConsumerReference(TypedDict, total=False):
    """Who uses a claim."""

    apiGroup: Annotated[str, f(1, "API group, without version; empty for the core group.")]
    resource: Annotated[Required[str], f(3, "Plural name of the resource, in lower case.")]
    name: Annotated[Required[str], f(4, "Name of the object.")]
    uid: Annotated[Required[str], f(5, "The one identity of an object in time and space; a namesake made later has another.")]


class NetworkDeviceData(TypedDict, total=False):
    """A network device."""

    interfaceName: Annotated[str, f(1, "Name of the interface.")]
    ips: Annotated[list[str], f(2, "Addresses in CIDR form.", list_type="atomic")]
    hardwareAddress: Annotated[str, f(3, "Hardware address.")]


class AllocatedDeviceStatus(TypedDict, total=False):
    """State of a device that was given."""

    driver: Annotated[Required[str], f(1, "Driver of the device.")]
    pool: Annotated[Required[str], f(2, "Pool of the device.")]
    device: Annotated[Required[str], f(3, "Name of the device.")]
    conditions: Annotated[list[Condition], f(4, "The latest observations, one for each type.", keys="type")]
    data: Annotated[RawExtension, f(5, "What the driver says about it.", pointer=True)]
    networkData: Annotated[NetworkDeviceData, f(6, "Facts of a network device.", pointer=True)]


class ResourceClaimStatus(TypedDict, total=False):
    """State of a claim."""

    allocation: Annotated[AllocationResult, f(1, "What was given; absent until then.", pointer=True)]
    reservedFor: Annotated[list[ResourceClaimConsumerReference], f(2, "Who uses it, at most 256.", merge_key="uid", keys="uid")]
    devices: Annotated[list[AllocatedDeviceStatus], f(4, "State of the devices.", keys="driver device pool")]


class ResourceClaim(KubeObject, total=False):
    """A claim on devices."""

    spec: Annotated[Required[ResourceClaimSpec], f(2, "What is wanted.")]
    status: Annotated[ResourceClaimStatus, f(3, "What has been observed; written by the system.")]


class ResourceClaimList(KubeList, total=False):
    """A list of ResourceClaims."""

    items: Annotated[Required[list[ResourceClaim]], f(2, "The ResourceClaims.")]


class ResourceClaimTemplateSpec(TypedDict, total=False):
    """A pattern of claims."""

    metadata: Annotated[ObjectMeta, f(1, "Labels and annotations for the claims.")]
    spec: Annotated[Required[ResourceClaimSpec], f(2, "What is claimed.")]


class ResourceClaimTemplate(KubeObject, total=False):
    """A stored pattern from which claims are made for pods."""

    spec: Annotated[Required[ResourceClaimTemplateSpec], f(2, "What is wanted.")]


class ResourceClaimTemplateList(KubeList, total=False):
    """A list of ResourceClaimTemplates."""

    items: Annotated[Required[list[ResourceClaimTemplate]], f(2, "The ResourceClaimTemplates.")]


class DeviceClassConfiguration(DeviceConfiguration, total=False):
    """Settings that a class brings."""


inline(DeviceClassConfiguration, DeviceConfiguration, "deviceConfiguration", 1)


class DeviceClassSpec(TypedDict, total=False):
    """What makes a class."""

    selectors: Annotated[list[DeviceSelector], f(1, "Tests that a device must pass.", list_type="atomic")]
    config: Annotated[list[DeviceClassConfiguration], f(2, "Settings for its devices.", list_type="atomic")]


class DeviceClass(KubeObject, total=False):
    """A kind of device."""

    spec: Annotated[Required[DeviceClassSpec], f(2, "What is wanted.")]


class DeviceClassList(KubeList, total=False):
    """A list of DeviceClasses."""

    items: Annotated[Required[list[DeviceClass]], f(2, "The DeviceClasses.")]


class Counter(TypedDict, total=False):
    """An amount."""

    value: Annotated[Required[Quantity], f(1, "How much.")]


class CounterSet(TypedDict, total=False):
    """Amounts that devices share."""

    name: Annotated[Required[str], f(1, "Name of the set.")]
    counters: Annotated[dict[str, Counter], f(2, "The amounts, by name.")]


class DeviceCounterConsumption(TypedDict, total=False):
    """What a device takes of a shared set."""

    counterSet: Annotated[Required[str], f(1, "Name of the set.")]
    counters: Annotated[dict[str, Counter], f(2, "The amounts, by name.")]


class _DeviceAttributeWords(TypedDict, total=False):
    int: Annotated[Int64, f(2, "A whole number.", pointer=True)]
    bool: Annotated[Boolean, f(3, "True or false.", pointer=True)]


class DeviceAttribute(_DeviceAttributeWords, total=False):
    """A property of a device; exactly one member is set."""

    string: Annotated[str, f(4, "Text, at most 64 characters.", pointer=True)]
    version: Annotated[str, f(5, "A semantic version.", pointer=True)]


class DeviceCapacity(TypedDict, total=False):
    """A capacity of a device."""

    value: Annotated[Required[Quantity], f(1, "How much.")]


class DeviceTaint(TypedDict, total=False):
    """Keeps a device from being given without a toleration."""

    key: Annotated[Required[str], f(1, "Key of the taint.")]
    value: Annotated[str, f(2, "Value of the taint.")]
    effect: Annotated[Required[str], f(3, "NoSchedule or NoExecute.")]
    timeAdded: Annotated[Time, f(4, "When it was added.", pointer=True)]


class BasicDevice(TypedDict, total=False):
    """A device."""

    attributes: Annotated[dict[str, DeviceAttribute], f(1, "Its properties, by name.")]
    capacity: Annotated[dict[str, DeviceCapacity], f(2, "Its capacities, by name.")]
    consumesCounters: Annotated[list[DeviceCounterConsumption], f(3, "What it takes of shared sets.", list_type="atomic")]
    nodeName: Annotated[str, f(4, "Node that it is on, where the slice leaves that to devices.", pointer=True)]
    nodeSelector: Annotated[NodeSelector, f(5, "Nodes that can use it, where the slice leaves that to devices.", pointer=True)]
    allNodes: Annotated[bool, f(6, "Whether all nodes can use it, where the slice leaves that to devices.", pointer=True)]
    taints: Annotated[list[DeviceTaint], f(7, "Taints of the device.", list_type="atomic")]


class Device(TypedDict, total=False):
    """A device with a name."""

    name: Annotated[Required[str], f(1, "Name of the device, unique in its pool.")]
    basic: Annotated[BasicDevice, f(2, "The device.", pointer=True)]


class ResourcePool(TypedDict, total=False):
    """The pool that a slice is part of."""

    name: Annotated[Required[str], f(1, "Name of the pool.")]
    generation: Annotated[Required[Int64], f(2, "Grows with every change; older slices do not count.")]
    resourceSliceCount: Annotated[Required[Int64], f(3, "How many slices the pool has.")]


class ResourceSliceSpec(TypedDict, total=False):
    """What a slice publishes; one of nodeName, nodeSelector, allNodes and perDeviceNodeSelection is set."""

    driver: Annotated[Required[str], f(1, "Driver of the devices.")]
    pool: Annotated[Required[ResourcePool], f(2, "Pool that the slice is part of.")]
    nodeName: Annotated[str, f(3, "Node that the devices are on.")]
    nodeSelector: Annotated[NodeSelector, f(4, "Nodes that can use the devices.", pointer=True)]
    allNodes: Annotated[bool, f(5, "Whether all nodes can use the devices.")]
    devices: Annotated[list[Device], f(6, "The devices, at most 128.", list_type="atomic")]
    perDeviceNodeSelection: Annotated[bool, f(7, "Whether every device says who can use it.", pointer=True)]
    sharedCounters: Annotated[list[CounterSet], f(8, "Amounts that the devices share.", list_type="atomic")]


class ResourceSlice(KubeObject, total=False):
    """Devices that a driver has to give."""

    spec: Annotated[Required[ResourceSliceSpec], f(2, "What is wanted.")]


class ResourceSliceList(KubeList, total=False):
    """A list of ResourceSlices."""

    items: Annotated[Required[list[ResourceSlice]], f(2, "The ResourceSlices.")]
