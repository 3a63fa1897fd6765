"""Access tokens that are good, and all the ways in which they are not."""

from __future__ import annotations

import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from chinwag.account.v1 import account_service_pb2
from chinwag_server.account import ids
from tests.server.account.conftest import StartRules
from tests.server.account.rules import Rules, refused

# Requests are made of dictionaries, which the stubs do not know.
pb: Any = account_service_pb2


DAY_S = 86_400


async def claims_and_key(rules: Rules) -> tuple[dict[str, Any], Any, str]:
    """The claims of a good token, the key that signs, and its id."""
    ada = await rules.sign_up("ada")
    claims = jwt.decode(ada.tokens.access_token, options={"verify_signature": False})
    [record] = await rules.store.signing_keys()
    return claims, Ed25519PrivateKey.from_private_bytes(record.private), record.key_id


async def outcome(rules: Rules, token: str) -> str:
    return await refused(rules.call("GetMe", token=token))


def unsigned(header: dict[str, Any], claims: dict[str, Any]) -> str:
    parts = (json.dumps(part).encode() for part in (header, claims))
    return ".".join(map(ids.base64url, parts)) + "."


async def test_what_a_token_says(rules: Rules) -> None:
    claims, _, key_id = await claims_and_key(rules)
    assert claims["iss"] == claims["aud"] == "chinwag"
    assert claims["exp"] - claims["iat"] == 900
    assert set(claims) == {"iss", "aud", "sub", "sid", "iat", "exp", "jti"}
    token = (await rules.log_in("ada")).tokens.access_token
    assert jwt.get_unverified_header(token) == {"alg": "EdDSA", "kid": key_id, "typ": "JWT"}


async def test_anybody_can_verify_with_the_published_keys(rules: Rules) -> None:
    ada = await rules.sign_up("ada")
    [key] = json.loads(rules.room.jwks())["keys"]
    assert {name: key[name] for name in ("kty", "crv", "use", "alg")} == {
        "kty": "OKP",
        "crv": "Ed25519",
        "use": "sig",
        "alg": "EdDSA",
    }
    public = jwt.PyJWK(key).key
    options: Any = {"verify_exp": False, "verify_iat": False}
    jwt.decode(
        ada.tokens.access_token, public, algorithms=["EdDSA"], audience="chinwag", options=options
    )
    [served] = (await rules.call("GetJwks")).keys
    assert (served.kid, served.x) == (key["kid"], key["x"])


async def test_forged_tokens(rules: Rules) -> None:
    claims, key, kid = await claims_and_key(rules)
    header = {"kid": kid}
    good = jwt.encode(claims, key, "EdDSA", headers=header)
    await rules.call("GetMe", token=good)
    other = Ed25519PrivateKey.generate()
    public: Ed25519PublicKey = key.public_key()
    raw = public.public_bytes_raw()
    head, body, signature = good.split(".")
    changed = ids.base64url(json.dumps(claims | {"sub": "someone"}).encode())
    forged = {
        "another key": jwt.encode(claims, other, "EdDSA", headers=header),
        "unknown kid": jwt.encode(claims, key, "EdDSA", headers={"kid": "nobody"}),
        "no kid": jwt.encode(claims, key, "EdDSA"),
        "alg none": unsigned({"alg": "none", "kid": kid, "typ": "JWT"}, claims),
        "alg None": unsigned({"alg": "nOnE", "kid": kid}, claims) + signature,
        # The public key as an HMAC secret.
        "alg HS256": jwt.encode(claims, raw * 1, "HS256", headers=header),
        "changed": f"{head}.{changed}.{signature}",
        "cut": f"{head}.{body}.{signature[:-2]}",
        "no signature": f"{head}.{body}.",
        "not three parts": f"{head}.{body}",
        "text": "hello",
        "dots": "...",
        "header of no object": f"{ids.base64url(b'[]')}.{body}.{signature}",
        "not utf-8": f"{ids.base64url(bytes([255]))}.{body}.{signature}",
        "kid of a strange kind": unsigned({"alg": "EdDSA", "kid": {"a": 1}}, claims) + signature,
        "a key in the header": jwt.encode(
            claims, other, "EdDSA", headers={"jwk": {"kty": "OKP"}, "jku": "https://x/"}
        ),
    }
    for name, token in forged.items():
        assert await outcome(rules, token) == "TOKEN_INVALID", name


