"""The servers answer every call that schemathesis makes up from the OpenAPI documents as these say. Seeded, bounded."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
import schemathesis
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.generation import GenerationMode

from consumers.bootstrap import health_server
from consumers.observe.health import LOOP_SECONDS_MAX, ConsumerHealth
from consumers.observe.prometheus import PrometheusLedgerObserver
from producer.observe.health import ProducerHealth
from producer.observe.prometheus import PrometheusObserver
from sandbox.altinn.state import SCOPE as ALTINN_SCOPE
from sandbox.control.world import OutsideWorld
from sandbox.maskinporten.tokens import Token
from trekkpaalegg.http import HealthServer
from trekkpaalegg.kafka.subscription import ClientStatus
from trekkpaalegg.retry import Service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EMPLOYER, SUPPLIER = "310000025", "310000003"
FAR_FUTURE = 2**33
EXAMPLES_MAX = 6
COMMAND_EXAMPLES_MAX = 2
LONG = 20
"""So many times more calls are made in the long form."""
NOT_TRIED = {
    "/control/generate",  # makes as many orders as it is told
    "/control/altinn-push",  # calls whatever address it is told
}
LENIENT = ("positive_data_acceptance", "negative_data_rejection")
"""Not checked where a rule cannot be told in a schema (both parameters or neither), or unknown input is passed over."""
CHECKS_OF_OTHER_CALLS = ("unsupported_method", "ignored_auth")
"""These make calls of their own, which lose or keep our token; without a token each operation is tried apart."""
load_all_checks()
POSITIVE, NEGATIVE = GenerationMode.POSITIVE, GenerationMode.NEGATIVE


@pytest.fixture
def outside() -> Iterator[OutsideWorld]:
    with OutsideWorld(seed=6) as world:
        world.register(EMPLOYER)
        order = world.skatteetaten.create(EMPLOYER)
        world.skatteetaten.change(order.trekkid)
        yield world


def call_each(
    strategy: Any, examples_max: int, headers: dict[str, str] | None, excluded: list[Any], seen: set[int]
) -> None:
    """Make so many calls of one operation, check each answer, and note its status in `seen`."""

    @hypothesis.seed(7)
    @hypothesis.settings(
        max_examples=examples_max,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    @hypothesis.given(case=strategy)
    def call(case: Any) -> None:
        seen.add(case.call_and_validate(headers=headers, excluded_checks=excluded).status_code)

    call()


@pytest.fixture(params=[pytest.param(1, id="short"), pytest.param(LONG, id="long", marks=pytest.mark.long)])
def try_out(read_yaml: Any, request: pytest.FixtureRequest) -> Callable[..., dict[str, set[int]]]:
    """Call every operation of a document with made-up input; the statuses met, by operation."""

    def run(
        name: str,
        address: str,
        modes: tuple[GenerationMode, ...] = (POSITIVE, NEGATIVE),
        *,
        token: str | None = None,
        examples_max: int = EXAMPLES_MAX,
        but: tuple[str, ...] = (),
    ) -> dict[str, set[int]]:
        document = schemathesis.openapi.from_dict(read_yaml(name))
        document.config.update(base_url=address)
        excluded = CHECKS.get_by_names([*but, *CHECKS_OF_OTHER_CALLS])
        headers = {"authorization": f"Bearer {token}"} if token else None
        met: dict[str, set[int]] = {}
        for found in document.get_all_operations():
            operation = found.ok()
            if operation.path in NOT_TRIED:
                continue
            seen = met.setdefault(operation.label, set())
            for mode in modes:
                if mode is NEGATIVE and not (operation.body or operation.query or operation.path_parameters):
                    continue

                calls_max = examples_max * request.param
                call_each(operation.as_strategy(generation_mode=mode), calls_max, headers, excluded, seen)
        return met

    return run


def test_health_addresses_of_the_producer(try_out: Any) -> None:
    """In order, and with a loop that has stopped and a dependency that is missing."""
    health = ProducerHealth()
    with HealthServer(health, PrometheusObserver().exposition, host="127.0.0.1", port=0, setting="PORT") as server:
        address = f"http://127.0.0.1:{server.port}"
        assert set.union(*try_out("openapi-producer.yaml", address).values()) == {200}
        health.heartbeat("lane 0", -1)
        health.set_ready("source", "no answer yet")
        met = try_out("openapi-producer.yaml", address, but=("not_a_server_error", "positive_data_acceptance"))
    assert met == {"GET /livez": {503}, "GET /readyz": {503}, "GET /metrics": {200}}


def test_health_addresses_of_the_consumers(try_out: Any) -> None:
    """In order and caught up, and with a loop that has stopped and a ledger that is missing."""
    monotonic = itertools.repeat(0.0)
    health = ConsumerHealth(lambda: next(monotonic))
    with health_server(PrometheusLedgerObserver(health), "127.0.0.1", 0) as server:
        address = f"http://127.0.0.1:{server.port}"
        health.client_checked(ClientStatus(is_reachable=True, is_member=True))
        met = try_out("openapi-consumer.yaml", address, but=("negative_data_rejection",))
        assert set.union(*met.values()) == {200}
        monotonic = itertools.repeat(LOOP_SECONDS_MAX + 1)
        health.call_failed(Service.LEDGER, "no answer yet")
        met = try_out("openapi-consumer.yaml", address, but=("not_a_server_error", *LENIENT))
    assert met == {"GET /livez": {503}, "GET /readyz": {503}, "GET /metrics": {200}}


def test_simulated_skatteetaten(try_out: Any, outside: OutsideWorld) -> None:
    token = outside.tokens.mint(Token(EMPLOYER, SUPPLIER, "skatteetaten:trekkpaalegg", "client", FAR_FUTURE))
    address = outside.api_url.removesuffix("/api/trekkpaalegg/v1")
    met = try_out("openapi-sandbox-skatteetaten.yaml", address, token=token, but=LENIENT)
    assert met["GET /api/trekkpaalegg/v1"] >= {200, 400}
    assert met["GET /api/trekkpaalegg/v1/{trekkid}/{trekkversjon}"] >= {404, 400}
    for wrong in (None, "ended"):
        met = try_out("openapi-sandbox-skatteetaten.yaml", address, (POSITIVE,), token=wrong, examples_max=2)
        assert set.union(*met.values()) == {401}


def test_simulated_maskinporten(try_out: Any, outside: OutsideWorld) -> None:
    address = outside.maskinporten.issuer.removesuffix("/")
    met = try_out("openapi-sandbox-maskinporten.yaml", address, but=("positive_data_acceptance",))
    assert met["POST /token"] == {400}


def test_simulated_altinn(try_out: Any, outside: OutsideWorld) -> None:
    token = outside.altinn.tokens.mint(EMPLOYER, ALTINN_SCOPE, FAR_FUTURE)
    met = try_out("openapi-sandbox-altinn.yaml", outside.altinn_url, token=token, but=LENIENT)
    assert met["GET /events/api/v1/events"] >= {200}
    met = try_out("openapi-sandbox-altinn.yaml", outside.altinn_url, (POSITIVE,), examples_max=2)
    assert set.union(*met.values()) == {401}


def test_control_address_of_the_sandbox(try_out: Any, outside: OutsideWorld) -> None:
    address = outside.control_url.removesuffix("/control")
    met = try_out(
        "openapi-sandbox-control.yaml",
        address,
        examples_max=COMMAND_EXAMPLES_MAX,
        but=LENIENT,
    )
    assert met["POST /control/create"] >= {200}
    assert len(met) > 50
