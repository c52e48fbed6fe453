"""A real registry behind TLS and basic authentication, as its users on both sides meet it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import schemas
from sandbox.servers.certificates import ELSEWHERE, Certificates
from tests.kit.servers.registry_door import RegistryDoor
from trekkpaalegg.errors import FatalError, RetryableError
from trekkpaalegg.registry import SchemaRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sandbox.servers.certificates import Identity
    from sandbox.servers.registry import EmbeddedRegistry

pytestmark = pytest.mark.kafka
USER, PASSWORD = "trekk", "secret-of-the-registry"
EVENT = schemas.load("trekkpaalegg_versjon")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def door(registry: EmbeddedRegistry, certificates: Certificates) -> Iterator[RegistryDoor]:
    with RegistryDoor(registry.url, certificates.server(), USER, PASSWORD) as opened:
        yield opened


def test_what_one_registers_over_tls_the_other_reads(
    door: RegistryDoor, certificates: Certificates, topic_prefix: str
) -> None:
    writer = SchemaRegistry(door.url, USER, PASSWORD, certificates.authority)
    reader = SchemaRegistry(door.url, USER, PASSWORD, certificates.authority)
    number = writer.register(f"{topic_prefix}-versjoner-value", EVENT)
    assert "TrekkpaaleggVersjon" in reader.fetch_schema(number)
    writer.close()
    reader.close()


def test_a_wrong_password_is_reported_to_reader_and_writer_and_never_shown(
    door: RegistryDoor, certificates: Certificates
) -> None:
    writer = SchemaRegistry(door.url, USER, "secret-2", certificates.authority)
    reader = SchemaRegistry(door.url, USER, "secret-2", certificates.authority)
    with pytest.raises(FatalError, match=r"refused us \(401\). Check KAFKA_SCHEMA_REGISTRY_USER") as raised:
        writer.check("any-value", EVENT)
    assert "secret-2" not in repr(raised.value)
    with pytest.raises(FatalError, match=r"refused us \(401\)\. Check KAFKA_SCHEMA_REGISTRY_USER") as met:
        reader.fetch_schema(1)
    assert "secret-2" not in repr(met.value)
    writer.close()
    reader.close()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("expired", "certificate has expired"),
        ("elsewhere", "certificate is not valid for '127.0.0.1'"),
        ("public authorities alone", "self.signed certificate|unable to get local issuer"),
    ],
)
def test_an_untrusted_certificate_is_reported_with_the_reason(
    registry: EmbeddedRegistry, certificates: Certificates, kind: str, words: str
) -> None:
    shown: dict[str, Identity] = {
        "expired": certificates.expired(),
        "elsewhere": certificates.server("elsewhere", ELSEWHERE),
        "public authorities alone": certificates.server("good"),
    }
    authority = None if kind.startswith("public") else certificates.authority
    with RegistryDoor(registry.url, shown[kind], USER, PASSWORD) as door:
        writer = SchemaRegistry(door.url, USER, PASSWORD, authority)
        with pytest.raises(RetryableError, match=rf"is not trusted \(.*({words})") as raised:
            writer.check("any-value", EVENT)
        assert "KAFKA_SCHEMA_REGISTRY_CA_PATH" in str(raised.value)
        writer.close()


def test_a_file_that_is_no_certificate_is_told(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("-")
    with pytest.raises(FatalError, match="KAFKA_SCHEMA_REGISTRY_CA_PATH: cannot be used"):
        SchemaRegistry("https://127.0.0.1:1", ca_path=tmp_path / "ca.pem")
