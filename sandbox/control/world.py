"""The simulated world: Skatteetaten, Maskinporten, Altinn and the control address in one process.

::

    with OutsideWorld() as outside:
        outside.register("314159265")
        outside.skatteetaten.create("314159265")
        environment = outside.environment(["314159265"])
"""

from __future__ import annotations

import json
import time
from functools import cache
from random import Random
from typing import TYPE_CHECKING, Any

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import rsa

from sandbox.altinn.commands import AltinnCommands
from sandbox.altinn.http import altinn_app
from sandbox.altinn.pusher import Pusher
from sandbox.altinn.state import SCOPE as ALTINN_SCOPE
from sandbox.altinn.state import Altinn
from sandbox.control.control import control_app, control_commands
from sandbox.maskinporten.http import maskinporten_app
from sandbox.maskinporten.state import DEFAULT_SCOPE, Maskinporten
from sandbox.maskinporten.tokens import TokenStore
from sandbox.servers.http import ServerThread
from sandbox.servers.server import LOOPBACK, Server
from sandbox.skatteetaten.answer import BASE_PATH
from sandbox.skatteetaten.examples import EXAMPLES_TREKKPLIKTIG, official_examples
from sandbox.skatteetaten.generate import generate_versions, trekkpliktige
from sandbox.skatteetaten.http import SkatteetatenApp
from sandbox.skatteetaten.state import Skatteetaten
from sandbox.skatteetaten.wire import PLAIN, Shape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path


_PUBLIC_MEMBERS = ("kty", "n", "e", "kid")


class WorldOptions(msgspec.Struct, frozen=True, kw_only=True):
    """`host` is the address to listen on, `called` the name by which others reach it; both in URLs without a port.

    `client_id` and the public `client_key` (a JWK) are of the client that is registered from the start.
    Without them it is made up, with a key of its own.
    """

    host: str = LOOPBACK
    called: str = LOOPBACK
    client_id: str | None = None
    client_key: dict[str, Any] | None = None


def read_client_key(path: Path) -> dict[str, Any]:
    """The public half of the RSA key that a file holds as a JWK, private or public. ValueError if there is none."""
    try:
        jwk = json.loads(path.read_text(encoding="utf-8"))
        jwt.algorithms.RSAAlgorithm.from_jwk(jwk)
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({type(error).__name__})") from error
    except (ValueError, TypeError, KeyError, jwt.InvalidKeyError):
        raise ValueError(f"{path} holds no RSA key as a JWK") from None
    if not jwk.get("kid"):
        raise ValueError(f"{path} holds no RSA key as a JWK with a kid")
    return public_half(jwk)


def public_half(jwk: dict[str, Any]) -> dict[str, Any]:
    """What others may know of a key."""
    return {name: jwk[name] for name in _PUBLIC_MEMBERS}


HERE = WorldOptions()
"""This machine alone, with a client that is made up."""


SUPPLIER = "310000003"
_KID = "sandbox-key-1"


