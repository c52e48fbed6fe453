"""How a client talks to Kafka securely: TLS, SASL, and settings that contradict each other. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


PROTOCOL = "security.protocol"
_PROTOCOLS = ("plaintext", "ssl", "sasl_plaintext", "sasl_ssl")
_MECHANISMS = ("sasl.mechanism", "sasl.mechanisms")
_SOURCE = "KAFKA_PROPERTIES_FILE"
_RENEWED = ("sasl.", "ssl.")


def security_protocol(own: Mapping[str, str], *, has_files: bool) -> str | None:
    """The protocol, where the user's own properties do not name it; None when they do or nothing is to be secured.

    `has_files`: whether one of KAFKA_CA_PATH, KAFKA_CERTIFICATE_PATH and KAFKA_PRIVATE_KEY_PATH is given. A user and
    password are never to go over a connection without TLS unasked: `security_faults` sees to that.
    """
    if PROTOCOL in own or not (has_files or _starts(own, "ssl.")):
        return None
    return "sasl_ssl" if _names_a_user(own) else "ssl"


def renewed(started: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """The properties of the start, but users, passwords and certificates as they are now."""
    kept = {name: value for name, value in started.items() if not name.startswith(_RENEWED)}
    return kept | {name: value for name, value in now.items() if name.startswith(_RENEWED)}


def security_faults(own: Mapping[str, str], *, has_files: bool) -> list[str]:
    """What in the properties contradicts itself or the settings, a sentence each; no value but the protocol's."""
    has_sasl = _names_a_user(own)
    protocol = own.get(PROTOCOL, security_protocol(own, has_files=has_files) or "plaintext").lower()
    if protocol not in _PROTOCOLS:
        return [f"{_SOURCE}: {PROTOCOL} must be one of {', '.join(_PROTOCOLS)}"]
    faults = []
    if has_files and not protocol.endswith("ssl"):
        faults.append(
            f"{_SOURCE}: {PROTOCOL} is {protocol}, without TLS, but KAFKA_CA_PATH, KAFKA_CERTIFICATE_PATH or "
            "KAFKA_PRIVATE_KEY_PATH is given; remove the one or the other"
        )
    if has_sasl and PROTOCOL not in own and protocol == "plaintext":
        faults.append(
            f"{_SOURCE}: sasl.* is given, but no TLS; give KAFKA_CA_PATH, or {PROTOCOL}=sasl_ssl where the authority "
            f"is a public one ({PROTOCOL}=sasl_plaintext sends all in the clear)"
        )
    elif has_sasl and not protocol.startswith("sasl"):
        faults.append(f"{_SOURCE}: sasl.* is given, but {PROTOCOL} is {protocol}, which does not use it")
    if protocol.startswith("sasl") and "sasl.username" in own and not any(name in own for name in _MECHANISMS):
        faults.append(f"{_SOURCE}: sasl.username is given without sasl.mechanism; give it, such as SCRAM-SHA-512")
    if "sasl.username" in own and "sasl.password" not in own:
        faults.append(f"{_SOURCE}: sasl.username is given without sasl.password; give both")
    return faults


def _names_a_user(own: Mapping[str, str]) -> bool:
    """Whether SASL is meant: a password alone is of no use to it, and was never refused."""
    return any(name in own for name in (*_MECHANISMS, "sasl.username"))


def _starts(own: Mapping[str, str], start: str) -> bool:
    return any(name.startswith(start) for name in own)
