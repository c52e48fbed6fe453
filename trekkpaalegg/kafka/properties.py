"""The librdkafka properties of every client: from settings, `KAFKA_PROPERTIES_FILE` and credentials as they are now.

`kafka_properties` puts them together. `parse_properties` and `security_faults` report every fault before anything
starts. librdkafka reads certificates and passwords only when a client is created, so `RenewableProperties` says when a
client must be replaced because they were renewed.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from trekkpaalegg.errors import RetryableError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from trekkpaalegg.settings import KafkaSettings

REFUSED_PROPERTIES = frozenset(
    {
        "transactional.id",
        "isolation.level",
        "acks",
        "request.required.acks",
        "enable.idempotence",
        "partitioner",
        "group.id",
        "enable.auto.commit",
    }
)
"""What the exactly-once guarantee rests on: set by the program alone. `request.required.acks` is librdkafka's other
name for `acks`."""

_PROTOCOL = "security.protocol"
_PROTOCOLS = ("plaintext", "ssl", "sasl_plaintext", "sasl_ssl")
_MECHANISMS = ("sasl.mechanism", "sasl.mechanisms")
_CREDENTIALS = ("sasl.", "ssl.")
_FILES = ("ssl.ca.location", "ssl.certificate.location", "ssl.key.location")
_SOURCE = "KAFKA_PROPERTIES_FILE"

_log = structlog.get_logger(__name__)


def kafka_properties(settings: KafkaSettings) -> dict[str, str]:
    """The properties of a client that is created now: brokers, TLS, SASL, and the user's own, which win.

    What a client needs for the guarantee it sets itself, after these. Of the user's file `sasl.*` and `ssl.*` are read
    again, so that a corrected password needs no restart. All else stays as at the start, since other brokers would be
    another stream.

    A file that is missing or faulty by now is reported in the log, and the properties of the start are kept: they may
    still do, and if they do not, Kafka says so.
    """
    files = {name: str(path) for name, path in settings.tls_files.items() if path is not None}
    own = _own_properties(settings, has_files=bool(files))
    properties = {"client.id": settings.client_id}
    if settings.kafka_brokers and not has_brokers(own):
        properties["bootstrap.servers"] = settings.kafka_brokers
    protocol = security_protocol(own, has_files=bool(files))
    if protocol is not None:
        properties[_PROTOCOL] = protocol
    return properties | files | own


def _own_properties(settings: KafkaSettings, *, has_files: bool) -> dict[str, str]:
    started, path = dict(settings.kafka_file_properties), settings.kafka_properties_file
    if path is None:
        return started
    try:
        found = path.stat()
        written = found.st_mtime_ns, found.st_size
        read = _read_once(path, *written)
    except OSError as error:
        written, read = (0, 0), [f"{_SOURCE} {path}: cannot be read ({type(error).__name__})"]
    now = started if isinstance(read, list) else _with_credentials(started, read)
    faults = read if isinstance(read, list) else security_faults(now, has_files=has_files)
    if faults:
        _warn_once(path, *written, "; ".join(faults))
        return started
    return now


@lru_cache(maxsize=4)
def _read_once(path: Path, _written_ns: int, _bytes: int) -> dict[str, str] | list[str]:
    """The file's properties, or its faults. Read once for each time that it was written."""
    try:
        return read_properties(path)
    except SettingsError as error:
        return error.faults


@lru_cache(maxsize=4)
def _warn_once(_path: Path, _written_ns: int, _bytes: int, reason: str) -> None:
    _log.warning("the Kafka properties of the start are kept", reason=reason)


