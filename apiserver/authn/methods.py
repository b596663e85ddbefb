"""The ways to be known that the flags ask for, put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kubeling.apiserver.authn.authenticator import Authenticator, StaticTokens, TokenAuthenticator
from kubeling.apiserver.authn.bootstraptoken import BootstrapTokens
from kubeling.apiserver.authn.frontproxy import Headers
from kubeling.apiserver.authn.serviceaccount import ServiceAccountTokens, TokenIssuer
from kubeling.apiserver.authn.static import load_tokens
from kubeling.apiserver.authn.x509 import ClientCertificates, Peers
from kubeling.apiserver.authoptions import AuthOptions
from kubeling.daemon.clock import Clock
from kubeling.daemon.main import UsageError

if TYPE_CHECKING:
    from kubeling.apiserver.authn.configuration import Configuration
    from kubeling.apiserver.authz.authorizer import Authorizer
    from kubeling.apiserver.registry.kinds import Kinds


def make(options: AuthOptions, issuer: TokenIssuer | None, authorizer: Authorizer, kinds: Kinds, clock: Clock) -> Authenticator:
    """The authenticator. UsageError for flags that cannot be used."""
    audiences = issuer.audiences if issuer is not None else ()
    configuration = _configuration(options)
    said = configuration.anonymous if configuration is not None else None
    return Authenticator(
        _tokens(options, issuer, kinds, clock, audiences, configuration),
        audiences,
        authorizer=authorizer,
        anonymous=(options.anonymous is not False) if said is None else said,
        anonymous_paths=configuration.anonymous_paths if configuration is not None else None,
        proxy_headers=_headers(options),
    )


def _configuration(options: AuthOptions) -> Configuration | None:
    if not options.authentication_config:
        return None
    from kubeling.apiserver.authn import configuration

    if options.oidc_issuer:
        raise UsageError(f"{configuration.FLAG} and the --oidc flags exclude each other")
    found = configuration.read(options.authentication_config)
    if found.anonymous is not None and options.anonymous is not None:
        raise UsageError(f"--anonymous-auth cannot be given where {configuration.FLAG} says who may be anonymous")
    return found


def _tokens(
    options: AuthOptions,
    issuer: TokenIssuer | None,
    kinds: Kinds,
    clock: Clock,
    audiences: Sequence[str],
    configuration: Configuration | None,
) -> list[TokenAuthenticator]:
    """In upstream's order; the webhook, which costs most, comes last."""
    found: list[TokenAuthenticator] = []
    if options.token_auth_file:
        found.append(StaticTokens(load_tokens(options.token_auth_file), audiences))
    if issuer is not None:
        found.append(ServiceAccountTokens(issuer, kinds, clock))
    if options.bootstrap_tokens:
        found.append(BootstrapTokens(kinds, clock, audiences))
    if options.oidc_issuer:
        from kubeling.apiserver.authn import oidc

        wanted = oidc.Options(
            options.oidc_issuer,
            options.oidc_client_id,
            options.oidc_username_claim,
            options.oidc_username_prefix,
            options.oidc_groups_claim,
            options.oidc_groups_prefix,
            options.oidc_required,
            options.oidc_algorithms,
            options.oidc_ca_file,
        )
        wanted.check()
        found.append(oidc.OidcTokens(wanted, clock, audiences))
    if configuration is not None and configuration.issuers:
        from kubeling.apiserver.authn import oidc

        if issuer is not None and any(each.issuer == issuer.issuer for each in configuration.issuers):
            raise UsageError(
                f"--authentication-config: {issuer.issuer} is --service-account-issuer, whose tokens are not others'"
            )
        found += [oidc.OidcTokens(each, clock, audiences) for each in configuration.issuers]
    if options.token_webhook:
        from kubeling.apiserver.authn.webhook import WebhookTokens
        from kubeling.apiserver.webhookclient import Webhook

        webhook = Webhook("--authentication-token-webhook-config-file", options.token_webhook, clock)
        found.append(WebhookTokens(webhook, options.token_webhook_version, options.token_webhook_seconds, clock, audiences))
    return found


def _headers(options: AuthOptions) -> Headers | None:
    if not options.proxy_ca_file:
        return None
    if not options.proxy_user_headers:
        raise UsageError("--requestheader-username-headers has to be given with --requestheader-client-ca-file")

    def names(found: Sequence[str]) -> tuple[bytes, ...]:
        return tuple(each.lower().encode() for each in found)

    return Headers(
        names(options.proxy_user_headers),
        names(options.proxy_group_headers),
        names(options.proxy_uid_headers),
        names(options.proxy_extra_prefixes),
    )


def peers(options: AuthOptions, clock: Clock) -> Peers | None:
    """Who shows which certificate; None where none is asked for."""
    if not options.client_ca_file and not options.proxy_ca_file:
        return None
    clients = ClientCertificates(options.client_ca_file, clock) if options.client_ca_file else None
    proxies = (
        ClientCertificates(options.proxy_ca_file, clock, "--requestheader-client-ca-file") if options.proxy_ca_file else None
    )
    return Peers(clients, proxies, options.proxy_names, clock)
