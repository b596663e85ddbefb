"""`--authentication-config`: an AuthenticationConfiguration with several issuers of tokens, and who may come without any."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kubeling.api import cel
from kubeling.apiserver.authn.claims import CLAIMS, USER, Mapper, Rule, Source
from kubeling.apiserver.authn.oidc import ALGORITHMS, Options
from kubeling.apiserver.configfile import Section, load

FLAG = "--authentication-config"
VERSIONS = ("apiserver.config.k8s.io/v1beta1", "apiserver.config.k8s.io/v1alpha1", "apiserver.config.k8s.io/v1")
_MAX_ISSUERS = 64
_EXTRA_KEY = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/[-a-z0-9_.~!$&'()*+,;=:@%/]+")
_RESERVED = ("kubernetes.io", "k8s.io")


@dataclass(frozen=True, slots=True)
class Configuration:
    """What the file says. `anonymous` is None where it says nothing of it; `anonymous_paths` are those that are open, None for all."""

    issuers: tuple[Options, ...] = ()
    anonymous: bool | None = None
    anonymous_paths: tuple[str, ...] | None = None


def read(path: str) -> Configuration:
    """Read the file. UsageError for what cannot be used."""
    document = load(FLAG, path, "AuthenticationConfiguration", VERSIONS)
    sections = document.sections("jwt")
    if len(sections) > _MAX_ISSUERS:
        raise document.wrong("jwt", f"Too many: {len(sections)}: must have at most {_MAX_ISSUERS} items")
    issuers = tuple(_issuer(each) for each in sections)
    for at, each in enumerate(issuers):
        others = issuers[:at]
        if any(other.issuer == each.issuer for other in others):
            raise sections[at].wrong("issuer.url", f"Duplicate value: {each.issuer!r}")
        if each.discovery_url and any(other.discovery_url == each.discovery_url for other in others):
            raise sections[at].wrong("issuer.discoveryURL", f"Duplicate value: {each.discovery_url!r}")
    enabled, paths = _anonymous(document.section("anonymous"))
    document.end()
    return Configuration(issuers, enabled, paths)


def _anonymous(section: Section | None) -> tuple[bool | None, tuple[str, ...] | None]:
    if section is None:
        return None, None
    enabled = section.flag("enabled", False)
    conditions = section.sections("conditions")
    paths = []
    for each in conditions:
        path = each.text("path")
        if not path.startswith("/"):
            raise each.wrong("path", f"Invalid value: {path!r}: has to begin with /")
        paths.append(path)
        each.end()
    if paths and not enabled:
        raise section.wrong("conditions", "enabled should be set to true when conditions are defined")
    section.end()
    return enabled, tuple(paths) if paths else None


def _issuer(section: Section) -> Options:
    issuer = section.section("issuer")
    if issuer is None:
        raise section.wrong("issuer", "Required value")
    url, discovery = issuer.text("url"), issuer.text("discoveryURL", "")
    for field, value in (("url", url), ("discoveryURL", discovery)):
        if value and not re.fullmatch(r"https://[^/?#@\s][^?#@\s]*", value):
            raise issuer.wrong(field, f"Invalid value: {value!r}: URL scheme must be https, without user, query and fragment")
    if discovery and discovery.rstrip("/") == url.rstrip("/"):
        raise issuer.wrong("discoveryURL", f"Invalid value: {discovery!r}: discoveryURL must be different from URL")
    audiences = issuer.texts("audiences")
    if not audiences or not all(audiences) or len(set(audiences)) != len(audiences):
        raise issuer.wrong("audiences", "Required value: at least one, none empty and none twice")
    policy = issuer.text("audienceMatchPolicy", "", one_of=("", "MatchAny"))
    if len(audiences) > 1 and not policy:
        raise issuer.wrong(
            "audienceMatchPolicy", "Invalid value: '': audienceMatchPolicy must be MatchAny for multiple audiences"
        )
    authority = issuer.text("certificateAuthority", "")
    if authority and "BEGIN CERTIFICATE" not in authority:
        raise issuer.wrong("certificateAuthority", "Invalid value: has to be certificates as PEM")
    issuer.end()
    mapper = _mapper(section)
    section.end()
    return Options(
        url,
        audiences[0],
        algorithms=tuple(sorted(ALGORITHMS)),
        audiences=audiences,
        discovery_url=discovery,
        ca_data=authority,
        mapper=mapper,
    )


def _mapper(section: Section) -> Mapper:
    claim_rules = tuple(_rule(each, CLAIMS, claims=True) for each in section.sections("claimValidationRules"))
    mappings = section.section("claimMappings")
    if mappings is None:
        raise section.wrong("claimMappings.username", "Required value: claim or expression is required")
    username = _source(mappings, "username", prefixed=True)
    if username is None:
        raise mappings.wrong("username", "Required value: claim or expression is required")
    groups, uid = _source(mappings, "groups", prefixed=True), _source(mappings, "uid", prefixed=False)
    extra: list[tuple[str, cel.Program]] = []
    for each in mappings.sections("extra"):
        key, program = each.text("key"), _compile(each, "valueExpression", CLAIMS)
        host = key.partition("/")[0]
        if not _EXTRA_KEY.fullmatch(key) or any(host == one or host.endswith("." + one) for one in _RESERVED):
            raise each.wrong(
                "key", f"Invalid value: {key!r}: has to be a lower-case path behind a domain that is not Kubernetes' own"
            )
        if any(known == key for known, _ in extra):
            raise each.wrong("key", f"Duplicate value: {key!r}")
        extra.append((key, program))
        each.end()
    mappings.end()
    sources = [username.expression.source if username.expression else "", *(program.source for _, program in extra)]
    sources += [rule.expression.source for rule in claim_rules if rule.expression]
    if "claims.email" in sources[0].replace("claims.email_verified", "") and not any(
        "email_verified" in each for each in sources
    ):
        raise mappings.wrong(
            "username.expression",
            "claims.email_verified must be used in claimMappings.username.expression or claimMappings.extra[*].valueExpression"
            " or claimValidationRules[*].expression when claims.email is used in claimMappings.username.expression",
        )
    user_rules = tuple(_rule(each, USER, claims=False) for each in section.sections("userValidationRules"))
    return Mapper(username, groups, uid, tuple(extra), claim_rules, user_rules)


def _source(mappings: Section, field: str, *, prefixed: bool) -> Source | None:
    section = mappings.section(field)
    if section is None:
        return None
    claim, prefix = section.text("claim", ""), section.text("prefix", None) if prefixed else None
    program = _optional(section, "expression", CLAIMS)
    section.end()
    if claim and program:
        raise section.wrong("", "Invalid value: claim and expression can't both be set")
    if program and prefix is not None:
        raise section.wrong("prefix", "Invalid value: prefix can't be set when expression is set")
    if claim and prefixed and prefix is None:
        raise section.wrong(
            "prefix",
            "Required value: prefix is required when claim is set. It can be set to an empty string to disable prefixing",
        )
    return Source(claim, prefix or "", program) if claim or program else None


def _rule(section: Section, environment: cel.Environment, *, claims: bool) -> Rule:
    claim, required = (section.text("claim", ""), section.text("requiredValue", "")) if claims else ("", "")
    program, message = _optional(section, "expression", environment), section.text("message", "")
    section.end()
    if bool(claim) == bool(program):
        raise section.wrong("", "Invalid value: exactly one of claim and expression has to be set")
    if program is not None and program.result not in ("bool", "dyn"):
        raise section.wrong("expression", f"Invalid value: {program.source!r}: must evaluate to bool")
    return Rule(claim, required, program, message)


def _optional(section: Section, field: str, environment: cel.Environment) -> cel.Program | None:
    source = section.text(field, "")
    return _program(section, field, source, environment) if source else None


def _compile(section: Section, field: str, environment: cel.Environment) -> cel.Program:
    return _program(section, field, section.text(field), environment)


def _program(section: Section, field: str, source: str, environment: cel.Environment) -> cel.Program:
    try:
        return environment.compile(source)
    except cel.CompileError as error:
        raise section.wrong(field, f"Invalid value: {source!r}: {error}") from error
