"""The schema registry: a subject and a schema come in; its id, or the differences that forbid it, go out.

Any registry with Confluent's API serves. It is asked at the start only: an event carries the id and no more.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx2  # what confluent-kafka's registry client is built on, and whose errors it lets through
from confluent_kafka.schema_registry import ConfigCompatibilityLevel, SchemaRegistryClient, ServerConfig
from confluent_kafka.schema_registry import Schema as RegistrySchema
from confluent_kafka.schema_registry.error import SchemaRegistryError

import schemas
from schemas.compatibility import differences
from trekkpaalegg.errors import FatalError, RetryableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from schemas import Schema

CALL_TIMEOUT_SECONDS = 10
_FULL_TRANSITIVE = ConfigCompatibilityLevel.FULL_TRANSITIVE
_NOT_FOUND, _CONFLICT, _UNPROCESSABLE, _TOO_MANY = 404, 409, 422, 429
_REFUSED_CALLER = (401, 403)
_SERVER_ERROR = 500
_SUBJECT_UNKNOWN = (40401, 40408)
"""Confluent's error codes: no such subject; the subject has no compatibility level of its own."""


class SchemaRegistry:
    """One registry. `url` is the base of its Confluent API; `user` and `password` are for basic authentication.

    `ca_path` is a PEM file of the only authority to be trusted; without it the public ones are.

    Every call raises `RetryableError` when the registry is out of reach or in trouble, and `FatalError`, which says
    what to do, when it refuses or the file cannot be used.
    """

    def __init__(
        self, url: str, user: str | None = None, password: str | None = None, ca_path: Path | None = None
    ) -> None:
        self._url = url
        configuration: dict[str, object] = {
            "url": url,
            "timeout": CALL_TIMEOUT_SECONDS,
            "max.retries": 1,  # the caller has a policy of its own
            "retries.wait.ms": 200,
        }
        if user is not None:
            configuration["basic.auth.user.info"] = f"{user}:{password or ''}"
        if ca_path is not None:
            configuration["ssl.ca.location"] = str(ca_path)
        try:
            self._client = SchemaRegistryClient(configuration)
        except OSError as error:  # ssl.SSLError is one too
            raise FatalError("KAFKA_SCHEMA_REGISTRY_CA_PATH: cannot be used; give a PEM file") from error

    def register(self, subject: str, schema: Schema) -> int:
        """The id of the schema under that subject, registered if it is not; registering twice gives the same id.

        1. Set the subject to FULL_TRANSITIVE, if it is not.
        2. Compare with every version by our own rule, which sees the logical types that registries do not.
        3. Register.
        """
        with self._translated(f"register the schema {schema.name} under {subject}"):
            # 1. Set the subject to FULL_TRANSITIVE.
            if self._level(subject) != _FULL_TRANSITIVE.value:
                self._client.set_config(subject, ServerConfig(compatibility=_FULL_TRANSITIVE))
            # 2. Compare with every version.
            found = [
                sentence
                for number, registered in self._versions(subject)
                for sentence in _differences(number, registered, schema)
            ]
            if found:
                raise FatalError(f"schema {schema.name} is not registered under {subject}: {' '.join(found)} {_ADVICE}")
            # 3. Register.
            return self._client.register_schema(subject, _for_registry(schema))

    def check(self, subject: str, schema: Schema) -> list[str]:
        """What forbids the schema to be registered under that subject, a sentence each; nothing is changed.

        Compares with every registered version, by our own rule and by the registry's.
        """
        found: list[str] = []
        with self._translated(f"compare the schema {schema.name} with those under {subject}"):
            for number, registered in self._versions(subject):
                sentences = _differences(number, registered, schema)
                if not sentences and not self._client.test_compatibility(subject, _for_registry(schema), number):
                    sentences = [f"Version {number}: the registry calls it incompatible."]
                found += sentences
        return found

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _versions(self, subject: str) -> Iterator[tuple[int, str]]:
        try:
            numbers = self._client.get_versions(subject)
        except SchemaRegistryError as error:
            if error.error_code in _SUBJECT_UNKNOWN:
                return
            raise
        for number in numbers:
            yield number, self._client.get_version(subject, number).schema.schema_str or ""

    def _level(self, subject: str) -> str | None:
        """The subject's own level. None when it has none: the registry's global level is not in our hands."""
        try:
            level = self._client.get_config(subject).compatibility_level
        except SchemaRegistryError as error:
            if error.error_code in _SUBJECT_UNKNOWN:
                return None
            raise
        return None if level is None else str(getattr(level, "value", level))

    @contextmanager
    def _translated(self, attempt: str) -> Iterator[None]:
        failed = f"could not {attempt}"
        try:
            yield
        except SchemaRegistryError as error:
            status = error.http_status_code
            if status >= _SERVER_ERROR or status == _TOO_MANY:
                raise RetryableError(f"{failed}: the registry answered {status}") from error
            raise FatalError(f"{failed}: {_explanation(self._url, status, error)}") from error
        except httpx2.RequestError as error:
            raise RetryableError(f"{failed}: {_silence(self._url, error)}") from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            # It answered 200 with something that the client could not read as JSON or as what it asked for.
            raise FatalError(f"{failed}: {_address_hint(self._url)}") from error


_ADVICE = (
    "Change the schema so that it may live beside every earlier version (schemas/README.md tells what is allowed), "
    "or begin a new topic."
)


def _explanation(url: str, status: int, error: SchemaRegistryError) -> str:
    message = str(error.error_message)[:500]
    if status in _REFUSED_CALLER:
        return (
            f"the registry refused us ({status}). Check KAFKA_SCHEMA_REGISTRY_USER and KAFKA_SCHEMA_REGISTRY_PASSWORD, "
            "and that the user may register schemas and set the compatibility of subjects."
        )
    if status == _CONFLICT:
        return f"it is incompatible with an earlier version ({message}). {_ADVICE}"
    if status == _UNPROCESSABLE:
        return f"the registry does not take it for a schema ({message})."
    if status == _NOT_FOUND:
        return _address_hint(url)
    return f"the registry answered {status} ({message})."


def _silence(url: str, error: httpx2.RequestError) -> str:
    """Why there was no answer. A certificate is judged by OpenSSL, whose words come wrapped."""
    _, is_judged, words = str(error).partition("certificate verify failed: ")
    if not is_judged:
        return f"no answer from {url} ({type(error).__name__})"
    return (
        f"the certificate of {url} is not to be trusted ({words.partition(' (')[0]}); "
        "see KAFKA_SCHEMA_REGISTRY_CA_PATH, or have the certificate renewed"
    )


def _address_hint(url: str) -> str:
    return (
        f"there is no schema registry at {url}. Check KAFKA_SCHEMA_REGISTRY: it is the base of the Confluent API, "
        "which for Apicurio ends in /apis/ccompat/v7."
    )


def _differences(number: int, registered: str, schema: Schema) -> list[str]:
    try:
        earlier = schemas.parse(schema.name, registered)
    except Exception as error:  # noqa: BLE001 - fastavro raises many kinds for what is no Avro schema; all mean that
        return [f"Version {number}: what is registered is no Avro schema ({type(error).__name__})."]
    return [f"Version {number}: {sentence}" for sentence in differences(earlier, schema)]


def _for_registry(schema: Schema) -> RegistrySchema:
    return RegistrySchema(schema.canonical_json, "AVRO")
