"""The OpenAPI documents are valid, name the routes that there are, and describe the answers that come."""

from __future__ import annotations

import json
import time
import uuid
from typing import TYPE_CHECKING, Any

import httpx
import jwt
import pytest
from jsonschema import Draft202012Validator, FormatChecker
from openapi_spec_validator import OpenAPIV31SpecValidator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012
from starlette.routing import Route

from consumers.observe.health import ConsumerHealth
from producer.notifications.receiver import ANSWERS, Gate, Receiver
from producer.observe.health import ProducerHealth
from producer.observe.port import NullObserver
from sandbox.altinn.http import altinn_app
from sandbox.control.control import control_app
from sandbox.control.document import completed
from sandbox.control.world import OutsideWorld
from sandbox.maskinporten.http import maskinporten_app
from sandbox.maskinporten.tokens import Token
from sandbox.skatteetaten.examples import EXAMPLES_TREKKPLIKTIG
from sandbox.skatteetaten.faults import ErrorShape, Fault, FaultKind
from trekkpaalegg.http import HealthServer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DOCUMENTS = (
    "openapi-producer.yaml",
    "openapi-consumer.yaml",
    "openapi-producer-notifications.yaml",
    *(f"openapi-sandbox-{name}.yaml" for name in ("skatteetaten", "maskinporten", "altinn", "control")),
)
EMPLOYER, SUPPLIER = "310000025", "310000003"
FAR_FUTURE = 2**33
SECONDS_MAX = 60


@pytest.fixture(scope="module")
def outside() -> Iterator[OutsideWorld]:
    with OutsideWorld(seed=4) as world:
        world.register(EMPLOYER)
        world.load_examples()
        yield world


class _Nowhere:
    """Where nothing is ever stored."""

    def begin(self, trekkpliktig: str, value: bytes | None) -> Any:
        raise AssertionError(trekkpliktig, value)


