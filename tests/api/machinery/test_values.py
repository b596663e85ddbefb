"""Quantities, times, names, hashes, selectors, errors: the small vocabulary that everything else is made of."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kubeling.api import cron, fields, hashing, intstr, labels, names, quantity, times
from kubeling.api.errors import (
    ApiError,
    already_exists,
    conflict,
    expired,
    forbidden,
    internal,
    invalid,
    invalid_value,
    is_already_exists,
    is_conflict,
    is_expired,
    is_not_found,
    not_found,
    required_value,
    too_many_values,
)


def _answer(case: Any) -> str:
    words = case.documents[0] if case.documents else []
    lines = []
    for word in words:
        text = str(word)
        try:
            lines.append(f"{text!r} -> {_VERBS[case.verb](text)}")
        except ValueError as error:
            lines.append(f"{text!r} ! {error}")
    return "\n".join(lines)


def _quantity(text: str) -> str:
    parsed = quantity.parse(text)
    return f"{parsed} value={parsed.value} milli={parsed.milli}"


def _cron(text: str) -> str:
    found = cron.parse(text)
    sets = (found.minutes, found.hours, found.days, found.months, found.weekdays)
    return f"every {found.every:g}s" if found.every else " ".join(",".join(map(str, sorted(each))) for each in sets)


_VERBS: dict[str, Callable[[str], Any]] = {
    "quantity": _quantity,
    "labels": lambda text: labels.parse(text) if str(labels.parse(text)) else "everything",
    "fields": lambda text: fields.parse(text) if str(fields.parse(text)) else "everything",
    "duration": lambda text: times.format_duration(times.parse_duration(text)),
    "time": lambda text: times.format_micro_time(times.parse_time(text)),
    "age": lambda text: times.human_duration(times.parse_duration(text)),
    "label": lambda text: "; ".join(names.dns1123_label(text)) or "ok",
    "port": lambda text: "; ".join(names.port_name(text)) or "ok",
    "cron": _cron,
}


def test_transcript(transcript: Callable[..., None]) -> None:
    transcript("values.txt", _answer)


def test_quantities_add_compare_and_keep_their_family() -> None:
    total = quantity.total("1Gi", "512Mi")
    assert str(total) == "1536Mi"
    assert str(quantity.parse("1") - quantity.parse("250m")) == "750m"
    assert quantity.compare("1000m", "1") == 0
    assert quantity.compare("1G", "1Gi") < 0
    assert quantity.parse("0.5") == quantity.parse("500m")
    assert len({quantity.parse("1"), quantity.parse("1000m")}) == 1
    assert not quantity.is_quantity("1Q")
    assert not quantity.is_quantity(True)


def test_huge_exponents_cost_nothing() -> None:
    assert quantity.units("1e999999999") == 2**63 - 1
    assert quantity.units("1e-999999999") == 1


def test_canonical_quantities_read_back_as_themselves() -> None:
    source = random.Random(7)
    for _ in range(2000):
        number = source.choice([str(source.randrange(10**6)), f"{source.randrange(1000)}.{source.randrange(1000)}"])
        text = number + source.choice(["", "n", "u", "m", "k", "M", "G", "Ki", "Mi", "Gi", "e3", "e-3"])
        parsed = quantity.parse(text)
        again = quantity.parse(str(parsed))
        assert again == parsed
        assert str(again) == str(parsed)


def test_a_generated_name_fits_and_uses_letters_that_spell_nothing() -> None:
    made = names.generate("x" * 100, random.Random(1))
    assert len(made) == 63
    assert set(made[-5:]) <= set("bcdfghjklmnpqrstvwxz2456789")
    assert names.generate("web-", random.Random(1)) == names.generate("web-", random.Random(1))


def test_the_template_hash_ignores_order_and_nulls_and_moves_with_the_collision_count() -> None:
    first = hashing.template_hash({"a": 1, "b": {"c": None}})
    assert first == hashing.template_hash({"b": {}, "a": 1})
    assert first != hashing.template_hash({"a": 2, "b": {}})
    assert first != hashing.template_hash({"a": 1, "b": {}}, 1)
    assert hashing.fnv1a_32(b"hello") == 0x4F9F2CAB


def test_a_share_is_rounded_as_asked() -> None:
    assert intstr.scaled("25%", 10, round_up=True) == 3
    assert intstr.scaled("25%", 10, round_up=False) == 2
    assert intstr.scaled(4, 10, round_up=True) == 4
    assert intstr.scaled(None, 10, round_up=True, default=1) == 1
    with pytest.raises(ValueError, match="not a percentage"):
        intstr.scaled("ten", 10, round_up=True)


def test_label_selectors_match_by_their_rules() -> None:
    held = {"app": "web", "size": "5"}
    for text in ("app=web", "app in (a,web)", "app!=db", "tier!=x", "tier notin (x)", "!tier", "app", "size>4", "size<6", ""):
        assert labels.parse(text).matches(held), text
    for text in ("app=db", "app notin (web)", "!app", "tier", "size>5", "app>1", "tier in (a)"):
        assert not labels.parse(text).matches(held), text
    assert not labels.from_selector(None).matches(held)
    assert labels.from_selector({}).matches(held)
    both = {"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}
    assert labels.from_selector(both).matches(held)
    assert labels.parse("app=web,x in (y),!z").exact() == {"app": "web", "x": "y"}


def test_field_selectors_treat_the_absent_as_empty() -> None:
    chosen = fields.parse("status.phase!=Failed,spec.nodeName=")
    assert chosen.matches({"status.phase": "Running"})
    assert not chosen.matches({"status.phase": "Running", "spec.nodeName": "n"})
    assert chosen.exact("spec.nodeName") == ""
    assert chosen.unsupported({"status.phase"}) == "spec.nodeName"


def test_durations_of_age_at_their_borders() -> None:
    shown = [times.human_duration(timedelta(seconds=each)) for each in (-2, -1, 0, 119, 120, 599, 600, 10799, 10800, 28800)]
    assert shown == ["<invalid>", "0s", "0s", "119s", "2m", "9m59s", "10m", "179m", "3h", "8h"]
    assert times.format_time(datetime(2026, 1, 1, 1, 2, 3, 999999, UTC)) == "2026-01-01T01:02:03Z"


def test_errors_carry_the_status_that_kubectl_reads() -> None:
    status = not_found("apps", "deployments", "web").status
    assert status == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": 'deployments.apps "web" not found',
        "reason": "NotFound",
        "details": {"name": "web", "group": "apps", "kind": "deployments"},
        "code": 404,
    }
    assert already_exists("", "pods", "x").message == 'pods "x" already exists'
    assert conflict("", "pods", "x").message.startswith(
        'Operation cannot be fulfilled on pods "x": the object has been modified;'
    )
    assert forbidden("", "pods", "", "no").message == "pods is forbidden: no"
    assert internal("boom").causes == [{"message": "boom"}]


def test_invalid_has_one_message_or_a_list_and_always_causes() -> None:
    one = invalid("Pod", "", "x", [required_value("spec.containers")])
    assert one.message == 'Pod "x" is invalid: spec.containers: Required value'
    assert one.status["details"]["kind"] == "Pod"
    two = invalid("Deployment", "apps", "x", [invalid_value("spec.replicas", -1, "must be 0"), too_many_values("a", 5, 4)])
    assert two.message == (
        'Deployment.apps "x" is invalid: [spec.replicas: Invalid value: -1: must be 0, a: Too many: 5: must have at most 4 items]'
    )
    assert [each["reason"] for each in two.causes] == ["FieldValueInvalid", "FieldValueTooMany"]
    assert str(invalid_value("a", None, "x")) == 'a: Invalid value: "null": x'


def test_predicates_go_by_reason() -> None:
    assert is_not_found(not_found("", "pods", "x"))
    assert is_conflict(conflict("", "pods", "x"))
    assert not is_conflict(already_exists("", "pods", "x"))
    assert is_already_exists(already_exists("", "pods", "x"))
    assert is_expired(expired("too old"))
    assert is_not_found(ApiError({"code": 404}))
    assert not is_not_found(ValueError("x"))
    assert not is_not_found(None)
