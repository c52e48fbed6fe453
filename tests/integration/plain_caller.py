"""One employer and a plain HTTP client of the simulated API: for tests of the simulated world over HTTP."""

from __future__ import annotations

import json
import time
import uuid
from contextlib import contextmanager

import httpx
import jwt

from sandbox.control.world import OutsideWorld

EMPLOYER = "310000025"
DEADLINE_SECONDS = 20.0


class Caller:
    """A plain client: gets a token as the contract's variables say, and asks."""

    def __init__(self, environment, party=EMPLOYER) -> None:
        self.api_url = environment["TREKKPAALEGG_API_URL"]
        self.http = httpx.Client(timeout=DEADLINE_SECONDS)
        self.key = jwt.PyJWK(json.loads(environment["MASKINPORTEN_CLIENT_JWK"]))
        self.environment = environment
        self.party = party
        self.renew()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.http.close()

    def renew(self):
        metadata = self.http.get(self.environment["MASKINPORTEN_WELL_KNOWN_URL"]).json()
        now = int(time.time())
        claims = {
            "aud": metadata["issuer"],
            "iss": self.environment["MASKINPORTEN_CLIENT_ID"],
            "scope": self.environment["MASKINPORTEN_SCOPES"],
            "iat": now,
            "exp": now + 60,
            "jti": str(uuid.uuid4()),
        }
        organisation = {"authority": "iso6523-actorid-upis", "ID": f"0192:{self.party}"}
        if self.environment["TREKKPAALEGG_AUTHENTICATION"] == "systembruker":
            claims["authorization_details"] = [{"type": "urn:altinn:systemuser", "systemuser_org": organisation}]
        if self.environment["TREKKPAALEGG_AUTHENTICATION"] == "delegert":
            claims["consumer_org"] = self.party
        assertion = jwt.encode(claims, self.key.key, "RS256", {"kid": self.key.key_id})
        form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion}
        self.answered = self.http.post(metadata["token_endpoint"], data=form)
        self.http.headers["Authorization"] = f"Bearer {self.answered.json().get('access_token')}"

    def list(self, after=0, most=2500):
        return self.http.get(self.api_url, params={"fraSekvensnummer": after, "maksAntall": most})


@contextmanager
def world_of_one_employer():
    with OutsideWorld(seed=5) as outside:
        outside.register(EMPLOYER)
        yield outside
