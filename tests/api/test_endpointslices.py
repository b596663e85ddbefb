"""EndpointSlices by their Service."""

from __future__ import annotations

from kubeling.api import endpointslices


def test_a_slice_belongs_to_the_service_that_its_label_names() -> None:
    mine = {"metadata": {"namespace": "x", "labels": {"kubernetes.io/service-name": "web"}}}
    other = {"metadata": {"namespace": "x", "labels": {"kubernetes.io/service-name": "db"}}}
    nobodys = {"metadata": {"namespace": "x"}}
    assert endpointslices.services_of(mine) == ("x/web",)
    assert endpointslices.services_of(nobodys) == ()
    assert list(endpointslices.touched(mine, other)) == ["x/web", "x/db"]
    assert list(endpointslices.touched(None, mine)) == ["x/web"]
    assert list(endpointslices.touched(nobodys, mine)) == list(endpointslices.touched(mine, mine)) == ["x/web"]
