"""Custom resources through the wire: from a definition to objects, and back to nothing."""

from __future__ import annotations

import json
import threading

import pytest

from tests.apiserver import definitions
from tests.apiserver.conftest import make_namespace
from tests.apiserver.definitions import CRDS, condition, definition, establish, gone, until, version

pytestmark = pytest.mark.live


@pytest.fixture
def kind(http, ns):
    with definitions.kind(http, ns.name) as made:
        yield made


def causes(answer) -> set[tuple[str, str]]:
    return {(each["field"], each["message"]) for each in answer["details"]["causes"]}


def test_an_object_can_be_created_as_soon_as_its_kind_is_established(http, ns):
    with definitions.kind(http, ns.name) as kind:
        assert kind.create("a")["spec"] == {"size": 3, "color": "red"}


def test_objects_are_pruned_defaulted_and_kept(kind):
    made = kind.create("a", bogus=1, parts=[{"name": "p", "odd": True}], free={"x": {"y": [None]}}, maybe=None, color=None)
    parts = [{"name": "p", "count": 3}]
    assert made["spec"] == {"size": 3, "color": "red", "parts": parts, "free": {"x": {"y": [None]}}, "maybe": None}
    assert made["metadata"]["generation"] == 1
    assert kind.get("a") == made
    listed = kind.get()
    assert listed["kind"] == "WidgetList"
    assert listed["items"] == [made]


def test_what_breaks_the_schema_is_told_in_upstreams_words(kind):
    wrong = kind.create("a", status=422, size=11, color="blue", tags=["x", "x"], parts=[{"count": 1}], port=True)
    assert causes(wrong) == {
        ("spec.size", "Invalid value: 11: spec.size in body should be less than or equal to 10"),
        ("spec.color", 'Unsupported value: "blue": supported values: "red", "green"'),
        ("spec.tags[1]", 'Duplicate value: "x"'),
        ("spec.parts[0].name", "Required value"),
        ("spec.port", 'Invalid value: "boolean": spec.port in body must be of type integer,string: "boolean"'),
    }
    text = kind.create("a", status=422, size="3")["message"]
    told = 'Widget.{} "a" is invalid: spec.size: Invalid value: "string": spec.size in body must be of type integer: "string"'
    assert text == told.format(kind.group)


def test_unknown_fields_are_refused_or_told_as_asked(kind):
    body = kind.widget("a", bogus=1)
    strict = kind.http.post(kind.path(), json=body, params={"fieldValidation": "Strict"})
    assert strict.status_code == 400
    assert strict.json()["message"].endswith('strict decoding error: unknown field "spec.bogus"')
    warned = kind.http.post(kind.path(), json=body)
    assert warned.headers["warning"] == '299 - "unknown field \\"spec.bogus\\""'
    twice = kind.http.put(kind.path("a"), content=json.dumps(warned.json()).replace('"size"', '"size": 1, "size"'))
    assert twice.headers["warning"] == '299 - "duplicate field \\"spec.size\\""'


def test_status_has_a_door_of_its_own(kind):
    kind.create("a")
    main = kind.merge("a", {"spec": {"size": 4}, "status": {"phase": "x"}})
    assert ("status" in main, main["metadata"]["generation"]) == (False, 2)
    other = kind.merge("a/status", {"metadata": {"labels": {"a": "b"}}, "spec": {"size": 9}, "status": {"phase": "Up", "odd": 1}})
    assert (other["spec"]["size"], other["status"], other["metadata"]["generation"]) == (4, {"phase": "Up"}, 2)
    assert "labels" not in other["metadata"]
    assert {each.get("subresource", "") for each in other["metadata"]["managedFields"]} == {"", "status"}


def test_scale_goes_by_the_definitions_paths(kind):
    kind.create("a")
    kind.merge("a/status", {"status": {"size": 2, "selector": "app=x"}})
    scale = kind.get("a/scale")
    assert (scale["spec"], scale["status"]) == ({"replicas": 3}, {"replicas": 2, "selector": "app=x"})
    assert kind.merge("a/scale", {"spec": {"replicas": 5}})["spec"] == {"replicas": 5}
    assert kind.get("a")["spec"]["size"] == 5
    assert causes(kind.merge("a/scale", {"spec": {"replicas": 50}}, status=422)).pop()[0] == "spec.size"


