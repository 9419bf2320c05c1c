"""Authlib as a client of Portcullis: client credentials by header and form, and its own look at the token."""

import os

import requests
from authlib.integrations.requests_client import OAuth2Session
from joserfc import jwt
from joserfc.jwk import KeySet

issuer, algorithm = os.environ["ISSUER"], os.environ["ALGORITHM"]
client_id, client_secret = os.environ["CLIENT_ID"], os.environ["CLIENT_SECRET"]
metadata = requests.get(f"{issuer}/.well-known/oauth-authorization-server", timeout=10).json()
assert metadata["issuer"] == issuer, metadata
keys = KeySet.import_key_set(requests.get(metadata["jwks_uri"], timeout=10).json())

for method in ["client_secret_basic", "client_secret_post"]:
    session = OAuth2Session(client_id, client_secret, scope="orders", token_endpoint_auth_method=method)
    token = session.fetch_token(metadata["token_endpoint"], grant_type="client_credentials")
    assert token["token_type"] == "Bearer" and token["scope"] == "orders" and token["expires_in"] == 3600, token
    decoded = jwt.decode(token["access_token"], keys, algorithms=[algorithm])
    assert decoded.header["typ"] == "at+jwt", decoded.header
    jwt.JWTClaimsRegistry(
        iss={"essential": True, "value": issuer},
        aud={"essential": True, "value": "https://api.example"},
        exp={"essential": True},
        client_id={"essential": True, "value": client_id},
    ).validate(decoded.claims)
    assert session.get(f"{issuer}/orders", timeout=10).status_code == 200
    assert requests.get(f"{issuer}/orders", timeout=10).status_code == 401

wrong = OAuth2Session(client_id, client_secret + "x", token_endpoint_auth_method="client_secret_basic")
try:
    wrong.fetch_token(metadata["token_endpoint"], grant_type="client_credentials")
except Exception as error:  # Authlib's class of it has moved between versions.
    assert "invalid_client" in str(error), error
else:
    raise AssertionError("a wrong secret got a token")
