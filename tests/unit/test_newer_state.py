"""State that a newer program wrote is read with the schema that it recorded beside it."""

from __future__ import annotations

import json
from io import BytesIO

import fastavro
import pytest

import schemas
from consumers.verify.positions import Positions
from producer.domain.state import HandedOver, Missing, OrderState, TrekkpliktigPosition
from producer.encode.state import STATE_SCHEMAS, decode_handed_over
from producer.errors import AbortedError
from producer.lane.commit import Committer, Part
from producer.publish.state import identity_of, lane_state_of, schema_records
from tests.kit.fakes.publisher import FakeKafka, Fault
from tests.kit.stages.lane_stage import LaneStage, build_records
from trekkpaalegg.errors import FatalError

ONE = "311111111"
HASH = b"12345678"
ORDER = {
    "trekkversjon": 3,
    "content_hash": HASH,
    "content_hash_version": 1,
    "missing": [{"first": 1, "last": 2, "reason": "HTTP 404"}],
    "tried_at": 7,
}
HANDED_OVER = {"trekkversjon": 3, "content_hash": HASH, "content_hash_version": 1}
DATA = {
    "order_state": (b"/A", ORDER),
    "trekkpliktig_state": (b"311111111", {"position": 8}),
    "handed_over": (b"311111111/A", HANDED_OVER),
    "lane_count": (b"lanes", {"lanes": 6, "application_id": "a", "cluster_id": "c", "topics": []}),
}


def newer_schema(name, field, *, without=()):
    """The present schema with one more field in front, and without these."""
    declared = json.loads(schemas.load(name).canonical_json)
    more = {"name": field, "type": "string", "default": ""}
    declared["fields"] = [more, *(each for each in declared["fields"] if each["name"] not in without)]
    return schemas.parse(name, json.dumps(declared))


def schema_pair(schema):
    return b"@schema/" + schema.fingerprint.hex().encode(), schema.canonical_json.encode()


def written(schema, key, datum):
    buffer = BytesIO()
    fastavro.schemaless_writer(buffer, schema.parsed, datum)
    return key, b"\xc3\x01" + schema.fingerprint + buffer.getvalue()


def newer_records(field):
    """A partition that a newer program wrote: its schemas, then its state."""
    records = []
    for name, (key, datum) in DATA.items():
        schema = newer_schema(name, field)
        records += [schema_pair(schema), written(schema, key, {**datum, field: "of a newer program"})]
    return records


def test_fields_that_are_not_known_are_dropped():
    state = lane_state_of(newer_records("added"))
    assert state.orders.order(b"A") == OrderState(3, HASH, 1, (Missing(1, 2, "HTTP 404"),), tried_at=7)
    assert state.of(ONE).position == TrekkpliktigPosition(8)
    assert state.of(ONE).handed_over(b"A") == HandedOver(3, HASH, 1)
    assert state.identity is not None
    assert state.identity.lanes == 6
    assert state.schemas == {newer_schema(name, "added").fingerprint for name in DATA}


def test_fields_that_are_lacking_have_their_defaults():
    schema = newer_schema("order_state", "lacking", without={"missing", "failing"})
    datum = {each: value for each, value in ORDER.items() if each != "missing"}
    state = lane_state_of([schema_pair(schema), written(schema, b"/A", datum)])
    assert state.orders.order(b"A") == OrderState(3, HASH, 1, tried_at=7)


def test_newer_identity_is_read_alone():
    identity = identity_of(newer_records("identity"))
    assert identity is not None
    assert identity.application_id == "a"


def test_without_its_schema_a_newer_record_is_fatal():
    records = [each for each in newer_records("unrecorded") if not each[0].startswith(b"@schema/")]
    with pytest.raises(FatalError, match="newer version"):
        lane_state_of(records)


def test_a_schema_of_another_record_does_not_help():
    schema = newer_schema("order_state", "other")
    _, value = written(schema, b"311111111/A", ORDER)
    lane_state_of([schema_pair(schema)])
    with pytest.raises(FatalError, match="newer version"):
        decode_handed_over(value)


def test_an_incompatible_schema_is_fatal():
    schema = newer_schema("handed_over", "incompatible", without={"content_hash"})
    datum = {each: value for each, value in HANDED_OVER.items() if each != "content_hash"}
    with pytest.raises(FatalError, match="incompatible"):
        lane_state_of([schema_pair(schema), written(schema, b"311111111/A", datum)])


@pytest.mark.parametrize(
    "record",
    [
        (b"@schema/00", b"{}"),
        (b"@schema/no hex", b"{}"),
        (b"@schema/0011223344556677", b"no json"),
        (b"@schema/0011223344556677", b"7"),
        (b"@schema/0011223344556677", b'"string"'),
        (b"@schema/0011223344556677", b'{"type": "record", "name": "X"}'),
        (b"@schema/0011223344556677", schemas.load("handed_over").canonical_json.encode()),
    ],
)
def test_what_is_no_schema_of_its_fingerprint_is_fatal_and_teaches_nothing(record):
    with pytest.raises(FatalError, match="positions topic"):
        lane_state_of([record])
    with pytest.raises(FatalError, match=r"positions topic|newer producer"):
        Positions("p").add(0, *record)


def test_verify_reads_newer_state():
    positions = Positions("p")
    for key, value in newer_records("verified"):
        positions.add(0, key, value)
    assert positions.orders == {0: {b"A": 3}}
    assert positions.missing(b"A") == [(1, 2)]
    assert positions.identities[0].application_id == "a"


# Writing them


def test_every_schema_is_recorded_once_and_no_other_is():
    records = schema_records("t", 2, ())
    assert [each.key.decode() for each in records] == [
        f"@schema/{schemas.load(name).fingerprint.hex()}" for name in STATE_SCHEMAS
    ]
    assert set(STATE_SCHEMAS) == set(schemas.NAMES) - {"trekkpaalegg_versjon", "trekkpaalegg_rejected"}
    state = lane_state_of((each.key, each.value) for each in records)
    assert schema_records("t", 2, state.schemas) == []
    first = schemas.load(STATE_SCHEMAS[0]).fingerprint
    assert [each.key for each in schema_records("t", 2, state.schemas - {first})] == [records[0].key]


def test_schemas_lead_the_first_transaction_that_is_committed():
    kafka = FakeKafka()
    builder = build_records(kafka)
    committer = Committer(kafka.publisher())
    committer.acquire(0, lambda: False)
    committer.lead(builder.of_schemas(0, committer.state.schemas))
    part = Part(builder.of_position(0, ONE, TrekkpliktigPosition(1)), lambda: None)
    kafka.fail(Fault.ABORTED)
    with pytest.raises(AbortedError):
        committer.commit([part])
    committer.commit([part])
    committer.commit([part])
    keys = [each.key for each in kafka.committed(kafka.topics.positions)]
    assert [key.split(b"/")[0] for key in keys] == [b"@schema"] * len(STATE_SCHEMAS) + [ONE.encode()] * 2


def test_a_lane_records_its_schemas_once_whoever_acquires_it():
    with LaneStage([ONE]) as stage:
        stage.source.create(ONE)
        stage.start()
        stage.stop()
        stage.source.create(ONE)
        stage.start()
        keys = [each.key for each in stage.kafka.committed(stage.kafka.topics.positions)]
        leading = keys[: len(STATE_SCHEMAS)]
        assert all(key.startswith(b"@schema/") for key in leading)
        assert len(keys) > len(STATE_SCHEMAS) == sum(key.startswith(b"@schema/") for key in keys)
        assert stage.kafka.state(0).schemas == {schemas.load(name).fingerprint for name in STATE_SCHEMAS}
