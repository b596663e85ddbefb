"""Names: the forms that the API allows, with upstream's words for what breaks them, and the random end of a `generateName`.

Every check returns messages, empty where the value is good; the caller adds the field path.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Protocol

Check = Callable[[str], list[str]]

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_LABEL_1035 = "[a-z]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE = f"({_QUALIFIED})?"
_CONFIG_KEY = "[-._a-zA-Z0-9]+"

_LABEL_RE = re.compile(_LABEL)
_SUBDOMAIN_RE = re.compile(_SUBDOMAIN)
_LABEL_1035_RE = re.compile(_LABEL_1035)
_QUALIFIED_RE = re.compile(_QUALIFIED)
_VALUE_RE = re.compile(_VALUE)
_CONFIG_KEY_RE = re.compile(_CONFIG_KEY)
_WILDCARD_RE = re.compile(rf"\*\.{_SUBDOMAIN}")

_ALNUM = "alphanumeric characters, '-', '_' or '.'"
_ENDS = "must start and end with an alphanumeric character"

#: Vowels and look-alikes are left out, so that no suffix spells a word.
_SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
SUFFIX_LENGTH = 5
_MAX_GENERATED = 63 - SUFFIX_LENGTH


class Random(Protocol):
    """Where randomness comes in: `random.Random` and `secrets.SystemRandom` are such."""

    def randrange(self, stop: int, /) -> int: ...


def suffix(source: Random, length: int = SUFFIX_LENGTH) -> str:
    """Random letters for a name."""
    return "".join(_SUFFIX_ALPHABET[source.randrange(len(_SUFFIX_ALPHABET))] for _ in range(length))


def generate(base: str, source: Random) -> str:
    """The name for a `generateName`: the base, cut so that the whole fits in 63 characters, and five random letters."""
    return base[:_MAX_GENERATED] + suffix(source)


def too_long(limit: int) -> str:
    return f"must be no more than {limit} bytes"


def pattern_message(message: str, pattern: str, *examples: str) -> str:
    """A message with examples and the regular expression behind it."""
    if not examples:
        return f"{message} (regex used for validation is '{pattern}')"
    shown = " or ".join(f"'{each}', " for each in examples)
    return f"{message} (e.g. {shown}regex used for validation is '{pattern}')"


def dns1123_label(value: str) -> list[str]:
    """At most 63 of lower case letters, digits and dashes."""
    if value.isascii() and len(value) <= 63 and _LABEL_RE.fullmatch(value):
        return []
    found = [too_long(63)] if len(value.encode()) > 63 else []
    if not _LABEL_RE.fullmatch(value):
        if _SUBDOMAIN_RE.fullmatch(value):
            found.append("must not contain dots")
        else:
            message = f"a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and {_ENDS}"
            found.append(pattern_message(message, _LABEL, "my-name", "123-abc"))
    return found


def dns1123_subdomain(value: str) -> list[str]:
    """Labels joined by dots, at most 253 characters: what most objects are called."""
    found = [too_long(253)] if len(value.encode()) > 253 else []
    if not _SUBDOMAIN_RE.fullmatch(value):
        message = f"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and {_ENDS}"
        found.append(pattern_message(message, _SUBDOMAIN, "example.com"))
    return found


def dns1035_label(value: str) -> list[str]:
    """A label that begins with a letter: Services' names."""
    found = [too_long(63)] if len(value.encode()) > 63 else []
    if not _LABEL_1035_RE.fullmatch(value):
        message = (
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
            "and end with an alphanumeric character"
        )
        found.append(pattern_message(message, _LABEL_1035, "my-name", "abc-123"))
    return found


def wildcard_subdomain(value: str) -> list[str]:
    """`*.example.com`: Ingress hosts."""
    found = [too_long(253)] if len(value.encode()) > 253 else []
    if not _WILDCARD_RE.fullmatch(value):
        message = (
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case "
            "alphanumeric characters, '-' or '.' and end with an alphanumeric character"
        )
        found.append(pattern_message(message, rf"\*\.{_SUBDOMAIN}", "*.example.com"))
    return found


def path_segment(value: str) -> list[str]:
    """Anything that can stand in a URL path: roles, bindings, priority levels."""
    if value in (".", ".."):
        return [f"may not be '{value}'"]
    return [f"may not contain '{each}'" for each in "/%" if each in value]


def qualified_name(value: str) -> list[str]:
    """A label or annotation key, a finalizer, a resource: `name` or `prefix/name`."""
    prefix, slash, name = value.rpartition("/")
    found: list[str] = []
    if slash:
        if "/" in prefix:
            message = f"a qualified name must consist of {_ALNUM}, and {_ENDS}"
            shape = pattern_message(message, _QUALIFIED, "MyName", "my.name", "123-abc")
            return [f"{shape} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"]
        if not prefix:
            found.append("prefix part must be non-empty")
        else:
            found += [f"prefix part {each}" for each in dns1123_subdomain(prefix)]
    if not name:
        found.append("name part must be non-empty")
    elif len(name) > 63:
        found.append(f"name part {too_long(63)}")
    if not _QUALIFIED_RE.fullmatch(name):
        message = f"name part must consist of {_ALNUM}, and {_ENDS}"
        found.append(pattern_message(message, _QUALIFIED, "MyName", "my.name", "123-abc"))
    return found


def label_value(value: str) -> list[str]:
    """At most 63 characters, or empty."""
    found = [too_long(63)] if len(value.encode()) > 63 else []
    if not _VALUE_RE.fullmatch(value):
        message = f"a valid label must be an empty string or consist of {_ALNUM}, and {_ENDS}"
        found.append(pattern_message(message, _VALUE, "MyValue", "my_value", "12345"))
    return found


def config_key(value: str) -> list[str]:
    """A key of a ConfigMap or Secret, which becomes a file's name."""
    found = [too_long(253)] if len(value.encode()) > 253 else []
    if not _CONFIG_KEY_RE.fullmatch(value):
        message = f"a valid config key must consist of {_ALNUM}"
        found.append(pattern_message(message, _CONFIG_KEY, "key.name", "KEY_NAME", "key-name"))
    if value in (".", ".."):
        found.append(f"must not be '{value}'")
    elif value.startswith(".."):
        found.append("must not start with '..'")
    return found


def env_var_name(value: str) -> list[str]:
    """Printable ASCII without `=`."""
    if not value:
        return ["environment variable names must be non-empty"]
    if value.isascii() and value.isprintable() and "=" not in value:
        return []
    return ["a valid environment variable name must consist only of printable ASCII characters other than '='"]


def port_name(value: str) -> list[str]:
    """An IANA service name: at most 15 of lower case letters, digits and dashes, with a letter."""
    found: list[str] = []
    if len(value) > 15:
        found.append("must be no more than 15 characters")
    if not re.fullmatch("[-a-z0-9]+", value):
        found.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search("[a-z]", value):
        found.append("must contain at least one letter (a-z)")
    if "--" in value:
        found.append("must not contain consecutive hyphens")
    if value[:1] == "-" or value[-1:] == "-":
        found.append("must not begin or end with a hyphen")
    return found


def ip_address(value: str) -> list[str]:
    """An IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return ["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"]
    return []


def cidr(value: str) -> list[str]:
    """An address block."""
    try:
        if "/" in value and ipaddress.ip_network(value, strict=False):
            return []
    except ValueError:
        pass
    return ["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"]
