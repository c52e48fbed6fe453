"""Tokens from the simulated Maskinporten, which checks every grant: three modes, reuse, renewal, errors, threads."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from producer.errors import SuspendedError
from producer.observe.port import NullObserver
from producer.source.auth.grant import ClientKey, load_client_key
from producer.source.auth.maskinporten import MaskinportenTokens, WellKnown
from producer.source.http import open_http_client
from sandbox.control.world import OutsideWorld
from sandbox.maskinporten.state import ScriptedError
from tests.kit.waiting import TurnedClock
from trekkpaalegg.errors import FatalError, RetryableError, SettingsError, TrekkpaaleggError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from producer.source.auth.grant import Authentication

MADE = itertools.count(1)


class Outcomes(NullObserver):
    """Remembers what became of each token call."""

    def __init__(self) -> None:
        self.all: list[str] = []

    def token_fetched(self, outcome: str) -> None:
        self.all.append(outcome)


@pytest.fixture(scope="module")
def outside() -> Iterator[OutsideWorld]:
    with OutsideWorld(seed=3) as world:
        yield world


@pytest.fixture(scope="module")
def key(outside: OutsideWorld) -> ClientKey:
    return load_client_key(outside.environment([])["MASKINPORTEN_CLIENT_JWK"])


@pytest.fixture
def http(outside: OutsideWorld) -> Iterator[httpx.Client]:
    with open_http_client(5) as client:
        yield client
    outside.maskinporten.scripted.clear()
    outside.maskinporten.token_life_seconds = 120


@pytest.fixture
def trekkpliktig(outside: OutsideWorld) -> str:
    made = f"{312_000_000 + next(MADE):09}"
    outside.register(made)
    return made


@pytest.fixture
def outcomes() -> Outcomes:
    return Outcomes()


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def tokens(
    outside: OutsideWorld, http: httpx.Client, key: ClientKey, outcomes: Outcomes, clock: TurnedClock
) -> MaskinportenTokens:
    return make_tokens(outside, http, key, observer=outcomes, monotonic=clock)


def make_tokens(
    outside: OutsideWorld,
    http: httpx.Client,
    key: ClientKey,
    authentication: Authentication = "systembruker",
    employers: tuple[str, ...] = (),
    **more: Any,
) -> MaskinportenTokens:
    environment = outside.environment(employers, authentication)
    well_known = more.pop("well_known", None) or WellKnown(http, outside.well_known_url)
    arguments = {
        "client_id": environment["MASKINPORTEN_CLIENT_ID"],
        "scope": environment["MASKINPORTEN_SCOPES"],
        "authentication": authentication,
        **more,
    }
    return MaskinportenTokens(http, well_known, key, **arguments)


@pytest.mark.parametrize("authentication", ["egen", "systembruker", "delegert"])
def test_a_token_of_each_mode_acts_for_the_trekkpliktig(
    outside: OutsideWorld, http: httpx.Client, key: ClientKey, trekkpliktig: str, authentication: Authentication
) -> None:
    tokens = make_tokens(outside, http, key, authentication, (trekkpliktig,))
    minted = outside.tokens.find(tokens.token_for(trekkpliktig))
    assert minted is not None
    assert minted.party == trekkpliktig


def test_an_external_reference_is_sent_where_one_is_configured(
    outside: OutsideWorld, http: httpx.Client, key: ClientKey
) -> None:
    trekkpliktig = f"{312_000_000 + next(MADE):09}"
    outside.maskinporten.register_system_user(trekkpliktig, "our-ref")
    with pytest.raises(SuspendedError, match="MP-303"):
        make_tokens(outside, http, key).token_for(trekkpliktig)
    tokens = make_tokens(outside, http, key, external_ref_of={trekkpliktig: "our-ref"}.get)
    assert tokens.token_for(trekkpliktig)


def test_a_token_is_kept_until_shortly_before_its_end(
    tokens: MaskinportenTokens, clock: TurnedClock, trekkpliktig: str
) -> None:
    first = tokens.token_for(trekkpliktig)
    clock.seconds += 99
    assert tokens.token_for(trekkpliktig) == first
    clock.seconds += 1
    assert tokens.token_for(trekkpliktig) != first


def test_a_short_life_is_used_for_two_thirds(
    outside: OutsideWorld, tokens: MaskinportenTokens, clock: TurnedClock, trekkpliktig: str
) -> None:
    outside.maskinporten.token_life_seconds = 9
    first = tokens.token_for(trekkpliktig)
    clock.seconds += 5.9
    assert tokens.token_for(trekkpliktig) == first
    clock.seconds += 0.2
    assert tokens.token_for(trekkpliktig) != first


def test_a_refused_token_is_replaced_once_for_all_threads(tokens: MaskinportenTokens, trekkpliktig: str) -> None:
    refused = tokens.token_for(trekkpliktig)
    second = tokens.renew(trekkpliktig, refused)
    assert second != refused
    assert tokens.renew(trekkpliktig, refused) == second


def test_each_trekkpliktig_has_a_token_of_its_own(
    outside: OutsideWorld, tokens: MaskinportenTokens, trekkpliktig: str
) -> None:
    other = f"{312_000_000 + next(MADE):09}"
    outside.register(other)
    assert tokens.token_for(trekkpliktig) != tokens.token_for(other)
    minted = outside.tokens.find(tokens.token_for(other))
    assert minted is not None
    assert minted.party == other


def test_threads_that_want_the_same_token_make_one_call(
    tokens: MaskinportenTokens, outcomes: Outcomes, trekkpliktig: str
) -> None:
    together = threading.Barrier(16)

    def fetch(_: int) -> str:
        together.wait()
        return tokens.token_for(trekkpliktig)

    with ThreadPoolExecutor(16) as threads:
        found = set(threads.map(fetch, range(16)))
    assert len(found) == 1
    assert outcomes.all == ["ok"]


def test_waiting_threads_share_the_error_and_the_next_call_tries_again(
    outside: OutsideWorld, tokens: MaskinportenTokens, trekkpliktig: str
) -> None:
    outside.maskinporten.script(ScriptedError(description="MP-302: no system user", party=trekkpliktig))
    together = threading.Barrier(8)

    def fetch(_: int) -> str:
        together.wait()
        try:
            return tokens.token_for(trekkpliktig)
        except SuspendedError:
            return "suspended"

    with ThreadPoolExecutor(8) as threads:
        assert "suspended" in set(threads.map(fetch, range(8)))
    assert tokens.token_for(trekkpliktig).startswith("sandbox-")


def test_tokens_that_have_ended_are_not_held(
    outside: OutsideWorld, tokens: MaskinportenTokens, clock: TurnedClock, trekkpliktig: str
) -> None:
    for _ in range(30):
        employer = f"{312_000_000 + next(MADE):09}"
        outside.register(employer)
        tokens.token_for(employer)
        clock.seconds += 30
    tokens.token_for(trekkpliktig)
    assert len(tokens) <= 5


@pytest.mark.parametrize("code", ["MP-012", "MP-130"])
def test_a_grant_that_was_used_up_is_replaced_at_once_and_only_once(
    outside: OutsideWorld, tokens: MaskinportenTokens, outcomes: Outcomes, trekkpliktig: str, code: str
) -> None:
    outside.maskinporten.script(ScriptedError(description=f"{code}: used up", party=trekkpliktig))
    assert tokens.token_for(trekkpliktig)
    outside.maskinporten.script(ScriptedError(description=f"{code}: used up", party=trekkpliktig, times=2))
    with pytest.raises(RetryableError, match=code):
        tokens.renew(trekkpliktig, tokens.token_for(trekkpliktig))
    assert outcomes.all == ["ok", "retry"]


@pytest.mark.parametrize(
    ("scripted", "error_class", "outcome"),
    [
        (ScriptedError(description="MP-302: none"), SuspendedError, "suspended"),
        (ScriptedError(description="MP-121: expired"), FatalError, "fatal"),
        (ScriptedError(status=503, body="<html>", retry_after_seconds=9), RetryableError, "retry"),
        (ScriptedError(status=200, body="<html>"), RetryableError, "retry"),
        (ScriptedError(status=200, body="x" * 1_000_000), RetryableError, "retry"),
    ],
)
def test_a_failure_is_raised_counted_and_not_kept(
    outside: OutsideWorld,
    tokens: MaskinportenTokens,
    outcomes: Outcomes,
    trekkpliktig: str,
    scripted: ScriptedError,
    error_class: type[TrekkpaaleggError],
    outcome: str,
) -> None:
    outside.maskinporten.script(scripted)
    with pytest.raises(error_class) as caught:
        tokens.token_for(trekkpliktig)
    assert type(caught.value) is error_class
    assert tokens.token_for(trekkpliktig)
    assert outcomes.all == [outcome, "ok"]


def test_a_machine_whose_clock_is_ahead_is_told_so(
    outside: OutsideWorld, http: httpx.Client, key: ClientKey, trekkpliktig: str
) -> None:
    tokens = make_tokens(outside, http, key, clock=lambda: time.time() + 60)
    with pytest.raises(RetryableError, match=r"clock is [0-9]+ s ahead of Maskinporten"):
        tokens.token_for(trekkpliktig)


def test_an_unknown_client_is_fatal(
    outside: OutsideWorld, http: httpx.Client, key: ClientKey, trekkpliktig: str
) -> None:
    with pytest.raises(FatalError):
        make_tokens(outside, http, key, client_id="unknown").token_for(trekkpliktig)


def test_the_well_known_document_is_asked_for_again_until_it_comes(
    outside: OutsideWorld, http: httpx.Client, key: ClientKey, trekkpliktig: str
) -> None:
    tokens = make_tokens(outside, http, key)
    outside.stop_maskinporten()
    try:
        with pytest.raises(RetryableError):
            tokens.token_for(trekkpliktig)
    finally:
        outside.start_maskinporten()
    assert tokens.token_for(trekkpliktig)


def test_settings_replace_the_well_known_document(
    outside: OutsideWorld, http: httpx.Client, key: ClientKey, trekkpliktig: str
) -> None:
    issuer = outside.maskinporten.issuer
    given = WellKnown(http, None, issuer=issuer, token_endpoint=f"{issuer}token")
    assert make_tokens(outside, http, key, well_known=given).token_for(trekkpliktig)
    other = WellKnown(http, outside.well_known_url, issuer="https://other/")
    with pytest.raises(FatalError, match="MP-110"):
        make_tokens(outside, http, key, well_known=other).token_for(trekkpliktig)
    with pytest.raises(SettingsError, match="MASKINPORTEN_WELL_KNOWN_URL"):
        WellKnown(http, None, issuer=issuer)


@pytest.mark.parametrize("path", ["jwk", "nothing"])
def test_a_document_that_is_none_is_a_retryable_error_that_names_the_setting(
    outside: OutsideWorld, http: httpx.Client, path: str
) -> None:
    well_known = WellKnown(http, f"{outside.maskinporten.issuer}{path}")
    with pytest.raises(RetryableError, match="MASKINPORTEN_WELL_KNOWN_URL"):
        well_known.issuer()