def test_an_update_needs_a_version_and_a_strategic_patch_is_refused(kind):
    made = kind.create("a")
    del made["metadata"]["resourceVersion"]
    refused = kind.http.put(kind.path("a"), json=made)
    assert refused.status_code == 422
    assert "metadata.resourceVersion: Invalid value: 0: must be specified for an update" in refused.json()["message"]
    strategic = kind.http.patch(kind.path("a"), json={}, headers={"content-type": "application/strategic-merge-patch+json"})
    assert strategic.status_code == 415


def test_apply_goes_by_the_schema(kind):
    one = kind.widget("a", parts=[{"name": "x", "count": 1}], tags=["p"], free={"m": {"k": 1}, "l": [1]})
    assert kind.apply("a", one, "one").status_code == 201
    two = {**kind.widget("a"), "spec": {"parts": [{"name": "y"}], "tags": ["q"], "free": {"m": {"j": 2}}}}
    both = kind.apply("a", two, "two").json()["spec"]
    assert {each["name"] for each in both["parts"]} == {"x", "y"}
    assert sorted(both["tags"]) == ["p", "q"]
    assert both["free"] == {"m": {"k": 1, "j": 2}, "l": [1]}
    conflict = kind.apply("a", {**two, "spec": {"size": 4, "free": {"l": [2]}}}, "two")
    assert {each["field"] for each in conflict.json()["details"]["causes"]} == {".spec.size", ".spec.free.l"}
    less = kind.widget("a", parts=[{"name": "x", "count": 1}])
    left = kind.apply("a", less, "one").json()["spec"]
    assert (left["tags"], left["free"]) == (["q"], {"m": {"j": 2}})


def test_watches_see_objects_come_change_and_go(kind):
    seen = []

    def follow() -> None:
        with kind.http.stream("GET", kind.path(), params={"watch": "1", "timeoutSeconds": "20"}) as answer:
            for line in answer.iter_lines():
                event = json.loads(line)
                seen.append((event["type"], event["object"]["spec"]["size"]))
                if event["type"] == "DELETED":
                    return

    kind.create("a")
    thread = threading.Thread(target=follow)
    thread.start()
    kind.merge("a", {"spec": {"size": 4}})
    kind.http.delete(kind.path("a"))
    thread.join(20)
    assert seen[-1] == ("DELETED", 4)
    assert seen[0][0] == "ADDED"


def test_discovery_knows_the_kind_at_once(kind):
    group = kind.http.get(f"/apis/{kind.group}").json()
    assert group["preferredVersion"] == {"groupVersion": f"{kind.group}/v1", "version": "v1"}
    names = {each["name"]: each for each in kind.http.get(f"/apis/{kind.group}/v1").json()["resources"]}
    assert set(names) == {"widgets", "widgets/status", "widgets/scale"}
    assert names["widgets/scale"]["group"] == "autoscaling"
    accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    groups = kind.http.get("/apis", headers={"accept": accept}).json()["items"]
    assert kind.group in {each["metadata"]["name"] for each in groups}


def test_the_first_who_asks_for_a_name_has_it(http, ns):
    with definitions.kind(http, ns.name, shortNames=["wi"]) as kind:
        clash = definition(kind.group, shortNames=["wi"])
        clash["metadata"]["name"] = f"gadgets.{kind.group}"
        clash["spec"]["names"] = {"plural": "gadgets", "kind": "Widget", "shortNames": ["wi"]}
        path = f"{CRDS}/gadgets.{kind.group}"
        assert http.post(CRDS, json=clash).status_code == 201
        refused = until(http, path, lambda obj: condition(obj, "NamesAccepted") == "False")
        assert condition(refused, "Established") == "False"
        assert http.get(f"/apis/{kind.group}/v1/gadgets").status_code == 404
        http.delete(kind.crd)
        until(http, path, lambda obj: condition(obj, "Established") == "True")
        assert http.get(f"/apis/{kind.group}/v1/gadgets").status_code == 200
        http.delete(path)


