"""Why a connection to Kafka fails, and what to do about it, from what librdkafka reports.

librdkafka gives the reason to `error_cb` alone; the call that failed says only that no broker was reached. Of a
certificate it says only that it was refused, so we examine it ourselves, by one connection of our own.
"""

from __future__ import annotations

import datetime as dt
import re
import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from confluent_kafka import KafkaError

if TYPE_CHECKING:
    from collections.abc import Mapping


HANDSHAKE_SECONDS_MAX = 3.0
_PORT_DEFAULT = 9092
_WORDS_MAX = 200
_WITHOUT_REASON = frozenset({KafkaError._ALL_BROKERS_DOWN})  # noqa: SLF001  librdkafka's local codes begin so
_REFUSED = frozenset({KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED})  # noqa: SLF001  as above
_UNTRUSTED = "certificate verify failed"
_ADDRESS = re.compile(r"^(?:[a-z_]+://)?(?P<address>[^/\s]+:[0-9]+)/\S+: ")
_AFTER = re.compile(r" \(after [0-9]+ms in state [A-Z0-9_]+.*$")
_ALERT = re.compile(r"alert (?P<words>[a-z ]+):")
_SUPPORTED = re.compile(r"supported mechanisms: (?P<names>[A-Z0-9,_ -]+)")
_EXPIRED, _NOT_YET = 10, 9
_UNKNOWN_AUTHORITY = frozenset({2, 18, 19, 20, 21})
_OTHER_HOST = frozenset({62, 64})
"""OpenSSL's codes of `X509_V_ERR_…`."""


class Cause(NamedTuple):
    """Why a connection fails, and what to do about it. Neither holds a secret or a semicolon."""

    what: str
    todo: str

    def __str__(self) -> str:
        return f"{self.what}; {self.todo}"


class LastReason:
    """The last reason that librdkafka gave for a failed connection. Safe for several threads."""

    def __init__(self) -> None:
        self._kept: KafkaError | None = None

    def record(self, error: KafkaError) -> None:
        """Record an error: the client's `error_cb`."""
        if error.code() not in _WITHOUT_REASON:
            self._kept = error

    @property
    def is_refusal(self) -> bool:
        """Whether the last reason was a certificate or a password, and not a broker that cannot be reached."""
        kept = self._kept
        if kept is None:
            return False
        reported = kept.str()
        return kept.code() in _REFUSED or _UNTRUSTED in reported or _ALERT.search(reported) is not None

    def clear(self) -> None:
        """Forget it, as the connection is up."""
        self._kept = None

    def cause(self, properties: Mapping[str, str]) -> Cause | None:
        """Why the connection fails; None when nothing is known but that nobody answers."""
        return cause_of("" if self._kept is None else self._kept.str(), properties)


def cause_of(reported: str, properties: Mapping[str, str]) -> Cause | None:
    """Why a client with these properties has no connection. `reported` is librdkafka's last reason, or empty."""
    found = _ADDRESS.match(reported)
    address = found["address"] if found else _first_broker(properties)
    speaks_tls = properties.get("security.protocol", "plaintext").lower().endswith("ssl")
    if _UNTRUSTED in reported:
        return _untrusted_broker(address, properties)
    if alert := _ALERT.search(reported):
        return _refused_client(address, alert["words"], properties)
    if "SASL" in reported or "sasl" in reported.partition(": ")[2]:
        return _refused_login(address, reported)
    if speaks_tls and ("PLAINTEXT" in reported or "wrong version" in reported or "SSL connection closed" in reported):
        return Cause(f"{address} does not speak TLS", "see the port in KAFKA_BROKERS, or take KAFKA_CA_PATH away")
    if reported:
        words = _AFTER.sub("", reported[found.end() :] if found else reported).replace(";", ",")[:_WORDS_MAX]
        return Cause(f"{address}: {words}", "check that KAFKA_BROKERS is right and the brokers run")
    return _silent_broker(address, properties, speaks_tls=speaks_tls)


