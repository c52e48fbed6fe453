"""A certificate authority for tests, and the certificates it signs, as PEM files that are created each time.

::

    certificates = Certificates(folder)
    server = certificates.server()
    client = certificates.client("payroll")
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, NamedTuple

import trustme
from cryptography.hazmat.primitives import serialization

from sandbox.servers.server import LOOPBACK

if TYPE_CHECKING:
    from pathlib import Path

ELSEWHERE = "kafka.elsewhere.example"


class Identity(NamedTuple):
    """A certificate with those that vouch for it, its key, and both in one file as Kafka's key stores want it."""

    certificate: Path
    key: Path
    both: Path


class Certificates:
    """One authority. Its own certificate is in the file `authority`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._authority = trustme.CA(organization_name="trekkpaalegg sandbox")
        self.authority = folder / "authority.pem"
        self._authority.cert_pem.write_to_path(self.authority)

    def server(self, name: str = "server", *identities: str) -> Identity:
        """Of a server on this machine, or of the host names given."""
        return self._write(name, self._authority.issue_cert(*(identities or (LOOPBACK, "localhost"))))

    def expired(self, name: str = "expired") -> Identity:
        """As `server`, but no longer valid since yesterday."""
        begun, ended = _yesterday()
        leaf = self._authority.issue_cert(LOOPBACK, "localhost", not_before=begun, not_after=ended)
        return self._write(name, leaf)

    def client(self, common_name: str, *, is_expired: bool = False) -> Identity:
        """Of a client, whose name Kafka is to read from the subject."""
        begun, ended = _yesterday() if is_expired else (None, None)
        leaf = self._authority.issue_cert(
            f"{common_name}.example", common_name=common_name, not_before=begun, not_after=ended
        )
        return self._write(f"client-{'expired-' if is_expired else ''}{common_name}", leaf)

    def _write(self, name: str, leaf: trustme.LeafCert) -> Identity:
        made = Identity(*(self._folder / f"{name}{end}" for end in ("-certificate.pem", "-key.pem", "-both.pem")))
        certificate = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
        # Kafka reads keys in the form of PKCS 8 alone.
        key = serialization.load_pem_private_key(leaf.private_key_pem.bytes(), None).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        for path, content in zip(made, (certificate, key, key + certificate), strict=True):
            path.touch(mode=0o600)
            path.write_bytes(content)
        return made


def _yesterday() -> tuple[dt.datetime, dt.datetime]:
    """Begin and end of a time that is over."""
    now = dt.datetime.now(dt.UTC)
    return now - dt.timedelta(days=30), now - dt.timedelta(days=1)
