"""What rules may cost. The figures are those that upstream comes to for the same schemas and rules."""

from __future__ import annotations

from typing import Any

import pytest

from kubeling.api.structural.decl import declare
from kubeling.api.structural.node import compile_schema
from kubeling.api.structural.rulecost import check_costs, rule_cost

Obj = dict[str, Any]
NUMBER, TEXT, FLAG, WHOLE = ({"type": kind} for kind in ("number", "string", "boolean", "integer"))
INT_OR_TEXT = {"x-kubernetes-int-or-string": True}
PAIR = {"type": "object", "required": ["required"], "properties": {"required": TEXT, "optional": TEXT}}


def text(form: str = "", limit: int | None = None, **more: Any) -> Obj:
    found = {**TEXT, **more, **({"format": form} if form else {})}
    return found if limit is None else {**found, "maxLength": limit}


def listed(items: Obj, limit: int | None = None) -> Obj:
    found = {"type": "array", "items": items}
    return found if limit is None else {**found, "maxItems": limit}


def mapped(values: Obj, limit: int | None = None) -> Obj:
    found = {"type": "object", "additionalProperties": values}
    return found if limit is None else {**found, "maxProperties": limit}


def fields(**properties: Obj) -> Obj:
    return {"type": "object", "properties": properties}


ALL = "self.all(x, true)"
DEEP = 'self.all(x, x["y"].required == "z")'


@pytest.mark.parametrize(
    ("schema", "rule", "cost"),
    [
        (listed(NUMBER), ALL, 4718591),
        (listed(NUMBER, 10), ALL, 32),
        (listed(TEXT), ALL, 3145727),
        (listed(FLAG), ALL, 1887437),
        (listed(listed(NUMBER)), ALL, 3145727),
        (listed(PAIR), ALL, 555128),
        (listed(INT_OR_TEXT), ALL, 4718591),
        (listed(text("duration")), ALL, 2359295),
        (listed(text("date")), ALL, 725936),
        (listed(text("date-time")), ALL, 428963),
        (mapped(NUMBER), ALL, 1348169),
        (mapped(TEXT), ALL, 1179647),
        (mapped(TEXT, 3), ALL, 11),
        (mapped(FLAG), ALL, 943718),
        (mapped(INT_OR_TEXT), ALL, 1348169),
        (mapped(PAIR), ALL, 428963),
        (mapped(mapped(NUMBER)), ALL, 1179647),
        (mapped(text("duration")), ALL, 1048577),
        (mapped(text("date")), ALL, 524288),
        (mapped(text("date-time")), ALL, 349526),
        (text(), "self.contains('test')", 314574),
        (text(limit=10), "self.contains('test')", 5),
        (text(), "self.startsWith('test')", 2),
        (text(), "self.endsWith('test')", 2),
        (text(), 'size(self + "hello") > size("hello")', 314578),
        (text(limit=4), 'size(self + "hello") > size("hello")', 7),
        (text(), 'self.matches("x")', 314574),
        (text(limit=50), 'self.matches("x")', 22),
        (text(), '"".matches("(((((((((())))))))))[0-9]")', 7),
        (text(), 'self.matches("")', 1),
        (text(), "self.find('[0-9]+') == ''", 629147),
        (text(limit=10), "self.find('[0-9]+') == ''", 11),
        (text(), "self.lowerAscii() == 'lower!'", 314575),
        (text(limit=10), "self.lowerAscii() == 'lower!'", 6),
        (text(), 'self == "x"', 2),
        (text(limit=0), 'self == "x"', 1),
        (text("byte"), 'self == b"x"', 2),
        (text("byte", 0), 'self == b"x"', 1),
        (text(enum=["A", "B", "C", "LongValue"]), "self.contains('A')", 2),
        (text(limit=1000, enum=["A"]), "self.contains('A')", 401),
        (listed(NUMBER), "self[1] == 0.0", 2),
        (listed(TEXT), "self[1] == self[1]", 314577),
        (listed(TEXT, 8), "self[1] == self[1]", 314577),
        (listed(NUMBER, 10), "self.all(x, self.all(y, true))", 352),
        (listed(NUMBER, 10), "self.all(x, self.all(y, self.all(z, true)))", 3552),
        (listed(NUMBER), "self.all(x, x == 0.0)", 6291454),
        (listed(NUMBER, 3 * 1024 * 2048), "self.all(x, x == 0.0)", 25165826),
        (listed(INT_OR_TEXT), "self[0] == 5", 3),
        (listed(FLAG), "self[0] == false", 2),
        (listed(PAIR), "self[0] == null", 2),
        (listed(listed(NUMBER)), "self[0][0] == -1.0", 3),
        (listed(mapped(NUMBER)), "self.all(x, x.y == 25.2)", 6291452),
        (listed(mapped(NUMBER), 12), "self.all(x, x.y == 25.2)", 74),
        (listed(mapped(NUMBER)), "self[0].x > 2.0", 4),
        (listed(text("duration")), "self[0].getHours() == 2", 4),
        (listed(text("date")), "self[2].getDayOfMonth() == 13", 4),
        (mapped(TEXT), "self.all(x, x.contains(self[x]))", 2752507),
        (mapped(text(limit=10), 10), "self.all(x, x.contains(self[x]))", 72),
        (mapped(NUMBER), 'self["x"] == 0.0', 2),
        (mapped(NUMBER), "has(self.x)", 1),
        (listed(mapped(PAIR)), DEEP, 7340027),
        (listed(mapped(PAIR, 10)), DEEP, 7340027),
        (listed(mapped(PAIR, 10), 10), DEEP, 72),
        (listed(TEXT), "self.join(' ') == 'aa bb'", 329853068905),
        (listed(text(limit=10), 10), "self.join(' ') == 'aa bb'", 43),
        (listed(TEXT), "self.isSorted() == true", 329854432052),
        (listed(text(limit=10), 10), "self.isSorted() == true", 52),
        (
            fields(str=TEXT, before=text(limit=2), after=text(limit=4)),
            "self.str.replace(self.before, self.after) == 'does not matter'",
            629154,
        ),
        (
            fields(str=text(limit=4), before=text(limit=2), after=text(limit=4)),
            "self.str.replace(self.before, self.after) == 'does not matter'",
            12,
        ),
        (fields(str=TEXT, separator=TEXT), "self.str.split(self.separator) == []", 629160),
        (fields(str=text(limit=10), separator=text(limit=10)), "self.str.split(self.separator) == []", 22),
        (mapped(WHOLE), "oldSelf.size() == self.size()", 5),
        (mapped(text("date-time")), 'self["a"] == self["b"]', 8),
        (mapped(text("duration")), 'self["c"] == self["d"]', 8),
    ],
)
def test_the_worst_that_a_rule_costs(schema: Obj, rule: str, cost: int) -> None:
    decl = declare(compile_schema(schema))
    assert decl is not None
    assert rule_cost({"rule": rule}, rule, decl) == cost