def _untrusted_broker(address: str, properties: Mapping[str, str]) -> Cause:
    """The client does not trust the broker's certificate."""
    failure = _handshake(address, properties)
    code = failure.verify_code if isinstance(failure, ssl.SSLCertVerificationError) else None
    if code == _EXPIRED:
        return Cause(f"the certificate of {address} has expired", "have the brokers' certificates renewed")
    if code == _NOT_YET:
        return Cause(f"the certificate of {address} is not valid yet", "see the clocks here and there")
    if code in _OTHER_HOST:
        return Cause(
            f"the certificate of {address} is for another host",
            "give the name in the certificate in KAFKA_BROKERS, or have a certificate issued for this name",
        )
    if code in _UNKNOWN_AUTHORITY:
        return Cause(
            f"the certificate of {address} is signed by an authority that is not known here",
            "give that authority's certificate in KAFKA_CA_PATH",
        )
    return Cause(f"the certificate of {address} is not trusted", "see KAFKA_CA_PATH and the brokers' certificates")


def _refused_client(address: str, alert: str, properties: Mapping[str, str]) -> Cause:
    """The broker does not trust our certificate."""
    path = properties.get("ssl.certificate.location")
    if path is None:
        return Cause(
            f"{address} wants a certificate of ours ({alert})",
            "give KAFKA_CERTIFICATE_PATH and KAFKA_PRIVATE_KEY_PATH, which the platform injects",
        )
    ended = _expired_at(path)
    if ended is not None:
        return Cause(
            f"our own certificate has expired at {ended:%Y-%m-%d %H:%M} UTC",
            f"renew {path} (KAFKA_CERTIFICATE_PATH) and its key; a new file is used without a restart",
        )
    return Cause(
        f"{address} refuses our certificate ({alert})",
        f"see whether the brokers know the authority of {path} (KAFKA_CERTIFICATE_PATH)",
    )


def _refused_login(address: str, reported: str) -> Cause:
    """The broker refuses user and password, or the mechanism by which they are given."""
    supported = _SUPPORTED.search(reported)
    if supported is not None and "Unsupported" in reported:
        return Cause(
            f"{address} does not take this sasl.mechanism, but {supported['names'].strip()}",
            "give that one in KAFKA_PROPERTIES_FILE",
        )
    if "not valid in current SASL state" in reported:
        return Cause(
            f"{address} is a listener without user and password", "see the port in KAFKA_BROKERS, or take sasl.* away"
        )
    return Cause(f"{address} refuses user or password", "see sasl.username and sasl.password in KAFKA_PROPERTIES_FILE")


def _silent_broker(address: str, properties: Mapping[str, str], *, speaks_tls: bool) -> Cause | None:
    """The broker closes the connection without a reason, or cannot be reached."""
    failure = _handshake(address, {} if not speaks_tls else properties, trusts_all=not speaks_tls)
    if failure is not None:
        return None
    if not speaks_tls:
        return Cause(
            f"{address} speaks TLS, and this client does not",
            "give KAFKA_CA_PATH, or security.protocol in KAFKA_PROPERTIES_FILE",
        )
    if not properties.get("security.protocol", "").lower().startswith("sasl"):
        return Cause(
            f"{address} ends every connection after the TLS handshake",
            "it may demand user and password: give sasl.* in KAFKA_PROPERTIES_FILE",
        )
    return None


def _handshake(address: str, properties: Mapping[str, str], *, trusts_all: bool = False) -> Exception | None:
    """Why a TLS handshake with the broker fails; None when it succeeds."""
    host, _, port = address.rpartition(":")
    try:
        context = ssl.create_default_context(cafile=properties.get("ssl.ca.location"))
        if trusts_all:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with (
            socket.create_connection((host.strip("[]"), int(port)), timeout=HANDSHAKE_SECONDS_MAX) as connection,
            context.wrap_socket(connection, server_hostname=host.strip("[]")),
        ):
            return None
    except (OSError, ValueError) as error:
        return error


def _expired_at(path: str) -> dt.datetime | None:
    """When the certificate in the file expired, if it has."""
    from cryptography import x509  # noqa: PLC0415 - slow to import, and only needed when a connection has failed

    try:
        ends = x509.load_pem_x509_certificate(Path(path).read_bytes()).not_valid_after_utc
    except (OSError, ValueError):
        return None
    return ends if ends < dt.datetime.now(dt.UTC) else None


def _first_broker(properties: Mapping[str, str]) -> str:
    named = properties.get("bootstrap.servers") or properties.get("metadata.broker.list") or ""
    first = named.split(",")[0].strip().rpartition("://")[2]
    return first if re.search(r":[0-9]+$", first) else f"{first}:{_PORT_DEFAULT}"