def test_a_definition_takes_its_objects_with_it(http, ns):
    with definitions.kind(http, ns.name) as kind:
        kind.create("a")
        held = kind.widget("b")
        held["metadata"]["finalizers"] = ["example.com/hold"]
        http.post(kind.path(), json=held)
        assert http.delete(kind.crd).status_code == 200
        gone(http, kind.path("a"))
        going = until(http, kind.crd, lambda obj: condition(obj, "Terminating") == "True")
        assert "customresourcecleanup.apiextensions.k8s.io" in going["metadata"]["finalizers"]
        assert http.post(kind.path(), json=kind.widget("c")).status_code == 405
        assert "deletionTimestamp" in kind.get("b")["metadata"]
        kind.merge("b", {"metadata": {"finalizers": None}}, status=405)
        del held["metadata"]["finalizers"]


def test_a_definition_made_anew_begins_empty(http, ns):
    with definitions.kind(http, ns.name) as kind:
        kind.create("a")
        assert http.delete(kind.crd).status_code == 200
        gone(http, kind.crd)
        assert http.get(kind.path()).status_code == 404
        establish(http, definition(kind.group))
        assert kind.get()["items"] == []


def test_a_changed_schema_counts_at_once_also_for_what_is_stored(kind):
    kind.create("a", color="green")

    def change(spec):
        properties = spec["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        properties["shape"] = {"type": "string", "default": "round"}
        del properties["color"]

    kind.redefine(change)
    assert kind.get("a")["spec"] == {"size": 3, "shape": "round"}
    assert kind.get()["items"][0]["spec"] == {"size": 3, "shape": "round"}
    assert kind.create("b", color="x")["spec"] == {"size": 3, "shape": "round"}


def test_every_server_knows_the_kind_when_one_says_so(world, server):
    other = world.start_server()
    with server.client() as here, other.client() as there:
        ns = make_namespace(here)
        for _ in range(5):
            with definitions.kind(here, ns.name) as kind:
                answer = there.post(kind.path(), json=kind.widget("a"))
                assert answer.status_code == 201, answer.text
                assert there.get(f"/apis/{kind.group}/v1").status_code == 200
                here.delete(kind.crd)
                gone(there, kind.crd)
                assert there.get(kind.path()).status_code == 404


def test_versions_that_differ_in_name_only(http, ns):
    with definitions.kind(http, ns.name, version("v1"), version("v1beta1", storage=False, deprecated=True)) as kind:
        kind.create("a", "v1beta1")
        assert kind.get("a")["apiVersion"] == f"{kind.group}/v1"
        old = http.get(kind.path("a", "v1beta1"))
        assert old.json()["apiVersion"] == f"{kind.group}/v1beta1"
        assert old.headers["warning"] == f'299 - "{kind.group}/v1beta1 Widget is deprecated"'

        def swap(spec):
            for each in spec["versions"]:
                each["storage"] = each["name"] == "v1beta1"

        crd = kind.redefine(swap)
        assert crd["status"]["storedVersions"] == ["v1", "v1beta1"]
        assert kind.get("a")["apiVersion"] == f"{kind.group}/v1"
        listed = http.get(kind.path(version="v1beta1")).json()
        assert [each["apiVersion"] for each in listed["items"]] == [f"{kind.group}/v1beta1"]
        before = kind.get("a")
        after = http.put(kind.path("a"), json=before).json()
        assert after["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"]  # it is stored anew
        again = http.put(kind.path("a"), json=after).json()
        assert again["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"]


def test_openapi_tells_of_the_kind_at_once(kind):
    index = kind.http.get("/openapi/v3").json()["paths"]
    found = kind.http.get(index[f"apis/{kind.group}/v1"]["serverRelativeURL"]).json()
    name = ".".join([*reversed(kind.group.split(".")), "v1", "Widget"])
    schema = found["components"]["schemas"][name]
    assert schema["properties"]["spec"]["properties"]["size"]["description"] == "How big it is."
    assert schema["x-kubernetes-group-version-kind"] == [{"group": kind.group, "version": "v1", "kind": "Widget"}]
    path = f"/apis/{kind.group}/v1/namespaces/{{namespace}}/widgets/{{name}}"
    assert set(found["paths"][path]["patch"]["requestBody"]["content"]) == {
        "application/json-patch+json",
        "application/merge-patch+json",
        "application/apply-patch+yaml",
    }
    old = kind.http.get("/openapi/v2", headers={"accept": "application/json"}).json()
    assert old["definitions"][name]["properties"]["spec"]["properties"]["color"]["default"] == "red"
    assert path in old["paths"]


def test_tables_have_the_definitions_columns(kind):
    kind.create("a")
    accept = "application/json;as=Table;g=meta.k8s.io;v=v1"
    table = kind.http.get(kind.path(), headers={"accept": accept}).json()
    assert [each["name"] for each in table["columnDefinitions"]] == ["Name", "Size", "Age"]
    assert table["rows"][0]["cells"][:2] == ["a", 3]


def test_rules_in_cel_are_held_against_objects(http, ns):
    schema = json.loads(json.dumps(definitions.SCHEMA))
    spec = schema["properties"]["spec"]
    spec["x-kubernetes-validations"] = [
        {
            "rule": "!has(self.tags) || size(self.tags) <= self.size",
            "messageExpression": "'no more than %d tags'.format([self.size])",
        },
    ]
    spec["properties"]["color"]["x-kubernetes-validations"] = [{"rule": "self == oldSelf", "message": "is immutable"}]
    with definitions.kind(http, ns.name, version(schema=schema)) as kind:
        assert causes(kind.create("a", status=422, size=1, tags=["x", "y"])) == {
            ("spec", 'Invalid value: "object": no more than 1 tags'),
        }
        kind.create("a")
        changed = kind.merge("a", {"spec": {"color": "green"}}, status=422)
        assert causes(changed) == {("spec.color", 'Invalid value: "string": is immutable')}
        kind.merge("a/status", {"status": {"phase": "x"}})
    broken = definition("broken.example.com")
    broken["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = {
        "type": "object",
        "x-kubernetes-validations": [{"rule": "self.x >"}],
    }
    refused = http.post(CRDS, json=broken)
    assert refused.status_code == 422
    assert "compilation failed: ERROR: <input>:1:9: Syntax error" in refused.json()["message"]
    properties = {"names": {"type": "array", "items": {"type": "string"}}}
    broken["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = {
        "type": "object",
        "properties": properties,
        "x-kubernetes-validations": [{"rule": "self.names.all(a, self.names.all(b, a == b))"}],
    }
    refused = http.post(CRDS, json=broken)
    assert refused.status_code == 422
    assert "[0].rule: Forbidden: estimated rule cost exceeds budget by factor of more than 100x" in refused.json()["message"]


def test_protobuf_is_for_metadata_alone(kind):
    kind.create("a")
    proto = "application/vnd.kubernetes.protobuf"
    assert kind.http.get(kind.path("a"), headers={"accept": proto}).status_code == 406
    both = kind.http.get(kind.path(), headers={"accept": f"{proto}, application/json"})
    assert both.headers["content-type"] == "application/json"
    partial = kind.http.get(kind.path("a"), headers={"accept": f"{proto};as=PartialObjectMetadata;g=meta.k8s.io;v=v1"})
    assert partial.content.startswith(b"k8s\0")
    assert kind.http.post(kind.path(), content=b"k8s\0", headers={"content-type": proto}).status_code == 415


def test_fields_that_a_definition_names_can_be_selected_by(http, ns):
    with definitions.kind(
        http, ns.name, version(selectableFields=[{"jsonPath": ".spec.color"}, {"jsonPath": ".spec.size"}])
    ) as kind:
        kind.create("a")
        kind.create("b", color="green")

        def names(selector):
            answer = http.get(kind.path(), params={"fieldSelector": selector})
            return [each["metadata"]["name"] for each in answer.json().get("items") or ()]

        assert names("spec.color=green") == ["b"]
        assert names("spec.color!=green,spec.size=3") == ["a"]
        assert http.get(kind.path(), params={"fieldSelector": "spec.port=1"}).status_code == 400
        http.delete(kind.path(), params={"fieldSelector": "spec.color=green"})
        assert names("") == ["a"]


def test_dry_runs_and_generated_names_and_cluster_scope(http, ns, kind):
    body = kind.widget("dry")
    assert http.post(kind.path(), json=body, params={"dryRun": "All"}).json()["spec"]["color"] == "red"
    assert http.get(kind.path("dry")).status_code == 404
    body["metadata"] = {"generateName": "w-"}
    assert http.post(kind.path(), json=body).json()["metadata"]["name"].startswith("w-")
    crd = definition("cluster.example.com", scope="Cluster")
    try:
        establish(http, crd)
        made = http.post("/apis/cluster.example.com/v1/widgets", json={"metadata": {"name": "a"}, "spec": {"size": 1}})
        assert made.status_code == 201
        assert http.post(f"/apis/cluster.example.com/v1/namespaces/{ns.name}/widgets", json={}).status_code == 404
    finally:
        http.delete(f"{CRDS}/widgets.cluster.example.com")


def test_no_object_outlives_its_kind(world, server):
    """Objects are created at one server while the other takes the definition away: what was acknowledged is deleted, and nothing slips in."""
    other = world.start_server()
    with server.client() as here, other.client() as there:
        ns = make_namespace(here)
        for _ in range(5):
            with definitions.kind(here, ns.name) as kind:
                assert there.get(kind.path()).status_code == 200
                stop = threading.Event()

                def create(kind=kind, stop=stop) -> None:
                    number = 0
                    while not stop.is_set():
                        there.post(kind.path(), json=kind.widget(f"w{number}"))
                        number += 1

                thread = threading.Thread(target=create)
                thread.start()
                here.delete(kind.crd)
                gone(here, kind.crd)
                stop.set()
                thread.join(20)
                establish(here, definition(kind.group))
                assert kind.get()["items"] == []


def test_embedded_resources_have_metadata_like_all(http, ns):
    schema = json.loads(json.dumps(definitions.SCHEMA))
    free = {"type": "object", "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True}
    schema["properties"]["spec"]["properties"]["template"] = free
    with definitions.kind(http, ns.name, version(schema=schema)) as kind:
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "x", "odd": 1, "creationTimestamp": None},
            "spec": {"any": 1},
        }
        made = kind.create("a", template=pod)
        assert made["spec"]["template"] == {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"any": 1}}
        assert causes(kind.create("b", status=422, template={"kind": "Pod"})) == {
            ("spec.template.apiVersion", "Required value: must not be empty")
        }
        assert "cannot unmarshal" in kind.create("b", status=400, template={**pod, "metadata": {"labels": []}})["message"]