class OutsideWorld(Server):
    """The simulated services and their control address; ports of 0 are chosen free. `clock` gives seconds since 1970.

    All keep their ports when `stop_*` and `start_*` simulate an outage.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        api_port: int = 0,
        maskinporten_port: int = 0,
        altinn_port: int = 0,
        control_port: int = 0,
        clock: Callable[[], float] = time.time,
        place: WorldOptions = HERE,
    ) -> None:
        tokens = TokenStore(Random(f"tokens {seed}"), clock)
        self.skatteetaten = Skatteetaten(seed=seed, clock=clock)
        self.maskinporten = Maskinporten(seed=seed, clock=clock, tokens=tokens)
        self.altinn = Altinn(seed=seed, clock=clock)
        self.skatteetaten.on_new_version = self.altinn.new_version
        self.tokens = tokens
        self._pusher = Pusher(self.altinn)
        self._private_key = _private_key()
        self._client_of: dict[str, str] = {}
        self._place = place
        self._servers: list[ServerThread] = []
        try:
            self._api = self._serve(SkatteetatenApp(self.skatteetaten, tokens), api_port)
            self._token = self._serve(maskinporten_app(self.maskinporten), maskinporten_port)
            self._altinn = self._serve(altinn_app(self.altinn, tokens), altinn_port)
            self.control_commands = control_commands(self, AltinnCommands(self.altinn, self._pusher))
            self._control = self._serve(control_app(self.control_commands), control_port)
        except OSError:
            self.close()
            raise
        self.maskinporten.issuer = f"{_address(self._token)}/"
        self.altinn.base_url = _address(self._altinn)

    @property
    def api_url(self) -> str:
        """Base of the API, up to and with `/v1`."""
        return f"{_address(self._api)}{BASE_PATH}"

    @property
    def well_known_url(self) -> str:
        """Where the simulated Maskinporten describes itself."""
        return f"{_address(self._token)}/.well-known/oauth-authorization-server"

    @property
    def altinn_url(self) -> str:
        """Base of the simulated Altinn, without a slash at its end."""
        return _address(self._altinn)

    @property
    def control_url(self) -> str:
        """Base of the control address, without a slash at its end."""
        return f"{_address(self._control)}/control"

    def register(self, trekkpliktig: str, external_ref: str | None = None) -> None:
        """Let the supplier act for this employer, by system user and by classic delegation."""
        self.maskinporten.register_system_user(trekkpliktig, external_ref)
        self.maskinporten.register_delegation(trekkpliktig, SUPPLIER)

    def load_examples(self) -> str:
        """The nineteen official versions; the organisation number of their employer, which is registered."""
        for wire in official_examples():
            self.skatteetaten.put(wire)
        self.register(EXAMPLES_TREKKPLIKTIG)
        return EXAMPLES_TREKKPLIKTIG

    def generate(
        self,
        trekkpliktige_count: int,
        orders: int,
        *,
        seed: int = 0,
        versions_max: int = 4,
        shape: Shape = PLAIN,
    ) -> list[str]:
        """Registered employers with `orders` generated orders among them; their organisation numbers."""
        employers = trekkpliktige(seed, trekkpliktige_count)
        for employer in employers:
            self.register(employer)
        first = self.skatteetaten.next_sekvensnummer()
        versions = generate_versions(
            seed, employers, orders, versions_max=versions_max, first_sekvensnummer=first, shape=shape
        )
        self.skatteetaten.load(versions)
        return employers

    def environment(self, trekkpliktige: Iterable[str], authentication: str = "systembruker") -> dict[str, str]:
        """The contract's variables for a producer that serves these employers; with `egen` there must be one.

        The key is not among them where the place has one: it is the client's alone.
        """
        wanted = list(trekkpliktige)
        if authentication == "egen" and len(wanted) != 1:
            raise ValueError("egen serves exactly one trekkpliktig")
        key = {} if self._place.client_key else {"MASKINPORTEN_CLIENT_JWK": json.dumps(self.private_jwk())}
        return {
            "TREKKPAALEGG_API_URL": self.api_url,
            "TREKKPAALEGG_TREKKPLIKTIGE": ",".join(wanted),
            "TREKKPAALEGG_AUTHENTICATION": authentication,
            "MASKINPORTEN_CLIENT_ID": self._client(wanted[0] if authentication == "egen" else SUPPLIER),
            **key,
            "MASKINPORTEN_SCOPES": DEFAULT_SCOPE,
            "MASKINPORTEN_WELL_KNOWN_URL": self.well_known_url,
            "TREKKPAALEGG_ALTINN_URL": self.altinn_url,
        }

    def private_jwk(self) -> dict[str, Any]:
        """The key of every client that `environment` names, made when this world was made."""
        return {**_jwk(self._private_key), "kid": _KID, "alg": "RS256", "use": "sig"}

    def start(self) -> None:
        """Start every server that does not run."""
        for server in self._servers:
            server.start()
        self._pusher.start()

    def stop(self) -> None:
        """Stop all servers; ports and state are kept."""
        self._pusher.stop()
        for server in self._servers:
            server.begin_stop()
        for server in self._servers:
            server.stop()

    def start_api(self) -> None:
        """End a simulated outage of the API."""
        self._api.start()

    def stop_api(self) -> None:
        """An outage of the API: open connections break, new ones are refused."""
        self._api.stop()

    def start_maskinporten(self) -> None:
        """End a simulated outage of Maskinporten."""
        self._token.start()

    def stop_maskinporten(self) -> None:
        """An outage of Maskinporten."""
        self._token.stop()

    def start_altinn(self) -> None:
        """End a simulated outage of Altinn."""
        self._altinn.start()
        self._pusher.start()

    def stop_altinn(self) -> None:
        """An outage of Altinn: nothing is answered, nothing is pushed; what would be waits."""
        self._pusher.stop()
        self._altinn.stop()

    def close(self) -> None:
        """Stop for good and give the ports back."""
        self.stop()
        for server in self._servers:
            server.close()

    def _serve(self, app: Any, port: int) -> ServerThread:  # noqa: ANN401  # any ASGI application
        server = ServerThread(app, port=port, host=self._place.host, called=self._place.called)
        self._servers.append(server)
        return server

    def _client(self, organisasjonsnummer: str) -> str:
        if organisasjonsnummer not in self._client_of:
            public = self._place.client_key or {**_jwk(self._private_key.public_key()), "kid": _KID}
            chosen = self._place.client_id if organisasjonsnummer == SUPPLIER else None
            self._client_of[organisasjonsnummer] = self.maskinporten.register_client(
                organisasjonsnummer, public, scopes=(DEFAULT_SCOPE, ALTINN_SCOPE), client_id=chosen
            )
        return self._client_of[organisasjonsnummer]


@cache
def _private_key() -> rsa.RSAPrivateKey:
    """The client's, the same for all worlds of the process: making one takes 100 ms of CPU time."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _address(server: ServerThread) -> str:
    return f"http://{server.called}:{server.port}"


def _jwk(key: Any) -> dict[str, Any]:  # noqa: ANN401  # a private or a public RSA key
    jwk: dict[str, Any] = jwt.algorithms.RSAAlgorithm.to_jwk(key, as_dict=True)
    return {name: value for name, value in jwk.items() if name != "key_ops"}