ROOT = "spec.validation.openAPIV3Schema"
RULE = "x-kubernetes-validations"


def told(schema: Obj) -> list[str]:
    return [str(each) for each in check_costs(compile_schema(fields(spec=schema)), ROOT)]


def test_what_is_too_dear_is_refused_with_its_factor() -> None:
    advice = "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    items = {**fields(name=TEXT), RULE: [{"rule": "self.name.matches('^[a-z]+$')"}]}
    where = f"{ROOT}.properties[spec].items"
    assert told(listed(items, 16)) == [
        f"{where}.{RULE}[0].rule: Forbidden: estimated rule cost exceeds budget by factor of 1.006637x {advice}"
    ]
    assert told(listed(items, 15)) == []
    assert told(listed({**items, "properties": {"name": text(limit=63)}})) == [
        f"{where}.{RULE}[0].rule: Forbidden: estimated rule cost exceeds budget by factor of 5.7x {advice}"
    ]
    assert told(listed(items, 1600)) == [
        f"{where}.{RULE}[0].rule: Forbidden: estimated rule cost exceeds budget by factor of more than 100x {advice}",
        f"{where}.{RULE}[0].rule: Forbidden: contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema",
        f"{ROOT}: Forbidden: {RULE} estimated rule cost total for entire OpenAPIv3 schema exceeds budget by factor of 10.1x {advice}",
    ]


def test_a_loop_in_a_loop_needs_limits() -> None:
    rule = {RULE: [{"rule": "self.all(x, self.all(y, x == y))"}]}
    assert "more than 100x" in told({**listed(TEXT), **rule})[0]
    assert told({**listed(text(limit=64), 64), **rule}) == []


