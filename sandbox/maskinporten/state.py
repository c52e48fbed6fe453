"""The state of the simulated Maskinporten: clients, system users, scripted errors and issued tokens.

Pure but for its lock: time comes from an injected clock, chance from a seed. Every method may
be called from any thread.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from sandbox.maskinporten.tokens import Token, TokenStore
from sandbox.skatteetaten.generate import synthetic_uuid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

DEFAULT_SCOPE = "skatteetaten:trekkpaalegg"


class Client(msgspec.Struct):
    """A registered client: the organisation that owns it, its public keys by `kid`, and the scopes it may ask for."""

    client_id: str
    organisasjonsnummer: str
    keys: dict[str, RSAPublicKey]
    scopes: set[str]
    expired_kid: set[str] = msgspec.field(default_factory=set)


class ScriptedError(msgspec.Struct, forbid_unknown_fields=True):
    """An answer that the next token calls get instead of a token; `party` None strikes any."""

    status: int = 400
    error: str = "invalid_grant"
    description: str = ""
    times: int | None = 1
    party: str | None = None
    retry_after_seconds: int | None = None
    body: str | None = None
    """Sent verbatim instead of the JSON error."""


class Maskinporten:
    """Who is known and what they may. `clock` gives seconds since 1970; `issuer` ends with a slash."""

    def __init__(self, *, seed: int = 0, clock: Callable[[], float], tokens: TokenStore, issuer: str = "") -> None:
        self.lock = threading.RLock()
        self.clock = clock
        self.tokens = tokens
        self.issuer = issuer
        self.token_life_seconds = 120
        self.latency_seconds = 0.0
        """Added to the answer of every token call."""
        self.clients: dict[str, Client] = {}
        self.system_users: set[tuple[str, str]] = set()
        self.delegations: set[tuple[str, str]] = set()
        self.scripted: list[ScriptedError] = []
        self.counts: Counter[str] = Counter()
        self._random = Random(f"maskinporten {seed}")
        self._seen_jti: dict[str, float] = {}

    def register_client(
        self,
        organisasjonsnummer: str,
        public_jwk: dict[str, Any],
        *,
        scopes: Iterable[str] = (DEFAULT_SCOPE,),
        client_id: str | None = None,
    ) -> str:
        """A client with one key; its id. The same id again adds the key to it."""
        key = jwt.PyJWK.from_dict(public_jwk, algorithm="RS256").key
        if not isinstance(key, RSAPublicKey):
            raise TypeError("a public RSA key is asked for")
        with self.lock:
            identity = client_id or synthetic_uuid(self._random)
            client = self.clients.setdefault(identity, Client(identity, organisasjonsnummer, {}, set(scopes)))
            client.keys[public_jwk["kid"]] = key
            return identity

    def register_system_user(self, trekkpliktig: str, external_ref: str | None = None) -> None:
        """This employer has accepted a system user of the supplier; a reference given here must be in each grant."""
        with self.lock:
            self.system_users.add((trekkpliktig, external_ref or trekkpliktig))

    def withdraw_system_user(self, trekkpliktig: str) -> None:
        """This employer has deleted its system users."""
        with self.lock:
            self.system_users = {(party, ref) for party, ref in self.system_users if party != trekkpliktig}

    def register_delegation(self, consumer_org: str, supplier: str) -> None:
        """This employer has delegated the scope to the supplier in the classic way."""
        with self.lock:
            self.delegations.add((consumer_org, supplier))

    def script(self, error: ScriptedError) -> None:
        """Queue an answer to give in place of a token."""
        with self.lock:
            self.scripted.append(error)

    def clear_script(self) -> None:
        """Forget all scripted answers."""
        with self.lock:
            self.scripted.clear()

    def scripted_error(self, party: str | None) -> ScriptedError | None:
        """The scripted answer for this call, used up by asking."""
        with self.lock:
            for error in self.scripted:
                if error.party in (None, party):
                    if error.times is not None:
                        error.times -= 1
                        if error.times <= 0:
                            self.scripted.remove(error)
                    return error
            return None

    def is_fresh(self, jti: str, until: float) -> bool:
        """Whether this grant's id is seen for the first time; it is remembered for the life of the grant."""
        with self.lock:
            now = self.clock()
            for old in [each for each, end in itertools.islice(self._seen_jti.items(), 8) if end < now]:
                del self._seen_jti[old]
            if jti in self._seen_jti:
                return False
            self._seen_jti[jti] = until
            return True

    @property
    def remembered_jti(self) -> int:
        """How many grants' ids are remembered."""
        return len(self._seen_jti)

    def issue(self, client: Client, party: str, scope: str) -> tuple[str, int]:
        """A token for `party` and its life in seconds."""
        life = self.token_life_seconds
        token = Token(party, client.organisasjonsnummer, scope, client.client_id, self.clock() + life)
        return self.tokens.mint(token), life

    def count(self, outcome: str) -> None:
        """Count one token call by its outcome: `issued`, an MP code, or an error name."""
        with self.lock:
            self.counts[outcome] += 1
