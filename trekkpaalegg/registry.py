"""The schema registry as a reader needs it: the id of a schema comes in, the schema's text goes out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx2  # what confluent-kafka's registry client is built on, and whose errors it lets through
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from trekkpaalegg.errors import FatalError, RetryableError, UndecodableError

if TYPE_CHECKING:
    from pathlib import Path

CALL_TIMEOUT_SECONDS = 10
_SCHEMA_UNKNOWN = 40403
_SERVER_ERROR = 500
_TOO_MANY = 429


class RegistrySchemaSource:
    """One registry with Confluent's API. `url` is its base, `user` and `password` are for basic authentication.

    `ca_path` is a PEM file of the only authority to be trusted; without it the public ones are. Raises `FatalError`
    when it cannot be used.
    """

    def __init__(
        self, url: str, user: str | None = None, password: str | None = None, ca_path: Path | None = None
    ) -> None:
        self._url = url
        configuration: dict[str, object] = {"url": url, "timeout": CALL_TIMEOUT_SECONDS, "max.retries": 1}
        if user is not None:
            configuration["basic.auth.user.info"] = f"{user}:{password or ''}"
        if ca_path is not None:
            configuration["ssl.ca.location"] = str(ca_path)
        try:
            self._client = SchemaRegistryClient(configuration)
        except OSError as error:  # ssl.SSLError is one too
            raise FatalError("KAFKA_SCHEMA_REGISTRY_CA_PATH: cannot be used; give a PEM file") from error

    def fetch_schema(self, schema_id: int) -> str:
        """The schema's JSON text.

        Raises `UndecodableError` for an id that the registry does not know, `RetryableError` when it is out of reach
        or in trouble, `FatalError` when it refuses us.
        """
        failed = f"could not get schema {schema_id} from {self._url}"
        try:
            return self._client.get_schema(schema_id).schema_str or ""
        except SchemaRegistryError as error:
            if error.error_code == _SCHEMA_UNKNOWN:
                raise UndecodableError(f"the registry at {self._url} knows no schema with id {schema_id}") from error
            status = error.http_status_code
            if status >= _SERVER_ERROR or status == _TOO_MANY:
                raise RetryableError(f"{failed}: it answered {status}") from error
            raise FatalError(
                f"{failed}: it answered {status}. Check KAFKA_SCHEMA_REGISTRY, and its user and password"
            ) from error
        except httpx2.RequestError as error:
            raise RetryableError(f"{failed}: {_silence(error)}") from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise FatalError(f"{failed}: its answer is none of a schema registry's") from error

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _silence(error: httpx2.RequestError) -> str:
    """Why there was no answer. A certificate is judged by OpenSSL, whose words come wrapped."""
    _, is_judged, words = str(error).partition("certificate verify failed: ")
    if not is_judged:
        return f"no answer ({type(error).__name__})"
    return (
        f"its certificate is not to be trusted ({words.partition(' (')[0]}); see KAFKA_SCHEMA_REGISTRY_CA_PATH, "
        "or have the certificate renewed"
    )