def test_many_rules_that_are_each_cheap_enough() -> None:
    one = {**text(), RULE: [{"rule": "self.contains('0123456789012345678901234567890123456789012345678901234567890123456789')"}]}
    assert told(fields(**{f"f{index}": one for index in range(20)})) == []
    found = told(fields(**{f"f{index}": one for index in range(46)}))
    assert [each.partition(": ")[0] for each in found][-1] == ROOT
    assert len(found) == 5
    assert "factor of 1.012926x" in found[-1]


def test_how_long_a_message_gets_must_follow_from_the_schema() -> None:
    """string() of a number is of no known length, so it cannot be joined; format can."""
    rule = {"rule": "self.min < 3", "messageExpression": "'least ' + string(self.min)"}
    found = told({**fields(min=WHOLE), RULE: [rule]})
    assert found[0].startswith(
        f"{ROOT}.properties[spec].{RULE}[0].messageExpression: Forbidden: estimated messageExpression cost exceeds"
    )
    assert told({**fields(min=WHOLE), RULE: [{**rule, "messageExpression": "'least %d'.format([self.min])"}]}) == []


def test_an_optional_old_value_costs_what_is_done_with_it() -> None:
    rule = {"rule": "oldSelf.optMap(o, o.name == self.name).orValue(true)", "optionalOldSelf": True}
    assert told({**fields(name=TEXT), RULE: [rule]}) == []
    decl = declare(compile_schema(fields(n=WHOLE)))
    assert decl is not None
    assert (
        rule_cost({"rule": "self.n > 1", "optionalOldSelf": True}, "self.n > 1", decl) == rule_cost({}, "self.n > 1", decl) == 3
    )


NAME = "^(\\\\*\\\\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
LISTENER = {
    **fields(
        name=text(limit=253),
        hostname=text(limit=253),
        port={**WHOLE, "minimum": 1, "maximum": 65535},
        protocol=text(limit=255),
        tls={**fields(mode=text(enum=["Terminate", "Passthrough"]), refs=listed(fields(name=text(limit=253)), 64)), "x": 1},
    ),
    "required": ["name", "port", "protocol"],
}


def test_rules_as_operators_ship_them_are_cheap_enough() -> None:
    """The shapes of the Gateway API's listeners, routes and addresses, and of certificates."""
    listeners = {
        **listed(LISTENER, 64),
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
        RULE: [
            {"rule": "self.all(l, l.protocol in ['HTTP', 'TCP', 'UDP'] ? !has(l.tls) : true)"},
            {"rule": "self.all(l1, self.exists_one(l2, l1.name == l2.name))"},
            {
                "rule": "self.all(l1, self.exists_one(l2, l1.port == l2.port && l1.protocol == l2.protocol && "
                "(has(l1.hostname) && has(l2.hostname) ? l1.hostname == l2.hostname : !has(l1.hostname) && !has(l2.hostname))))"
            },
        ],
    }
    address = {
        **fields(type=text(limit=253), value=text(limit=253)),
        RULE: [{"rule": f"self.type == 'Hostname' ? (!has(self.value) || self.value.matches('{NAME}')): true"}],
    }
    count = " + ".join(f"(self.size() > {at} ? self[{at}].matches.size() : 0)" for at in range(16))
    path = {
        **fields(type=text(enum=["Exact", "PathPrefix"]), value=text(limit=1024)),
        RULE: [
            {"rule": "(self.type in ['Exact','PathPrefix']) ? self.value.startsWith('/') : true"},
            {"rule": "(self.type in ['Exact','PathPrefix']) ? !self.value.contains('//') : true"},
            {
                "rule": 'self.type in [\'Exact\',\'PathPrefix\'] ? self.value.matches(r"""^(?:[-A-Za-z0-9/._~!$&\'()*+,;=:@]|[%][0-9a-fA-F]{2})+$""") : true'
            },
        ],
    }
    routes = {
        **listed(fields(matches=listed(fields(path=path), 64)), 16),
        RULE: [{"rule": f"{count} <= 128", "message": "too many matches in all"}],
    }
    key = {
        **fields(rotation=TEXT, size=WHOLE, issuer={**fields(name=TEXT), RULE: [{"rule": "self == oldSelf"}]}),
        RULE: [{"rule": "!has(oldSelf.rotation) || has(self.rotation)"}, {"rule": "self.size >= oldSelf.size"}],
    }
    assert told(fields(listeners=listeners, addresses=listed(address, 16), rules=routes, key=key)) == []
