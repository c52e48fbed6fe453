"""Diagnosis of every dependency of the producer, for `doctor`: what was tried, what came back, what to do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

import schemas
from producer.admin.acls import operations_needed
from producer.domain.state import NO_EVENT
from producer.notifications.subscriptions import Subscriptions, ours_of
from producer.publish.topics import Topics, differences, durability_warnings, start_faults, wanted_topics
from producer.settings.trekkpliktige import TrekkpliktigeList
from producer.source.auth.grant import load_client_key
from schemas.compatibility import differences_between_all
from trekkpaalegg.errors import FatalError, SettingsError, TrekkpaaleggError
from trekkpaalegg.kafka.properties import has_brokers

if TYPE_CHECKING:
    from collections.abc import Callable

    from producer.admin.kafka import KafkaAdmin
    from producer.notifications.port import EventFeed
    from producer.settings.model import Settings
    from producer.source.auth.maskinporten import MaskinportenTokens, WellKnown
    from producer.source.client import SkatteetatenClient
    from trekkpaalegg.registry import SchemaRegistry
    from trekkpaalegg.trekkpliktige import Trekkpliktig

Verdict = Literal["ok", "failed", "skipped"]


class Finding(msgspec.Struct, frozen=True):
    """One dependency. `todo` is empty when there is nothing to do. Holds no secret."""

    name: str
    verdict: Verdict
    tried: str
    found: str
    todo: str = ""


class _SkippedError(Exception):
    """It cannot be tried, because an earlier check failed or a setting is missing."""


class Adapters(NamedTuple):
    """What the checks use. Each is built when it is called; building may raise `SettingsError`."""

    well_known: Callable[[], WellKnown]
    tokens: Callable[[WellKnown, Trekkpliktig], MaskinportenTokens]
    source: Callable[[MaskinportenTokens], SkatteetatenClient]
    subscriptions: Callable[[Trekkpliktig], Subscriptions]
    event_feed: Callable[[Trekkpliktig], EventFeed]
    kafka_admin: Callable[[], KafkaAdmin]
    single_broker_warnings: Callable[[], list[str]]
    registry: Callable[[], SchemaRegistry]


def examine(settings: Settings, faults: list[str], adapters: Adapters) -> list[Finding]:
    """Check everything. `settings` are those that can be used, `faults` what is wrong with the others."""
    examination = _Examination(settings, faults, adapters)
    return [examination.check(name, tried, check) for name, tried, check in examination.steps()]


class _Examination:
    """The checks. Each returns what it found, or raises what is wrong."""

    def __init__(self, settings: Settings, faults: list[str], adapters: Adapters) -> None:
        self._settings = settings
        self._faults = faults
        self._adapters = adapters
        self._tokens: MaskinportenTokens | None = None
        self._kafka_answers = False

    def steps(self) -> list[tuple[str, str, Callable[[], str]]]:
        settings = self._settings
        topics = Topics.of(settings.topic_prefix)
        altinn = ("Altinn", f"ask {settings.altinn_url} for {settings.notification_transport}", self._check_altinn)
        return [
            ("settings", "read the environment, .env and --env-file", self._check_settings),
            ("key", "load MASKINPORTEN_CLIENT_JWK", self._check_key),
            ("token", f"ask Maskinporten for a token ({settings.authentication})", self._check_token),
            ("API", f"list one order at {settings.api_url or 'TREKKPAALEGG_API_URL'}", self._check_api),
            *([altinn] if settings.webhook_url or settings.source == "notification" else []),
            ("Kafka", f"ask {settings.kafka_brokers or 'the brokers'} for its members", self._check_kafka),
            ("topics", f"compare {topics.versjoner} and the others", self._check_topics),
            ("registry", f"ask {settings.kafka_schema_registry or 'none'}", self._check_registry),
            ("schemas", "compare with every released version", _check_schemas),
        ]

    def check(self, name: str, tried: str, check: Callable[[], str]) -> Finding:
        try:
            return Finding(name, "ok", tried, check())
        except _SkippedError as reason:
            return Finding(name, "skipped", tried, str(reason))
        except SettingsError as error:
            found = f"{len(error.faults)} faults" if len(error.faults) > 1 else "a fault"
            return Finding(name, "failed", tried, found, "\n".join(error.faults))
        except TrekkpaaleggError as error:
            found, _, todo = str(error).partition("; ")
            return Finding(name, "failed", tried, found, todo or _TODO[name])

    def _check_settings(self) -> str:
        if self._faults:
            raise SettingsError(self._faults)
        warned = "".join(f"\n{warning}" for warning in self._settings.warnings)
        return f"all required settings are given{warned}"

    def _check_key(self) -> str:
        text = self._settings.maskinporten_client_jwk.get_secret_value()
        if not text:
            raise _SkippedError("no usable key among the settings")
        key = load_client_key(text)
        return f"a private RSA key of {key.private_key.key_size} bits, {key.algorithm}, kid {key.header.get('kid')}"

    def _check_token(self) -> str:
        settings, first = self._settings, self._first_trekkpliktig()
        jwk = settings.maskinporten_client_jwk.get_secret_value()
        if first is None or not jwk or not settings.maskinporten_client_id:
            raise _SkippedError("needs a client id, a key and a trekkpliktig")
        well_known = self._adapters.well_known()
        tokens = self._adapters.tokens(well_known, first)
        tokens.token_for(first.organisasjonsnummer)
        self._tokens = tokens
        return f"{well_known.issuer().token_endpoint} gave a token that acts for {first.organisasjonsnummer}"

    def _check_api(self) -> str:
        first = self._first_trekkpliktig()
        if self._tokens is None or first is None or not self._settings.api_url:
            raise _SkippedError("needs a token and TREKKPAALEGG_API_URL")
        answer = self._adapters.source(self._tokens).fetch_list(first.organisasjonsnummer, 0, 1)
        try:
            elements = json.loads(answer.body or b"[]")
        except ValueError:
            elements = None
        if not isinstance(elements, list):
            raise FatalError(f"HTTP {answer.status}, but not a list of orders; check the address")
        return f"HTTP {answer.status} with {len(elements)} orders for {first.organisasjonsnummer}"

    def _check_altinn(self) -> str:
        """Subscriptions if Altinn pushes events, events if we pull them; of the first trekkpliktig only."""
        settings, first = self._settings, self._first_trekkpliktig()
        if self._tokens is None or first is None:
            raise _SkippedError("needs a token of Maskinporten")
        number = first.organisasjonsnummer
        if settings.notification_transport == "pull":
            self._adapters.event_feed(first).pull(number, NO_EVENT, {number})
            return f"it lists events about {number}"
        found = ours_of(number, settings.webhook_url or "", self._adapters.subscriptions(first).all_of(number))
        if not any(each.validated for each in found):
            raise FatalError(
                f"it answers, but has {'not validated its' if found else 'no'} subscription of {number} to "
                f"{settings.webhook_url}; run `trekkpaalegg-producer subscriptions apply` while the receiver runs"
            )
        return f"a validated subscription of {number} to {settings.webhook_url}"

    def _check_kafka(self) -> str:
        if not self._settings.kafka_brokers and not has_brokers(self._settings.kafka_file_properties):
            raise _SkippedError("no brokers given")
        brokers = self._adapters.kafka_admin().broker_addresses()
        self._kafka_answers = True
        return f"{len(brokers)} brokers: {', '.join(brokers)}"

    def _check_topics(self) -> str:
        if not self._kafka_answers:
            raise _SkippedError("needs Kafka")
        prefix = self._settings.topic_prefix
        names = Topics.of(prefix)
        admin = self._adapters.kafka_admin()
        found = admin.inspect(prefix, self._settings.application_id, operations_needed(names))
        faults = start_faults(prefix, found)
        if faults:
            raise SettingsError(faults)
        lanes = found.present.lanes
        odd = differences(wanted_topics(prefix, partitions=lanes), found.topics)
        details = "".join(f"\n{each.topic}: {each.what} is {each.found}, by default {each.wanted}" for each in odd)
        warnings = (
            durability_warnings(found.topics, len(admin.broker_addresses())) + self._adapters.single_broker_warnings()
        )
        details += "".join(f"\nwarning: {each}" for each in warnings)
        workers = admin.group_members(self._settings.application_id)
        return f"all {len(names)}, {lanes} lanes, {workers} workers running{details}"

    def _check_registry(self) -> str:
        settings = self._settings
        if settings.kafka_schema_registry is None:
            return "none given: events are written in single-object encoding"
        faults = []
        with self._adapters.registry() as registry:
            for subject, name in Topics.of(settings.topic_prefix).subjects.items():
                faults += [f"{subject}: {sentence}" for sentence in registry.check(subject, schemas.load(name))]
        if faults:
            raise SettingsError(faults)
        return "it answers, and the schemas are compatible"

    def _first_trekkpliktig(self) -> Trekkpliktig | None:
        if not self._settings.trekkpliktige and self._settings.trekkpliktige_file is None:
            return None
        try:
            return TrekkpliktigeList(self._settings, lambda _: None).current()[0]
        except SettingsError:
            return None


def _check_schemas() -> str:
    faults = [sentence for name in schemas.NAMES for sentence in differences_between_all(schemas.versions(name))]
    if faults:
        raise SettingsError(faults)
    return f"{len(schemas.NAMES)} schemas, every version reads every other"


_TODO = {
    "token": "check the MASKINPORTEN_* settings, and the scopes of the client at Maskinporten",
    "API": "check TREKKPAALEGG_API_URL, and that the trekkpliktig has granted access in Altinn",
    "Altinn": "check TREKKPAALEGG_ALTINN_URL and _SCOPES, and the scopes of the client at Maskinporten",
    "Kafka": "check the KAFKA_* settings and the network",
    "topics": "check the rights of this Kafka user",
    "registry": "check KAFKA_SCHEMA_REGISTRY, its user and password",
    "schemas": "reinstall the program",
    "key": "give the client's private key as a JWK",
    "settings": "correct the settings",
}