class Described:
    """An answer beside what a document says of it."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        resource = Resource(contents=document, specification=DRAFT202012)
        self._registry = Registry().with_resource("urn:openapi", resource)

    def faults(self, path: str, answer: httpx.Response) -> list[str]:
        """Why the answer to a GET of this path (a POST, where there is no GET) is not one that is described."""
        operations = self._document["paths"][path]
        described = operations["get" if "get" in operations else "post"]["responses"].get(str(answer.status_code))
        if described is None:
            return [f"{answer.status_code} is not described"]
        if "$ref" in described:
            described = self._document["components"]["responses"][described["$ref"].rpartition("/")[2]]
        if not answer.content:
            return []
        content_type = answer.headers["content-type"].partition(";")[0]
        media = described.get("content", {}).get(content_type)
        if media is None:
            return [f"{content_type} is not described for {answer.status_code}"]
        value = answer.json() if "json" in content_type else answer.text
        return self.schema_faults(media["schema"], value)

    def schema_faults(self, schema: dict[str, Any], value: Any) -> list[str]:
        absolute = json.loads(json.dumps(schema).replace('"#/', '"urn:openapi#/'))
        validator = Draft202012Validator(absolute, registry=self._registry, format_checker=FormatChecker())
        return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_document_is_valid_openapi_3_1(read_yaml: Any, name: str) -> None:
    document = read_yaml(name)
    assert document["openapi"] == "3.1.0"
    assert [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()] == []


def test_a_broken_document_is_not_valid(read_yaml: Any) -> None:
    document = read_yaml("openapi-producer.yaml")
    del document["paths"]["/livez"]["get"]["responses"]["200"]["description"]
    document["paths"]["/readyz"]["get"]["operationId"] = "livez"
    assert len(list(OpenAPIV31SpecValidator(document).iter_errors())) >= 2


def told(document: dict[str, Any]) -> set[tuple[str, str]]:
    return {
        (method.upper(), path)
        for path, operations in document["paths"].items()
        for method in operations
        if method != "parameters"
    }


def served(routes: Iterable[Any]) -> set[tuple[str, str]]:
    return {
        (method, route.path_format)
        for route in routes
        if isinstance(route, Route)
        for method in (route.methods or ()) - {"HEAD"}
    }


def test_routes_of_the_producer_are_those_of_its_document(read_yaml: Any) -> None:
    server = HealthServer(ProducerHealth(), lambda: b"", host="127.0.0.1", port=0, setting="PORT")
    app: Any = server._server.config.app  # noqa: SLF001 - the server shows its application nowhere else
    assert served(app.routes) == told(read_yaml("openapi-producer.yaml"))


def test_routes_of_the_consumers_are_those_of_their_document(read_yaml: Any) -> None:
    server = HealthServer(ConsumerHealth(), lambda: b"", host="127.0.0.1", port=0, setting="PORT")
    app: Any = server._server.config.app  # noqa: SLF001 - as above
    assert served(app.routes) == told(read_yaml("openapi-consumer.yaml"))


def test_routes_and_answers_of_the_receiver_are_those_of_its_document(read_yaml: Any) -> None:
    document = read_yaml("openapi-producer-notifications.yaml")
    receiver = Receiver(Gate("s" * 40, [], 1), set(), _Nowhere(), NullObserver())
    assert served(receiver.app.routes) == told(document)
    described = document["paths"]["/notifications/{secret}"]["post"]["responses"]
    assert {int(status) for status in described} == ANSWERS


def test_routes_of_the_sandbox_are_those_of_its_documents(read_yaml: Any, outside: OutsideWorld) -> None:
    maskinporten = maskinporten_app(outside.maskinporten)
    assert served(maskinporten.routes) == told(read_yaml("openapi-sandbox-maskinporten.yaml"))
    altinn = altinn_app(outside.altinn, outside.tokens)
    assert served(altinn.routes) == told(read_yaml("openapi-sandbox-altinn.yaml"))
    listing, command = control_app(outside.control_commands).routes
    assert served([listing]) == {("GET", "/control")}
    assert served([command]) == {("GET", "/control/{command}"), ("POST", "/control/{command}")}


def test_commands_of_the_control_address_are_those_of_its_document(read_yaml: Any, outside: OutsideWorld) -> None:
    """Names, arguments and what they may be; `write_control_document.py` brings the document up to date."""
    document = read_yaml("openapi-sandbox-control.yaml")
    assert document == completed(document)
    listed = httpx.get(outside.control_url).json()
    arguments = {}
    for path in document["paths"].keys() - {"/control"}:
        schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        arguments[path.rpartition("/")[2]] = set(schema.get("properties", {}))
    assert arguments == {name: set(each) for name, each in listed.items()}
    assert [
        path for path, each in document["paths"].items() if path != "/control" and not each["post"]["summary"]
    ] == []


@pytest.fixture
def skatteetaten(outside: OutsideWorld) -> Iterator[httpx.Client]:
    """A client of the simulated API with a token for the employer of the official examples."""
    token = outside.tokens.mint(
        Token(EXAMPLES_TREKKPLIKTIG, SUPPLIER, "skatteetaten:trekkpaalegg", "client", FAR_FUTURE)
    )
    with httpx.Client(headers={"authorization": f"Bearer {token}"}, timeout=SECONDS_MAX) as client:
        yield client
    outside.skatteetaten.clear_faults()


def test_bodies_of_the_official_examples_are_those_of_the_document(
    read_yaml: Any, outside: OutsideWorld, skatteetaten: httpx.Client
) -> None:
    document = read_yaml("openapi-sandbox-skatteetaten.yaml")
    described = Described(document)
    base, by_number = document["paths"]
    answer = skatteetaten.get(outside.api_url)
    assert len(answer.json()) > 5
    assert described.faults(base, answer) == []
    identities = sorted(outside.skatteetaten.identities())
    assert len(identities) == 19
    for trekkid, trekkversjon in identities:
        single = skatteetaten.get(f"{outside.api_url}/{trekkid}/{trekkversjon}", headers={"Korrelasjonsid": "k"})
        assert (single.status_code, described.faults(by_number, single)) == (200, [])
    broken = {**answer.json()[0], "trekkversjon": "1"}
    assert described.schema_faults({"$ref": "#/components/schemas/Trekkpaalegg"}, broken)


@pytest.mark.parametrize("shape", [shape for shape in ErrorShape if shape is not ErrorShape.MIXED])
def test_documented_errors_come_in_every_documented_shape(
    read_yaml: Any, outside: OutsideWorld, skatteetaten: httpx.Client, shape: ErrorShape
) -> None:
    document = read_yaml("openapi-sandbox-skatteetaten.yaml")
    described = Described(document)
    for path in document["paths"]:
        address = outside.api_url + ("/10001/1" if path.endswith("}") else "")
        for status in document["paths"][path]["get"]["responses"].keys() - {"200"}:
            outside.skatteetaten.add_fault(Fault(FaultKind.STATUS, status=int(status), error_shape=shape, seconds=1))
            answer = skatteetaten.get(address)
            assert (answer.status_code, described.faults(path, answer)) == (int(status), [])


def test_grants_are_answered_as_described(read_yaml: Any, outside: OutsideWorld) -> None:
    """A token for one that holds; the documented errors for a used one and for an employer without a system user."""
    described = Described(read_yaml("openapi-sandbox-maskinporten.yaml"))
    metadata = httpx.get(outside.well_known_url)
    assert described.faults("/.well-known/oauth-authorization-server", metadata) == []
    environment = outside.environment([EMPLOYER])
    key = jwt.PyJWK(json.loads(environment["MASKINPORTEN_CLIENT_JWK"]))

    def ask(party: str, jti: str) -> httpx.Response:
        organisation = {"authority": "iso6523-actorid-upis", "ID": f"0192:{party}"}
        claims = {
            "aud": metadata.json()["issuer"],
            "iss": environment["MASKINPORTEN_CLIENT_ID"],
            "scope": environment["MASKINPORTEN_SCOPES"],
            "iat": int(time.time()),
            "exp": int(time.time()) + 60,
            "jti": jti,
            "authorization_details": [{"type": "urn:altinn:systemuser", "systemuser_org": organisation}],
        }
        assertion = jwt.encode(claims, key.key, "RS256", {"kid": key.key_id})
        form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion}
        return httpx.post(metadata.json()["token_endpoint"], data=form)

    jti = str(uuid.uuid4())
    answers = [ask(EMPLOYER, jti), ask(EMPLOYER, jti), ask("310000041", str(uuid.uuid4()))]
    assert [answer.status_code for answer in answers] == [200, 400, 400]
    assert [described.faults("/token", answer) for answer in answers] == [[], [], []]
    assert described.faults("/token", httpx.Response(200, json={"access_token": ""}))
