"""Client of the schema registry: schemas by id, registration, and the check that versions are compatible.

Any registry with Confluent's API will do. The producer calls it when it starts: an event carries the id alone.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from confluent_kafka.schema_registry import ConfigCompatibilityLevel, SchemaRegistryClient, ServerConfig
from confluent_kafka.schema_registry import Schema as RegistrySchema
from confluent_kafka.schema_registry.error import SchemaRegistryError

import schemas
from schemas.compatibility import differences
from trekkpaalegg.errors import FatalError, RetryableError, TrekkpaaleggError, UndecodableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Self

    from schemas import Schema
    from trekkpaalegg.settings import KafkaSettings

CALL_TIMEOUT_SECONDS = 10
_FULL_TRANSITIVE = ConfigCompatibilityLevel.FULL_TRANSITIVE
_NOT_FOUND, _CONFLICT, _UNPROCESSABLE, _TOO_MANY = 404, 409, 422, 429
_REFUSED_CALLER = (401, 403)
_SERVER_ERROR = 500
# Confluent's error codes.
_SUBJECT_UNKNOWN = (40401, 40408)
"""No such subject; the subject has no compatibility level of its own."""
_SCHEMA_UNKNOWN = 40403

_READ = "read schemas"
_REGISTER = "register schemas and set the compatibility of subjects"


class SchemaRegistry:
    """One registry. `url` is the base of its Confluent API; `user` and `password` are for basic authentication.

    `ca_path` is a PEM file of the only certificate authority to trust, instead of the public ones. Raises `FatalError`
    if that file cannot be used.

    Every call raises `RetryableError` if the registry cannot be reached or fails, and `FatalError`, which says what to
    do, if it refuses.
    """

    def __init__(
        self, url: str, user: str | None = None, password: str | None = None, ca_path: Path | None = None
    ) -> None:
        self._url = url
        configuration: dict[str, object] = {
            "url": url,
            "timeout": CALL_TIMEOUT_SECONDS,
            "max.retries": 1,  # the caller decides when to try again
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

    @classmethod
    def of(cls, settings: KafkaSettings) -> SchemaRegistry:
        """The registry that the settings name, which must name one."""
        password = settings.kafka_schema_registry_password
        return cls(
            settings.kafka_schema_registry or "",
            settings.kafka_schema_registry_user,
            password.get_secret_value() if password else None,
            settings.kafka_schema_registry_ca_path,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def fetch_schema(self, schema_id: int) -> str:
        """The schema's JSON text. Raises `UndecodableError` for an id that the registry does not know."""
        with self._translated(f"get schema {schema_id} from {self._url}", _READ):
            try:
                return self._client.get_schema(schema_id).schema_str or ""
            except SchemaRegistryError as error:
                if error.error_code == _SCHEMA_UNKNOWN:
                    raise UndecodableError(
                        f"the registry at {self._url} knows no schema with id {schema_id}"
                    ) from error
                raise

    def register(self, subject: str, schema: Schema) -> int:
        """Register the schema under the subject, if it is not registered yet, and return its id.

        1. Set the subject to FULL_TRANSITIVE, if it is not.
        2. Compare with every version by our own rule, which checks logical types; registries do not.
        3. Register.
        """
        with self._translated(f"register the schema {schema.name} under {subject}", _REGISTER):
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
        """Why the schema cannot be registered under the subject, a sentence for each reason. Nothing is changed.

        Compares with every registered version, by our own rule and by the registry's.
        """
        found: list[str] = []
        with self._translated(f"compare the schema {schema.name} with those under {subject}", _READ):
            for number, registered in self._versions(subject):
                sentences = _differences(number, registered, schema)
                if not sentences and not self._client.test_compatibility(subject, _for_registry(schema), number):
                    sentences = [f"Version {number}: the registry calls it incompatible."]
                found += sentences
        return found

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
        """The subject's own level; None if it has none and the registry's global level applies."""
        try:
            level = self._client.get_config(subject).compatibility_level
        except SchemaRegistryError as error:
            if error.error_code in _SUBJECT_UNKNOWN:
                return None
            raise
        return None if level is None else str(getattr(level, "value", level))

    @contextmanager
    def _translated(self, attempt: str, right: str) -> Iterator[None]:
        """Translate the client's errors. `right`: what the registry must permit its user."""
        failed = f"could not {attempt}"
        try:
            yield
        except TrekkpaaleggError:
            raise
        except SchemaRegistryError as error:
            status = error.http_status_code
            if status >= _SERVER_ERROR or status == _TOO_MANY:
                raise RetryableError(f"{failed}: the registry answered {status}") from error
            raise FatalError(f"{failed}: {_explanation(self._url, status, error, right)}") from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            # It answered 200 with something that the client could not read as JSON, or as the answer it expected.
            raise FatalError(f"{failed}: {_address_hint(self._url)}") from error
        except Exception as error:
            # The client lets the errors of its HTTP library through: httpx2 or httpx, which it chooses itself. Naming
            # their classes would bind us to that choice. What is left here is a failed connection.
            raise RetryableError(f"{failed}: {_no_answer(self._url, error)}") from error


_ADVICE = (
    "Change the schema so that it is compatible with every earlier version (see schemas/README.md), or begin a new "
    "topic."
)


def _explanation(url: str, status: int, error: SchemaRegistryError, right: str) -> str:
    message = str(error.error_message)[:500]
    if status in _REFUSED_CALLER:
        return (
            f"the registry refused us ({status}). Check KAFKA_SCHEMA_REGISTRY_USER and KAFKA_SCHEMA_REGISTRY_PASSWORD, "
            f"and that the user may {right}."
        )
    if status == _CONFLICT:
        return f"it is incompatible with an earlier version ({message}). {_ADVICE}"
    if status == _UNPROCESSABLE:
        return f"the registry does not accept it as a schema ({message})."
    if status == _NOT_FOUND:
        return _address_hint(url)
    return f"the registry answered {status} ({message})."


def _no_answer(url: str, error: Exception) -> str:
    """Why there was no answer. What OpenSSL says of a certificate is wrapped in other text."""
    _, is_certificate, words = str(error).partition("certificate verify failed: ")
    if not is_certificate:
        return f"no answer from {url} ({type(error).__name__})"
    return (
        f"the certificate of {url} is not trusted ({words.partition(' (')[0]}); "
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
    except Exception as error:  # noqa: BLE001 - fastavro raises errors of many kinds for what is no Avro schema
        return [f"Version {number}: what is registered is no Avro schema ({type(error).__name__})."]
    return [f"Version {number}: {sentence}" for sentence in differences(earlier, schema)]


def _for_registry(schema: Schema) -> RegistrySchema:
    return RegistrySchema(schema.canonical_json, "AVRO")
