"""CEL as Kubernetes has it: the language by its library, the functions by ours."""

from __future__ import annotations

from typing import Any

import pytest

from kubeling.api import cel
from kubeling.api.cel import cost
from kubeling.api.cel.values import DECISIONS, Decisions, Question, make

ENV = cel.environment(object=cel.DYN, variables=cel.MAP)
OBJECT: dict[str, Any] = {
    "metadata": {"name": "web", "labels": {"app": "web"}},
    "spec": {"replicas": 3, "ratio": 1.5, "list": ["a", "b"], "containers": [{"name": "a", "image": "x:1"}, {"name": "b"}]},
}


def run(source: str, **more: Any) -> Any:
    return ENV.compile(source).run({"object": OBJECT, "variables": {}, **more})


@pytest.mark.parametrize(
    "source",
    [
        "object.spec.replicas <= 5 && object.metadata.name == 'web'",
        "object.spec.containers.all(c, has(c.name))",
        "object.spec.containers.exists_one(c, has(c.image))",
        "object.?spec.?missing.orValue(7) == 7",
        "object[?'spec'].hasValue()",
        "!has(object.spec.missing)",
        "object.spec.ratio < 2 && object.spec.replicas == 3.0",
        "cel.bind(n, object.spec.replicas, n * n) == 9",
        "'%s has %d at %.1f%%'.format([object.metadata.name, 3, 99.55]) == 'web has 3 at 99.5%'",
        "'a,b,c'.split(',').join('-') == 'a-b-c'",
        "format.dns1123Label().validate('a_b').hasValue() && !format.dns1123Label().validate('a-b').hasValue()",
        "format.uuid().validate('x').value() == ['does not match the UUID format']",
        "format.dns1123Label().validate('ab').orValue([]).size() == 0 && !format.dns1035LabelPrefix().validate('a-').hasValue()",
        "format.named('labelValue').value().validate('-').hasValue() && !format.named('unheard').hasValue()",
        "object.spec.list.all(x, !format.named('qualifiedName').orValue(format.byte()).validate(x).hasValue())",
        "isSemver('v01.2', true) && !isSemver('v01.2', false) && semver('v01.2', true) == semver('1.2.0')",
        "object.metadata.labels.transformMap(k, v, v + k) == {'app': 'webapp'} && [5, 6].transformMap(i, v, v > 5, i) == {1: 1}",
        "object.metadata.labels.transformMapEntry(k, v, {v: k}) == {'web': 'app'} && [1, 2].existsOne(i, v, v == 2 && i == 1)",
        "'Hello'.lowerAscii() == 'hello' && 'abc'.substring(1) == 'bc' && ' x '.trim() == 'x'",
        "'hello'.indexOf('l') == 2 && object.spec.list.indexOf('b') == 1 && [1, 2].indexOf(3) == -1",
        "'hello'.replace('l', 'L', 1) == 'heLlo' && 'hello'.lastIndexOf('l') == 3",
        "[1, 2, 3].sum() == 6 && [3, 1].min() == 1 && ['a', 'b'].max() == 'b' && [1, 2, 2].isSorted()",
        "sets.contains([1, 2, 3], [1]) && !sets.intersects([1], [2])",
        "{'a': 1}.all(k, v, k == 'a' && v == 1) && [1, 2].transformList(i, v, i + v) == [1, 3]",
        "'abc123'.find('[0-9]+') == '123' && '1 2 3'.findAll('[0-9]', 2) == ['1', '2'] && 'abc'.matches('^a.c$')",
        "quantity('1Gi') == quantity('1024Mi') && quantity('500m').isLessThan(quantity('1'))",
        "quantity('1').add(quantity('500m')).compareTo(quantity('1500m')) == 0 && quantity('3').asInteger() == 3",
        "isQuantity('10Mi') && !isQuantity('ten') && quantity('-1').sign() == -1",
        "url('https://user@example.com:8080/a%20b?x=1&x=2').getHost() == 'example.com:8080'",
        "url('https://example.com/a?x=1').getQuery() == {'x': ['1']} && !isURL('no url') && isURL('/path')",
        "ip('127.0.0.1').isLoopback() && ip('::1').family() == 6 && !isIP('300.1.1.1')",
        "cidr('10.0.0.0/8').containsIP('10.1.2.3') && !cidr('10.0.0.0/8').containsCIDR('11.0.0.0/24')",
        "cidr('10.1.2.3/8').masked() == cidr('10.0.0.0/8') && cidr('10.1.2.3/8').ip() == ip('10.1.2.3')",
        "semver('1.2.3').isLessThan(semver('1.10.0')) && semver('1.0.0-rc.1').isLessThan(semver('1.0.0'))",
        "duration('90s') > duration('1m') && timestamp('2026-01-01T00:00:00Z').getFullYear() == 2026",
        "math.greatest(1, 2) == 2 && base64.encode(b'a') == 'YQ=='",
    ],
)
def test_what_holds(source):
    assert run(source) is True


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("object.spec.missing == 1", "no such key: missing"),
        ("object.spec.replicas / 0 == 1", "division by zero"),
        ("object.spec.list[7] == 'a'", "index out of bounds: 7"),
        ("object.metadata.name.foo == 1", "no such overload"),
        ("quantity(object.metadata.name).sign() == 1", "quantities must match the regular expression"),
    ],
)
def test_what_has_no_value(source, words):
    with pytest.raises(cel.EvaluationError, match=words.replace("(", "\\(")):
        run(source)


def test_what_does_not_compile():
    with pytest.raises(cel.CompileError, match=r"compilation failed: ERROR: <input>:1:1: undeclared reference to 'foo'"):
        ENV.compile("foo == 1")
    with pytest.raises(cel.CompileError, match="found no matching overload for '_\\+_' applied to '\\(int, string\\)'"):
        ENV.compile("1 + 'a'")
    with pytest.raises(cel.CompileError, match="Syntax error"):
        ENV.compile("a.b(")
    assert [ENV.compile(each).result for each in ("1 == 1", "'a'", "1", "object.x", "[1]")] == [
        "bool",
        "string",
        "int",
        "dyn",
        "list",
    ]


def test_what_would_take_too_long_is_not_begun():
    def depth(source: str) -> int:
        return cost.nesting(ENV.compile(source)._compiled.serialize())

    inner = "object.spec.list.all(b, a == b)"
    assert depth("1 == 1") == 0
    assert depth("object.spec.list.all(a, a == 'a') && object.spec.list.exists(b, b == 'b')") == 1
    assert depth(f"object.spec.list.all(a, {inner})") == 2
    assert depth("object.spec.list.filter(a, a == 'a').all(b, b == 'a')") == 1
    assert run(f"object.spec.list.exists(a, {inner})") is False
    large = {"spec": {"list": ["x"] * 4000}}
    with pytest.raises(cel.EvaluationError, match="cost limit exceeded"):
        run(f"object.spec.list.exists(a, {inner})", object=large)


def test_the_authorizer_is_asked_between_two_evaluations():
    env = cel.environment(authorizer=cel.AUTHORIZER)
    program = env.compile("authorizer.group('apps').resource('deployments').namespace('n').check('create').allowed()")
    values = {"authorizer": make("authorizer")}
    decisions = Decisions()
    token = DECISIONS.set(decisions)
    try:
        with pytest.raises(cel.EvaluationError):
            program.run(values)
        question = Question("create", "", "apps", "deployments", namespace="n")
        assert decisions.wanted == [question]
        decisions.known[question] = (True, "because")
        assert program.run(values) is True
    finally:
        DECISIONS.reset(token)
