"""A small OpenID Connect provider, run as a process: discovery, keys, authorization (says yes at once) and tokens.

`python oidc_provider.py CLIENT_ID CLIENT_SECRET` prints its issuer. What it says of the person, and which of its duties
it neglects, is told to POST /told as JSON: `claims` are added to the token, `wrong` is one of signature, audience,
issuer, nonce, expired, algorithm, code.
"""

import base64
import hashlib
import json
import secrets
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey

CLIENT, SECRET = sys.argv[1:3]
KEYS = [RSAKey.generate_key(2048, {"kid": "one", "use": "sig", "alg": "RS256"})]
STRANGER = RSAKey.generate_key(2048, {"kid": "one"})
codes: dict[str, dict[str, str]] = {}
told: dict[str, Any] = {
    "claims": {"sub": "ann-1", "preferred_username": "ann", "email": "ann@example.org"},
    "wrong": "",
}


class Provider(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        address = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(address.query).items()}
        if address.path == "/.well-known/openid-configuration":
            self.say({
                "issuer": ISSUER, "authorization_endpoint": f"{ISSUER}/authorize", "token_endpoint": f"{ISSUER}/token",
                "jwks_uri": f"{ISSUER}/keys", "response_types_supported": ["code"],
                "id_token_signing_alg_values_supported": ["RS256", "HS256"],
            })  # fmt: skip
        elif address.path == "/keys":
            self.say({"keys": [key.as_dict(private=False) for key in KEYS]})
        elif address.path == "/authorize":
            assert asked["client_id"] == CLIENT
            assert asked["response_type"] == "code"
            assert "openid" in asked["scope"].split()
            assert asked["code_challenge_method"] == "S256"
            code = secrets.token_urlsafe(16)
            codes[code] = asked
            self.send_response(302)
            self.send_header(
                "Location", asked["redirect_uri"] + "?" + urlencode({"code": code, "state": asked["state"]})
            )
            self.end_headers()
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if self.path == "/told":
            new = json.loads(body)
            told.update(new)
            if new.get("new_key"):
                KEYS[:] = [RSAKey.generate_key(2048, {"kid": "two", "use": "sig", "alg": "RS256"})]
            self.say({})
            return
        sent = {name: values[0] for name, values in parse_qs(body).items()}
        asked = codes.pop(sent.get("code", ""), None)
        signed = base64.b64decode(self.headers.get("Authorization", "").removeprefix("Basic ")).decode()
        challenge = base64.urlsafe_b64encode(hashlib.sha256(sent.get("code_verifier", "").encode()).digest())
        fits = asked is not None and challenge.rstrip(b"=").decode() == asked["code_challenge"]
        if not fits or signed != f"{CLIENT}:{SECRET}" or sent["redirect_uri"] != asked["redirect_uri"]:
            self.say({"error": "invalid_grant"}, 400)
            return
        self.say({"access_token": "a", "token_type": "Bearer", "id_token": self.token(asked)})

    def token(self, asked: dict[str, str]) -> str:
        wrong, now = told["wrong"], int(time.time())
        claims = {
            "iss": "http://elsewhere" if wrong == "issuer" else ISSUER,
            "aud": "another" if wrong == "audience" else CLIENT,
            "nonce": "another" if wrong == "nonce" else asked["nonce"],
            "iat": now, "exp": now - 3600 if wrong == "expired" else now + 300, **told["claims"],
        }  # fmt: skip
        if wrong == "algorithm":  # the public key taken for a shared secret
            return jwt.encode(
                {"alg": "HS256", "kid": "one"}, claims, OctKey.import_key(SECRET * 4), algorithms=["HS256"]
            )
        key = STRANGER if wrong == "signature" else KEYS[0]
        return jwt.encode({"alg": "RS256", "kid": KEYS[0].kid}, claims, key)

    def say(self, answer: dict[str, Any], status: int = 200) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None: ...


server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
ISSUER = f"http://127.0.0.1:{server.server_port}"
print(ISSUER, flush=True)
server.serve_forever()
