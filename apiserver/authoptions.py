"""Who is believed and who may do what: the flags of authentication and authorization, under upstream's names."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from datetime import timedelta

from kubeling.api.times import parse_duration


@dataclass(frozen=True, slots=True)
class AuthOptions:
    """Paths are of PEM files unless said otherwise; empty strings stand for flags not given, times are in seconds."""

    client_ca_file: str = ""
    token_auth_file: str = ""
    #: None where the flag was not given, which means yes unless the configuration says otherwise.
    anonymous: bool | None = None
    #: An AuthenticationConfiguration and an AuthorizationConfiguration, in YAML.
    authentication_config: str = ""
    authorization_config: str = ""
    bootstrap_tokens: bool = False
    #: Where others find the keys of service-account tokens; this server's own address where it is empty.
    jwks_uri: str = ""
    #: Node and RBAC where none are given.
    modes: tuple[str, ...] = ()
    #: A JSON list of roles and bindings that are reconciled with the bootstrap policy.
    rbac_bootstrap_file: str = ""
    proxy_ca_file: str = ""
    proxy_names: tuple[str, ...] = ()
    proxy_user_headers: tuple[str, ...] = ()
    proxy_group_headers: tuple[str, ...] = ()
    proxy_uid_headers: tuple[str, ...] = ()
    proxy_extra_prefixes: tuple[str, ...] = ()
    oidc_issuer: str = ""
    oidc_client_id: str = ""
    oidc_username_claim: str = "sub"
    oidc_username_prefix: str = ""
    oidc_groups_claim: str = ""
    oidc_groups_prefix: str = ""
    oidc_required: dict[str, str] = field(default_factory=dict)
    oidc_algorithms: tuple[str, ...] = ("RS256",)
    oidc_ca_file: str = ""
    token_webhook: str = ""
    token_webhook_version: str = "v1beta1"
    token_webhook_seconds: float = 120.0
    authorization_webhook: str = ""
    authorization_webhook_version: str = "v1beta1"
    authorization_webhook_allowed_seconds: float = 300.0
    authorization_webhook_refused_seconds: float = 30.0


def add(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    flag = parser.add_argument
    flag("--client-ca-file", default="", metavar="PEM", help="the authority of client certificates")
    flag("--token-auth-file", default="", metavar="CSV", help="static bearer tokens")
    flag("--anonymous-auth", default=None, type=boolean, metavar="BOOL", help="requests without credentials are system:anonymous")
    flag(
        "--authentication-config", default="", metavar="YAML", help="issuers of tokens with their rules, and who may be anonymous"
    )
    flag(
        "--authorization-config",
        default="",
        metavar="YAML",
        help="the authorizers in their order, webhooks with conditions among them",
    )
    flag("--enable-bootstrap-token-auth", default=False, type=boolean, nargs="?", const=True, metavar="BOOL")
    flag("--service-account-jwks-uri", default="", metavar="URL", help="what OIDC discovery says about the keys of tokens")
    flag("--requestheader-client-ca-file", default="", metavar="PEM", help="the authority of authenticating proxies")
    flag("--requestheader-allowed-names", default=(), type=_strings, metavar="CN[,CN]")
    flag("--requestheader-username-headers", default=(), type=_strings, metavar="NAME[,NAME]")
    flag("--requestheader-group-headers", default=(), type=_strings, metavar="NAME[,NAME]")
    flag("--requestheader-uid-headers", default=(), type=_strings, metavar="NAME[,NAME]")
    flag("--requestheader-extra-headers-prefix", default=(), type=_strings, metavar="NAME[,NAME]")
    flag("--oidc-issuer-url", default="", metavar="URL", help="an OpenID Connect provider whose tokens are believed")
    flag("--oidc-client-id", default="", metavar="NAME")
    flag("--oidc-username-claim", default="sub", metavar="NAME")
    flag("--oidc-username-prefix", default="", metavar="TEXT")
    flag("--oidc-groups-claim", default="", metavar="NAME")
    flag("--oidc-groups-prefix", default="", metavar="TEXT")
    flag("--oidc-required-claim", default=[], type=_pair, action="append", metavar="NAME=VALUE")
    flag("--oidc-signing-algs", default=("RS256",), type=_strings, metavar="NAME[,NAME]")
    flag("--oidc-ca-file", default="", metavar="PEM")
    flag("--authentication-token-webhook-config-file", default="", metavar="KUBECONFIG", help="a server that knows more tokens")
    flag("--authentication-token-webhook-version", default="v1beta1", choices=("v1", "v1beta1"))
    flag("--authentication-token-webhook-cache-ttl", default=120.0, type=duration, metavar="DURATION")
    flag(
        "--authorization-mode",
        default=(),
        type=_strings,
        metavar="MODE[,MODE]",
        help="Node, RBAC, Webhook, AlwaysAllow",
    )
    flag("--authorization-webhook-config-file", default="", metavar="KUBECONFIG")
    flag("--authorization-webhook-version", default="v1beta1", choices=("v1", "v1beta1"))
    flag("--authorization-webhook-cache-authorized-ttl", default=300.0, type=duration, metavar="DURATION")
    flag("--authorization-webhook-cache-unauthorized-ttl", default=30.0, type=duration, metavar="DURATION")
    flag("--rbac-bootstrap-file", default="", metavar="JSON", help="roles and bindings that the cluster has besides upstream's")


def options(args: argparse.Namespace) -> AuthOptions:
    """Flags to options."""
    return AuthOptions(
        client_ca_file=args.client_ca_file,
        token_auth_file=args.token_auth_file,
        anonymous=args.anonymous_auth,
        authentication_config=args.authentication_config,
        authorization_config=args.authorization_config,
        bootstrap_tokens=args.enable_bootstrap_token_auth,
        jwks_uri=args.service_account_jwks_uri,
        modes=args.authorization_mode,
        rbac_bootstrap_file=args.rbac_bootstrap_file,
        proxy_ca_file=args.requestheader_client_ca_file,
        proxy_names=args.requestheader_allowed_names,
        proxy_user_headers=args.requestheader_username_headers,
        proxy_group_headers=args.requestheader_group_headers,
        proxy_uid_headers=args.requestheader_uid_headers,
        proxy_extra_prefixes=args.requestheader_extra_headers_prefix,
        oidc_issuer=args.oidc_issuer_url,
        oidc_client_id=args.oidc_client_id,
        oidc_username_claim=args.oidc_username_claim,
        oidc_username_prefix=args.oidc_username_prefix,
        oidc_groups_claim=args.oidc_groups_claim,
        oidc_groups_prefix=args.oidc_groups_prefix,
        oidc_required=dict(args.oidc_required_claim),
        oidc_algorithms=args.oidc_signing_algs,
        oidc_ca_file=args.oidc_ca_file,
        token_webhook=args.authentication_token_webhook_config_file,
        token_webhook_version=args.authentication_token_webhook_version,
        token_webhook_seconds=args.authentication_token_webhook_cache_ttl,
        authorization_webhook=args.authorization_webhook_config_file,
        authorization_webhook_version=args.authorization_webhook_version,
        authorization_webhook_allowed_seconds=args.authorization_webhook_cache_authorized_ttl,
        authorization_webhook_refused_seconds=args.authorization_webhook_cache_unauthorized_ttl,
    )


def _strings(text: str) -> tuple[str, ...]:
    return tuple(each.strip() for each in text.split(",") if each.strip())


def boolean(text: str) -> bool:
    """The value of a flag that is on or off."""
    if text.lower() not in ("true", "false", "1", "0", "t", "f"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() in ("true", "1", "t")


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return key, value


def duration(text: str) -> float:
    """A Go duration in seconds."""
    try:
        found: timedelta = parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 2m or 30s") from error
    return found.total_seconds()
