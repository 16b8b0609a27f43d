"""Signing in at an identity provider: OpenID Connect's authorization code flow with PKCE, by Authlib.

What has to be remembered between leaving and coming back (state, nonce, verifier) travels in a signed cookie of ten
minutes; the provider's keys are fetched once and again when an unknown one signs.
"""

import secrets
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
from itsdangerous import BadSignature, URLSafeTimedSerializer

from driftline.acts.people import welcome
from driftline.errors import DriftlineError, Unauthenticated
from driftline.settings import LOOPBACK, settings
from driftline.store.engine import writing
from driftline.store.secrets import installation_key
from driftline.store.tables import User

COOKIE = "driftline_oidc"
AWAY_S = 600
FRESH_S = 3600.0
TIMEOUT_S = 10.0
CALLBACK = "/login/oidc/callback"

_known: dict[str, tuple[float, "Provider"]] = {}


class ProviderAway(DriftlineError):
    """The identity provider does not answer as it should."""

    status = 502


@dataclass(frozen=True, slots=True)
class Provider:
    """What the provider says of itself, and its keys."""

    metadata: dict[str, Any]
    keys: dict[str, Any]


def is_configured() -> bool:
    """Whether people may sign in at a provider."""
    return bool(settings().oidc_issuer and settings().oidc_client_id)


def begin(to: str) -> tuple[str, str]:
    """The provider's address to send the browser to, and the cookie to give it.

    Raises:
        ProviderAway: The provider does not answer, or its address is not safe.
    """
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    with _client() as client:
        url, _ = client.create_authorization_url(
            provider().metadata["authorization_endpoint"], state=state, nonce=nonce, code_verifier=verifier
        )
    return str(url), str(_signer().dumps({"state": state, "nonce": nonce, "verifier": verifier, "to": to}))


def finish(cookie: str, state: str, code: str) -> tuple[User, str]:
    """Who came back from the provider, and where they wanted to go.

    Raises:
        Unauthenticated: They did not leave from here, took too long, or the provider's word for them does not hold.
        ProviderAway: The provider does not answer as it should.
    """
    try:
        left = _signer().loads(cookie, max_age=AWAY_S)
    except BadSignature:
        raise Unauthenticated("Signing in took too long, or began in another browser. Try again.") from None
    if not code or not secrets.compare_digest(left["state"], state):
        raise Unauthenticated("This answer of the identity provider belongs to no question of ours. Try again.")
    claims = _claims(_token(code, left["verifier"]), left["nonce"])
    name = str(claims.get("preferred_username") or claims.get("email") or claims["sub"])
    with writing() as session:
        person = welcome(
            session, f"{settings().oidc_issuer}|{claims['sub']}", name, claims.get("email"), settings().oidc_role
        )
    return person, str(left["to"])


def provider(*, anew: bool = False) -> Provider:
    """The configured provider, looked up once an hour.

    Raises:
        ProviderAway: It does not answer, or speaks for another issuer.
    """
    issuer = settings().oidc_issuer.rstrip("/")
    known = _known.get(issuer)
    if known is not None and not anew and time.monotonic() - known[0] < FRESH_S:
        return known[1]
    place = urlsplit(issuer)
    if place.scheme != "https" and place.hostname not in LOOPBACK:
        raise ProviderAway("DRIFTLINE_OIDC_ISSUER must begin with https://; anybody on the way could be anybody else.")
    metadata = _fetched(f"{issuer}/.well-known/openid-configuration")
    if str(metadata.get("issuer", "")).rstrip("/") != issuer:
        raise ProviderAway(f"The identity provider at {issuer} says it is {metadata.get('issuer')!r}.")
    missing = [name for name in ("authorization_endpoint", "token_endpoint", "jwks_uri") if not metadata.get(name)]
    if missing:
        raise ProviderAway(f"The identity provider at {issuer} names no {missing[0]}.")
    found = Provider(metadata, _fetched(metadata["jwks_uri"]))
    _known[issuer] = (time.monotonic(), found)
    return found


def forget_providers() -> None:
    """Drops what was looked up."""
    _known.clear()


def _fetched(url: str) -> dict[str, Any]:
    try:
        answer = httpx.get(url, timeout=TIMEOUT_S, follow_redirects=False)
        answer.raise_for_status()
        document = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise ProviderAway(f"The identity provider does not answer at {url}: {error}") from None
    if not isinstance(document, dict):
        raise ProviderAway(f"The identity provider answers something else than a document at {url}.")
    return document


def _token(code: str, verifier: str) -> str:
    from authlib.common.errors import AuthlibBaseError

    try:
        with _client() as client:
            token = client.fetch_token(provider().metadata["token_endpoint"], code=code, code_verifier=verifier)
    except AuthlibBaseError as error:
        raise Unauthenticated(
            f"The identity provider takes nothing for this code ({error.error}). Try again."
        ) from None
    except (httpx.HTTPError, ValueError) as error:
        raise ProviderAway(f"The identity provider gives no token: {error}") from None
    if "id_token" not in token:
        raise ProviderAway("The identity provider gives no id_token. Is the scope openid allowed for this client?")
    return str(token["id_token"])


def _claims(id_token: str, nonce: str) -> dict[str, Any]:
    """What the provider says of the person, once signature, issuer, audience, nonce and time have been checked."""
    from joserfc import jwt
    from joserfc.errors import JoseError
    from joserfc.jwk import KeySet

    chosen = settings()
    signs = [one for one in provider().metadata.get("id_token_signing_alg_values_supported", ["RS256"]) if one in SIGNS]

    def decoded(keys: dict[str, Any]) -> Any:
        return jwt.decode(id_token, KeySet.import_key_set(keys), algorithms=signs or ["RS256"])  # type: ignore[arg-type]

    try:
        try:
            token = decoded(provider().keys)
        except (JoseError, ValueError):
            token = decoded(provider(anew=True).keys)  # it may have changed its keys since
        jwt.JWTClaimsRegistry(
            leeway=60, iss={"essential": True, "value": provider().metadata["issuer"]},
            aud={"essential": True, "value": chosen.oidc_client_id}, exp={"essential": True}, sub={"essential": True},
            nonce={"essential": True, "value": nonce},
        ).validate(token.claims)  # fmt: skip
    except (JoseError, ValueError) as error:
        raise Unauthenticated(f"The identity provider's word for you does not hold ({error}). Try again.") from None
    party = token.claims.get("azp")
    if party is not None and party != chosen.oidc_client_id:
        raise Unauthenticated("The identity provider's word was meant for another application.")
    return dict(token.claims)


SIGNS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")  # never a shared key


def _client() -> Any:
    from authlib.integrations.httpx_client import OAuth2Client

    chosen = settings()
    secret = chosen.oidc_client_secret.get_secret_value()
    return OAuth2Client(
        client_id=chosen.oidc_client_id, client_secret=secret or None, scope="openid profile email",
        redirect_uri=chosen.base_url + CALLBACK, code_challenge_method="S256", timeout=TIMEOUT_S,
        token_endpoint_auth_method="client_secret_basic" if secret else "none",
    )  # fmt: skip


def _signer() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(installation_key(), salt="oidc")