def _with_credentials(started: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """The properties of the start, but users, passwords and certificates as they are now."""
    kept = {name: value for name, value in started.items() if not name.startswith(_CREDENTIALS)}
    return kept | {name: value for name, value in now.items() if name.startswith(_CREDENTIALS)}


# The user's own file.


def parse_properties(text: str, source: str) -> dict[str, str]:
    """The properties in `key=value` lines; blank lines and lines that begin with `#` or `!` are skipped.

    Raises `SettingsError` with every line that cannot be read and every refused property. No message holds a value.
    """
    properties: dict[str, str] = {}
    faults = []
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith(("#", "!")):
            continue
        key, equals, value = (part.strip() for part in stripped.partition("="))
        if not key or not equals:
            faults.append(f"{source}: line {number} is not of the form key=value")
        elif key in REFUSED_PROPERTIES:
            faults.append(f"{source}: line {number}: {key} is set by the program, for exactly-once; remove it")
        elif key in properties:
            faults.append(f"{source}: line {number}: {key} is given twice")
        else:
            properties[key] = value
    if faults:
        raise SettingsError(faults)
    return properties


def read_properties(path: Path) -> dict[str, str]:
    """As `parse_properties`, of a file. Raises `SettingsError` also when it cannot be read."""
    source = f"{_SOURCE} {path}"
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([f"{source}: cannot be read ({type(error).__name__})"]) from error
    return parse_properties(text, source)


def has_brokers(properties: Mapping[str, str]) -> bool:
    """Whether the user's own properties name the brokers."""
    return any(properties.get(name) for name in ("bootstrap.servers", "metadata.broker.list"))


# TLS and SASL.


def security_protocol(own: Mapping[str, str], *, has_files: bool) -> str | None:
    """The protocol, unless the user's own properties name it or nothing is to be secured: then None.

    `has_files`: whether one of KAFKA_CA_PATH, KAFKA_CERTIFICATE_PATH and KAFKA_PRIVATE_KEY_PATH is given. User and
    password must never go over a connection without TLS unless the user asks for it: `security_faults` ensures that.
    """
    if _PROTOCOL in own or not (has_files or any(name.startswith("ssl.") for name in own)):
        return None
    return "sasl_ssl" if _uses_sasl(own) else "ssl"


def security_faults(own: Mapping[str, str], *, has_files: bool) -> list[str]:
    """Contradictions within the user's own properties, or with the settings, a sentence each. No secret is in them."""
    has_sasl = _uses_sasl(own)
    protocol = own.get(_PROTOCOL, security_protocol(own, has_files=has_files) or "plaintext").lower()
    if protocol not in _PROTOCOLS:
        return [f"{_SOURCE}: {_PROTOCOL} must be one of {', '.join(_PROTOCOLS)}"]
    faults = []
    if has_files and not protocol.endswith("ssl"):
        faults.append(
            f"{_SOURCE}: {_PROTOCOL} is {protocol}, without TLS, but KAFKA_CA_PATH, KAFKA_CERTIFICATE_PATH or "
            "KAFKA_PRIVATE_KEY_PATH is given; remove the one or the other"
        )
    if has_sasl and _PROTOCOL not in own and protocol == "plaintext":
        faults.append(
            f"{_SOURCE}: sasl.* is given, but no TLS; give KAFKA_CA_PATH, or {_PROTOCOL}=sasl_ssl where the authority "
            f"is a public one ({_PROTOCOL}=sasl_plaintext sends all in the clear)"
        )
    elif has_sasl and not protocol.startswith("sasl"):
        faults.append(f"{_SOURCE}: sasl.* is given, but {_PROTOCOL} is {protocol}, which does not use it")
    if protocol.startswith("sasl") and "sasl.username" in own and not any(name in own for name in _MECHANISMS):
        faults.append(f"{_SOURCE}: sasl.username is given without sasl.mechanism; give it, such as SCRAM-SHA-512")
    if "sasl.username" in own and "sasl.password" not in own:
        faults.append(f"{_SOURCE}: sasl.username is given without sasl.password; give both")
    return faults


def _uses_sasl(own: Mapping[str, str]) -> bool:
    """Whether SASL is meant. A password alone is of no use to it, and is accepted."""
    return any(name in own for name in (*_MECHANISMS, "sasl.username"))


# Credentials that are renewed while a client runs.


class RenewableProperties:
    """The properties that a client was created with, and whether they have changed since. Used by one thread.

    `read` returns the properties as they are now. The files of certificates and key that they name count too.
    """

    def __init__(self, read: Callable[[], Mapping[str, str]]) -> None:
        self._read = read
        self.load()

    def load(self) -> Mapping[str, str]:
        """Read the properties for a client that is created now."""
        self.loaded = self._read()
        self._written = _written(self.loaded)
        return self.loaded

    def have_changed(self) -> bool:
        """Whether a client that is created now would have other properties than the last one."""
        properties = self._read()
        return properties != self.loaded or _written(properties) != self._written


def _written(properties: Mapping[str, str]) -> list[tuple[int, int] | None]:
    """When each of the files was written last, and its size."""
    found: list[tuple[int, int] | None] = []
    for name in _FILES:
        try:
            status = Path(properties[name]).stat()
        except (KeyError, OSError):
            found.append(None)
        else:
            found.append((status.st_mtime_ns, status.st_size))
    return found


@contextmanager
def tolerate_renewal() -> Iterator[None]:
    """Raise `RetryableError` for faulty settings: for clients that are created after the start.

    At the start a key that does not fit its certificate is wrong. Later the two are being renewed, one by one.
    """
    try:
        yield
    except SettingsError as error:
        raise RetryableError(str(error)) from error
