"""What authorizers see of selectors (KEP-4601)."""

from __future__ import annotations

from typing import Any

import pytest

from kubeling.api import cel
from kubeling.api.cel.values import make
from kubeling.apiserver.admission.expressions import Expressions, Scope
from kubeling.apiserver.authn.user import User, authenticated
from kubeling.apiserver.authz import selectors
from kubeling.apiserver.authz.authorizer import NO_OPINION, Attributes, Decision, RuleList
from kubeling.apiserver.authz.webhook import review_of

ANN = authenticated("ann", ())


def sent(fields: str = "", labels: str = "") -> dict[str, Any]:
    """What a webhook hears of the selectors."""
    asked = Attributes(ANN, "list", resource="pods", selected=selectors.of_texts(fields, labels))
    spec = review_of(asked, "v1")["spec"]["resourceAttributes"]
    return {key: value["requirements"] for key, value in spec.items() if key.endswith("Selector")}


def test_webhooks_get_requirements():
    assert sent() == {}
    assert sent("spec.nodeName=n1,status.phase!=Failed") == {
        "fieldSelector": [
            {"key": "spec.nodeName", "operator": "In", "values": ["n1"]},
            {"key": "status.phase", "operator": "NotIn", "values": ["Failed"]},
        ]
    }
    assert sent(labels="a=b,c!=d,e in (z,y),g notin (h),i,!j,k>3") == {
        "labelSelector": [
            {"key": "a", "operator": "In", "values": ["b"]},
            {"key": "c", "operator": "NotIn", "values": ["d"]},
            {"key": "e", "operator": "In", "values": ["y", "z"]},
            {"key": "g", "operator": "NotIn", "values": ["h"]},
            {"key": "i", "operator": "Exists"},
            {"key": "j", "operator": "DoesNotExist"},
        ]
    }
    # What cannot be understood narrows nothing.
    assert sent("spec.nodeName", "a=b,,") == {}


def requirement(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"key": key, "operator": operator, **({"values": list(values)} if values else {})}


@pytest.mark.parametrize(
    ("asked", "fields", "labels", "problems"),
    [
        ({"fieldSelector": {"rawSelector": "a=b"}, "labelSelector": {"rawSelector": "c,d"}}, "a=b", "c,d", []),
        ({"fieldSelector": {"rawSelector": "a"}}, "", "", ["spec.resourceAttributes.fieldSelector ignored due to parse error"]),
        ({"labelSelector": {"rawSelector": "=="}}, "", "", ["spec.resourceAttributes.labelSelector ignored due to parse error"]),
        (
            {"fieldSelector": {"requirements": [requirement("a", "In", "b"), requirement("c", "Exists")]}},
            "a=b",
            "",
            ["spec.resourceAttributes.fieldSelector partially ignored due to parse error"],
        ),
        (
            {"fieldSelector": {"requirements": [requirement("a", "In", "b", "c")]}},
            "",
            "",
            ["spec.resourceAttributes.fieldSelector ignored due to parse error"],
        ),
        (
            {"labelSelector": {"requirements": [requirement("a", "NotIn", "b", "c"), requirement("d", "New")]}},
            "",
            "a notin (b,c)",
            ["spec.resourceAttributes.labelSelector partially ignored due to parse error"],
        ),
    ],
)
def test_reviews_say_what_they_have_ignored(asked: dict[str, Any], fields: str, labels: str, problems: list[str]):
    found = selectors.of_review(asked)
    assert ",".join(map(str, found.selected.fields)) == fields
    assert ",".join(map(str, found.selected.labels)) == labels
    assert found.problems == problems


def wrong(**asked: Any) -> list[str]:
    return [str(each) for each in selectors.check(asked, "spec.resourceAttributes")]


def test_what_is_wrong_with_selectors_of_reviews():
    path = "spec.resourceAttributes.fieldSelector"
    both = {"rawSelector": "a=b", "requirements": [requirement("a", "In", "b")]}
    assert wrong(fieldSelector={"rawSelector": "a=b"}, labelSelector={"requirements": [requirement("a", "New")]}) == []
    assert wrong(fieldSelector=both) == [
        f'{path}.rawSelector: Invalid value: "a=b": may not specified at the same time as requirements'
    ]
    assert wrong(fieldSelector={}) == [
        f"{path}.requirements: Required value: when {path} is specified, requirements or rawSelector is required"
    ]
    assert wrong(fieldSelector={"requirements": [requirement("", "In"), requirement("a", "Exists", "b")]}) == [
        f"{path}.requirements[0].key: Required value: must be specified",
        f"{path}.requirements[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
        f"{path}.requirements[1].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
    ]
    assert len(wrong(labelSelector={"requirements": [requirement("a b", "In", "c d")]})) == 2


class Recorder:
    """An authorizer that allows what is restricted to a node."""

    def __init__(self) -> None:
        self.asked: list[Attributes] = []

    async def authorize(self, attributes: Attributes) -> Decision:
        self.asked.append(attributes)
        return Decision(True) if attributes.selected.exact("spec.nodeName") == "n1" else NO_OPINION

    async def rules(self, user: User, namespace: str) -> RuleList:
        return RuleList([], [])


async def test_expressions_ask_with_selectors():
    recorder = Recorder()
    expressions = Expressions(recorder)
    environment = cel.environment(authorizer=cel.AUTHORIZER)

    async def value(restrictions: str) -> Any:
        program = environment.compile(f"authorizer.group('').resource('pods'){restrictions}.check('list').allowed()")
        values = {"authorizer": make("authorizer")}
        return await expressions.value(program, Scope(ANN, values), values)

    assert await value(".fieldSelector('spec.nodeName=n1').labelSelector('a,b=c')") is True
    assert ",".join(map(str, recorder.asked[0].selected.labels)) == "a,b=c"
    assert await value(".fieldSelector('spec.nodeName=n2')") is False
    assert await value(".fieldSelector('spec.nodeName')") is False
    assert recorder.asked[-1].selected == selectors.EVERYTHING
    assert await value("") is False