@pytest.mark.parametrize(
    "change",
    [
        {"aud": "another"},
        {"iss": "another"},
        {"aud": None},
        {"iss": None},
        {"sub": None},
        {"sub": 5},
        {"sid": None},
        {"sid": 7},
        {"exp": None},
        {"exp": "never"},
        {"exp": 1e300},
    ],
    ids=str,
)
async def test_signed_but_wrong(rules: Rules, change: dict[str, Any]) -> None:
    claims, key, kid = await claims_and_key(rules)
    claims = {name: value for name, value in (claims | change).items() if value is not None}
    token = jwt.encode(claims, key, "EdDSA", headers={"kid": kid})
    assert await outcome(rules, token) == "TOKEN_INVALID"


async def test_a_token_of_a_session_that_there_is_not(rules: Rules) -> None:
    claims, key, kid = await claims_and_key(rules)
    for change in ({"sid": "dnone"}, {"sub": "unone"}):
        token = jwt.encode(claims | change, key, "EdDSA", headers={"kid": kid})
        assert await outcome(rules, token) == "SESSION_REVOKED"


async def test_a_token_ends(rules: Rules) -> None:
    ada = await rules.sign_up("ada")
    rules.clock.advance(899)
    await ada.call("GetMe")
    rules.clock.advance(1)
    # Known and unknown to the cache.
    assert await ada.refused("GetMe") == "TOKEN_EXPIRED"
    assert await outcome(rules, ada.tokens.access_token) == "TOKEN_EXPIRED"
    await rules.restart()
    assert await ada.refused("GetMe") == "TOKEN_EXPIRED"


async def test_a_revoked_token_is_refused_at_once(rules: Rules) -> None:
    ada = await rules.sign_up("ada")
    phone = await rules.log_in("ada")
    for person in (ada, phone):
        await person.call("GetMe")  # remembered
    await ada.call("RevokeDevice", pb.RevokeDeviceRequest(device_id=phone.tokens.device_id))
    assert await phone.refused("GetMe") == "SESSION_REVOKED"
    await ada.call("GetMe")
    await rules.restart()
    assert await phone.refused("GetMe") == "SESSION_REVOKED"


async def test_keys_outlive_a_restart(rules: Rules) -> None:
    ada = await rules.sign_up("ada")
    before = rules.room.jwks()
    await rules.restart()
    assert rules.room.jwks() == before
    await ada.call("GetMe")


async def test_a_new_key_is_shown_before_it_signs(start_rules: StartRules) -> None:
    rules = await start_rules(account__signing_key_days=10)
    await rules.sign_up("ada")

    async def kids() -> tuple[str, list[str]]:
        await rules.room.keys.refresh()
        token = (await rules.log_in("ada")).tokens.access_token
        shown = [key.kid for key in (await rules.call("GetJwks")).keys]
        return jwt.get_unverified_header(token)["kid"], shown

    old, shown = await kids()
    assert shown == [old]
    rules.clock.advance(10 * DAY_S)
    signing, shown = await kids()
    assert signing == old
    assert len(shown) == 2
    new = shown[0]
    assert shown[1] == old
    rules.clock.advance(3600)
    assert await kids() == (old, [new, old])
    rules.clock.advance(3601)
    signed_by_old = await rules.log_in("ada")
    assert await kids() == (new, [new, old])
    rules.clock.advance(800)
    await signed_by_old.call("GetMe")
    rules.clock.advance(DAY_S + 1000)
    assert await kids() == (new, [new])