def test_two_servers_never_give_a_name_twice(world, server):
    other = world.start_server()
    with server.client() as here, other.client() as there:
        for number in range(6):
            group = f"race{number}.example.com"
            names = []
            for plural in ("widgets", "gadgets"):
                crd = definition(group)
                crd["metadata"]["name"] = f"{plural}.{group}"
                crd["spec"]["names"] = {"plural": plural, "kind": plural.title(), "shortNames": ["w"]}
                names.append(crd)
            threads = [
                threading.Thread(target=client.post, args=(CRDS,), kwargs={"json": crd})
                for client, crd in zip((here, there), names, strict=True)
            ]
            for each in threads:
                each.start()
            for each in threads:
                each.join()
            paths = [f"{CRDS}/{crd['metadata']['name']}" for crd in names]
            settled = [until(here, path, lambda obj: condition(obj, "NamesAccepted") != "") for path in paths]
            assert sorted(condition(each, "NamesAccepted") for each in settled) == ["False", "True"]
            for path in paths:
                here.delete(path)


def test_a_watch_goes_on_where_it_was_when_the_schema_changes(kind):
    kind.create("a")
    version_seen = kind.get()["metadata"]["resourceVersion"]

    def follow() -> list[str]:
        query = {"watch": "1", "resourceVersion": version_seen, "timeoutSeconds": "20"}
        with kind.http.stream("GET", kind.path(), params=query) as answer:
            return [json.loads(line)["object"]["metadata"]["name"] for line in answer.iter_lines()]

    seen = []
    thread = threading.Thread(target=lambda: seen.extend(follow()))
    thread.start()
    kind.create("b")

    def change(spec):
        spec["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["shape"] = {"type": "string"}

    kind.redefine(change)
    thread.join(20)
    assert not thread.is_alive()
    kind.create("c")
    kind.http.delete(kind.path("c"))
    again = kind.http.get(kind.path(), params={"watch": "1", "resourceVersion": version_seen, "timeoutSeconds": "1"})
    events = [json.loads(line) for line in again.text.splitlines()]
    assert [(each["type"], each["object"]["metadata"]["name"]) for each in events] == [
        ("ADDED", "b"),
        ("ADDED", "c"),
        ("DELETED", "c"),
    ]


def test_a_version_can_be_retired_when_nothing_is_stored_in_it(http, ns):
    with definitions.kind(http, ns.name, version("v1"), version("v2", storage=False)) as kind:
        kind.create("a")

        def only(name, *, drop=False):
            def change(spec):
                for each in spec["versions"]:
                    each["storage"] = each["name"] == name
                    each["served"] = each["name"] == name
                if drop:
                    spec["versions"] = [each for each in spec["versions"] if each["name"] == name]

            return change

        kind.redefine(only("v2"))
        assert http.get(kind.path()).status_code == 404
        versions = [each["version"] for each in http.get(f"/apis/{kind.group}").json()["versions"]]
        assert versions == ["v2"]
        assert kind.get("a", "v2")["spec"]["size"] == 3
        crd = http.get(kind.crd).json()
        only("v2", drop=True)(crd["spec"])
        refused = http.put(kind.crd, json=crd)
        assert refused.status_code == 422
        assert 'status.storedVersions[0]: Invalid value: "v1": missing from spec.versions' in refused.json()["message"]
        assert http.put(kind.path("a", "v2"), json=kind.get("a", "v2")).status_code == 200
        headers = {"content-type": "application/merge-patch+json"}
        status = http.patch(f"{kind.crd}/status", json={"status": {"storedVersions": ["v2"]}}, headers=headers)
        assert status.status_code == 200, status.text
        kind.redefine(only("v2", drop=True))
        assert kind.get("a", "v2")["spec"]["size"] == 3


def test_names_can_be_added_later(kind):
    kind.redefine(lambda spec: spec["names"].update(shortNames=["wx"], categories=["stuff"]))
    until(kind.http, kind.crd, lambda obj: obj["status"]["acceptedNames"].get("shortNames") == ["wx"])
    [found] = [each for each in kind.http.get(f"/apis/{kind.group}/v1").json()["resources"] if each["name"] == "widgets"]
    assert (found["shortNames"], found["categories"]) == (["wx"], ["stuff"])


def test_rights_are_checked_for_custom_resources_like_for_all(world, server, kind):
    with server.client("bob") as bob:
        refused = bob.get(kind.path())
        assert refused.status_code == 403
        assert f'cannot list resource "widgets" in API group "{kind.group}"' in refused.json()["message"]
        assert bob.post(CRDS, json=definition("bob.example.com")).status_code == 403


def test_no_update_is_lost_while_the_schema_changes_at_another_server(world, server):
    others = [world.start_server(), world.start_server()]
    with server.client() as http:
        ns = make_namespace(http)
        with definitions.kind(http, ns.name) as kind:
            kind.create("a")
            kind.merge("a", {"metadata": {"annotations": {"n": "0"}}})
            counts, stop = [], threading.Event()

            def count(where) -> None:
                done = 0
                with where.client() as client:
                    while not stop.is_set():
                        obj = client.get(kind.path("a")).json()
                        obj["metadata"]["annotations"]["n"] = str(int(obj["metadata"]["annotations"]["n"]) + 1)
                        answer = client.put(kind.path("a"), json=obj)
                        assert answer.status_code in (200, 409), answer.text
                        done += answer.status_code == 200
                counts.append(done)

            threads = [threading.Thread(target=count, args=(each,)) for each in (server, *others) for _ in range(2)]
            for each in threads:
                each.start()
            for number in range(12):

                def change(spec, number=number):
                    properties = spec["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
                    properties[f"more{number}"] = {"type": "string", "default": "x"}

                kind.redefine(change)
            stop.set()
            for each in threads:
                each.join(30)
            assert len(counts) == len(threads)
            assert kind.get("a")["metadata"]["annotations"]["n"] == str(sum(counts))
            assert kind.get("a")["spec"]["more11"] == "x"
