"""The demo's proof: every version of the source was published exactly once, in order and unchanged.

The proof of exactly once. It shares no code with the producer, so that an error of the producer is not made twice.
"""

from __future__ import annotations

import json
from collections import Counter
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
from confluent_kafka import IsolationLevel

from trekkpaalegg.errors import RetryableError
from trekkpaalegg.event import Betalingsinformasjon, TrekkpaaleggVersjon, TrekkstoerrelseForPeriode
from trekkpaalegg.identifiers import Foedselsnummer
from trekkpaalegg.kafka.admin import Admin
from trekkpaalegg.kafka.reader import RangeReader, partition_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from confluent_kafka import Message

    from sandbox.skatteetaten.state import Skatteetaten
    from trekkpaalegg.decode import Decoder
    from trekkpaalegg.incoming import Partition


FAULTS_SHOWN_MAX = 20
"""How many faults a message names."""


class Published(msgspec.Struct, frozen=True):
    """One event of a topic, in the order of its partition."""

    partition: int
    offset: int
    key: str
    event: TrekkpaaleggVersjon
    ce_id: str
    late: bool = False
    correction: int | None = None
    origin: str = "poll"

    @property
    def identity(self) -> tuple[str, int]:
        """(trekkid, trekkversjon)."""
        return self.event.trekkid, self.event.trekkversjon


def faults_of(
    versjoner: Sequence[Published],
    gjeldende: Sequence[Published],
    source: Mapping[tuple[str, int], TrekkpaaleggVersjon],
) -> list[str]:
    """Every violation of the promises, a sentence each; none if each version of `source` appears exactly once.

    1. `…-versjoner` holds every version of the source once and no other, except corrections, which are numbered 1, 2, …
    2. Versions of an order rise, except those marked late, and each order is in one partition.
    3. `…-gjeldende` never steps back, and ends at the newest version.
    4. Content, of the last correction where there are any, is the source's; keys and `ce_id` name the event.
    """
    return [
        *_once_each(versjoner, source),
        *_in_order(versjoner),
        *_newest_last(versjoner, gjeldende),
        *_as_in_source(versjoner, "versjoner", source),
        *_as_in_source(gjeldende, "gjeldende", source),
    ]


def _once_each(versjoner: Sequence[Published], source: Mapping[tuple[str, int], object]) -> Iterator[str]:
    counts = Counter(each.identity for each in versjoner if each.correction is None)
    for identity, count in counts.items():
        if count > 1:
            yield f"{_named(identity)} appears {count} times in versjoner"
        if identity not in source:
            yield f"{_named(identity)} is in versjoner and not in the source"
    for identity in source.keys() - counts.keys():
        yield f"{_named(identity)} is missing from versjoner"
    corrections: dict[tuple[str, int], list[int]] = {}
    for each in versjoner:
        if each.correction is not None:
            corrections.setdefault(each.identity, []).append(each.correction)
    for identity, numbers in corrections.items():
        if numbers != list(range(1, len(numbers) + 1)):
            yield f"corrections of {_named(identity)} are numbered {numbers}"


def _in_order(versjoner: Sequence[Published]) -> Iterator[str]:
    newest: dict[str, int] = {}
    partitions: dict[str, int] = {}
    for each in versjoner:
        trekkid, trekkversjon = each.identity
        if partitions.setdefault(trekkid, each.partition) != each.partition:
            yield f"{trekkid} is in more than one partition of versjoner"
        if each.late or each.correction is not None:
            continue
        if trekkversjon <= newest.get(trekkid, 0):
            yield f"{_named(each.identity)} comes after version {newest[trekkid]} in versjoner"
        newest[trekkid] = max(newest.get(trekkid, 0), trekkversjon)


def _newest_last(versjoner: Sequence[Published], gjeldende: Sequence[Published]) -> Iterator[str]:
    newest: dict[str, int] = {}
    for each in versjoner:
        newest[each.event.trekkid] = max(newest.get(each.event.trekkid, 0), each.event.trekkversjon)
    last: dict[str, Published] = {}
    for each in gjeldende:
        before = last.get(each.key)
        step = each.event.trekkversjon - before.event.trekkversjon if before else 1
        if step < 0 or (step == 0 and each.correction is None):
            yield f"{_named(each.identity)} comes after version {before and before.event.trekkversjon} in gjeldende"
        if each.late:
            yield f"{_named(each.identity)} is late and yet in gjeldende"
        last[each.key] = each
    for trekkid, trekkversjon in newest.items():
        found = last.get(trekkid)
        if found is None or found.event.trekkversjon != trekkversjon:
            yield f"{trekkid} ends at {found and found.event.trekkversjon} in gjeldende, at {trekkversjon} in versjoner"
    for trekkid in last.keys() - newest.keys():
        yield f"{trekkid} is in gjeldende and not in versjoner"


def _as_in_source(
    published: Sequence[Published], topic: str, source: Mapping[tuple[str, int], TrekkpaaleggVersjon]
) -> Iterator[str]:
    final: dict[tuple[str, int], Published] = {}
    for each in published:
        final[each.identity] = each
        number = "" if each.correction is None else f"/{each.correction}"
        if each.key != each.event.trekkid or each.ce_id != f"{each.key}/{each.event.trekkversjon}{number}":
            yield f"{_named(each.identity)} has the key {each.key} and the ce_id {each.ce_id} in {topic}"
    for identity, each in final.items():
        wanted = source.get(identity)
        if wanted is None:
            continue
        fields = [name for name in wanted.__struct_fields__ if getattr(wanted, name) != getattr(each.event, name)]
        if fields:
            yield f"{_named(identity)} in {topic} differs from the source: {', '.join(fields)}"


def _named(identity: tuple[str, int]) -> str:
    return f"{identity[0]}/{identity[1]}"


_KNOWN_STATUSES = frozenset({"aktiv", "avsluttet"})
_PERIODE_FIELDS = frozenset({"startdato", "sluttdato", "trekkbeloep", "trekkprosent"})


def versions_of_source(
    skatteetaten: Skatteetaten, trekkpliktige: Iterable[str] | None = None
) -> dict[tuple[str, int], TrekkpaaleggVersjon]:
    """Every version that the simulated source can return now, as the event it must become.

    `trekkpliktige` limits it to orders in the lists of these.
    """
    return {
        identity: version_from_json(body) for identity, body in bodies_of_source(skatteetaten, trekkpliktige).items()
    }


def bodies_of_source(
    skatteetaten: Skatteetaten, trekkpliktige: Iterable[str] | None = None
) -> dict[tuple[str, int], bytes]:
    """As `versions_of_source`, but as the source sends them, without parsing them."""
    wanted = None if trekkpliktige is None else set(trekkpliktige)
    with skatteetaten.lock:
        return {
            (each.trekkid, each.trekkversjon): each.body
            for each in skatteetaten.book.every_version()
            if skatteetaten.book.is_visible(each) and (wanted is None or each.owner in wanted)
        }


def version_from_json(body: bytes) -> TrekkpaaleggVersjon:
    """The event that one version of the source must become."""
    wire: dict[str, Any] = json.loads(body, parse_float=Decimal)
    unknown = wire.keys() - {_wire_name(name) for name in TrekkpaaleggVersjon.__struct_fields__}
    ukjente_felter = {name: _canonical(wire[name]) for name in unknown}
    trekkstatus = wire["trekkstatus"]
    if trekkstatus not in _KNOWN_STATUSES:
        ukjente_felter["trekkstatus"] = _canonical(trekkstatus)
        trekkstatus = "ukjent"
    payment = wire["betalingsinformasjon"]
    payment_fields = ("betalingsmottaker", "kidnummer", "kontonummer")
    return TrekkpaaleggVersjon(
        trekkid=wire["trekkid"],
        trekkversjon=wire["trekkversjon"],
        sekvensnummer=wire["sekvensnummer"],
        opprettet=datetime.fromisoformat(wire["opprettet"]),
        saksnummer=wire.get("saksnummer"),
        trekkpliktig=wire["trekkpliktig"],
        skyldner=Foedselsnummer(wire["skyldner"]),
        trekkstatus=trekkstatus,
        trekkstoerrelse_for_periode=tuple(_periode(each) for each in wire["trekkstoerrelseForPeriode"]),
        betalingsinformasjon=Betalingsinformasjon(
            **{name: payment[name] for name in payment_fields},
            ukjente_felter={name: _canonical(payment[name]) for name in payment.keys() - set(payment_fields)},
        ),
        ukjente_felter=ukjente_felter,
    )


def with_canonical_json(event: TrekkpaaleggVersjon) -> TrekkpaaleggVersjon:
    """The event with the JSON text of its unknown fields written in one way, so that only the meaning is compared."""
    return msgspec.structs.replace(
        event,
        ukjente_felter=_canonical_texts(event.ukjente_felter),
        betalingsinformasjon=msgspec.structs.replace(
            event.betalingsinformasjon, ukjente_felter=_canonical_texts(event.betalingsinformasjon.ukjente_felter)
        ),
        trekkstoerrelse_for_periode=tuple(
            msgspec.structs.replace(each, ukjente_felter=_canonical_texts(each.ukjente_felter))
            for each in event.trekkstoerrelse_for_periode
        ),
    )


def _periode(wire: dict[str, Any]) -> TrekkstoerrelseForPeriode:
    sluttdato = wire.get("sluttdato")
    beloep, prosent = wire.get("trekkbeloep"), wire.get("trekkprosent")
    return TrekkstoerrelseForPeriode(
        startdato=date.fromisoformat(wire["startdato"]),
        sluttdato=date.fromisoformat(sluttdato) if sluttdato else None,
        trekkbeloep=Decimal(beloep["trekkbeloep"]) if beloep else None,
        trekkprosent=Decimal(prosent["trekkprosent"]) if prosent else None,
        ukjente_felter={name: _canonical(wire[name]) for name in wire.keys() - _PERIODE_FIELDS},
    )


def _wire_name(field: str) -> str:
    first, *rest = field.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, default=float)


def _canonical_texts(texts: Mapping[str, str]) -> dict[str, str]:
    return {name: _canonical(json.loads(text)) for name, text in texts.items()}


READ_SECONDS_MAX = 120.0


def read_published(bootstrap_servers: str, topic: str, decoder: Decoder) -> list[Published]:
    """All events of a topic, read committed to its very end, partition by partition. Raises as `read_committed`."""
    return [_published(message, decoder) for message in read_committed(bootstrap_servers, topic)]


def read_committed(bootstrap_servers: str, topic: str, *, deadline_seconds: float = READ_SECONDS_MAX) -> list[Message]:
    """All messages of a topic, read committed to its very end, partition by partition.

    Raises `TimeoutError` when the end cannot be reached: an open transaction hides what follows it.
    """
    properties = properties_of(bootstrap_servers)
    admin = Admin(properties, seconds_max=READ_SECONDS_MAX)
    partitions = admin.partitions(topic)
    begins, ends = admin.begins(partitions), admin.ends(partitions, IsolationLevel.READ_UNCOMMITTED)
    messages: dict[Partition, list[Message]] = {each: [] for each in partitions}
    try:
        with RangeReader(properties, stalled_seconds_max=deadline_seconds) as reader:
            for found in reader.read(begins, ends):
                for message in found:
                    messages[partition_of(message)].append(message)
    except RetryableError as error:
        raise TimeoutError(f"{topic}: an end is not reached, as an open transaction may hide it") from error
    return [message for each in partitions for message in messages[each]]


def properties_of(bootstrap_servers: str) -> dict[str, str]:
    """Kafka properties of a reader that leaves a broker that sleeps for the one that leads instead of it."""
    return {
        "bootstrap.servers": bootstrap_servers,
        "socket.timeout.ms": "3000",
        "topic.metadata.refresh.interval.ms": "3000",
        "reconnect.backoff.max.ms": "500",
    }


def _published(message: Message, decoder: Decoder) -> Published:
    headers = {name: (value or b"").decode() for name, value in message.headers() or []}  # type: ignore[str-unpack,union-attr]  # a consumer gives pairs with bytes
    correction = headers.get("ce_correction")
    return Published(
        partition=message.partition() or 0,
        offset=message.offset() or 0,
        key=(message.key() or b"").decode(),
        event=with_canonical_json(decoder.decode_trekkpaalegg_versjon(message.value())),
        ce_id=headers.get("ce_id", ""),
        late=headers.get("ce_late") == "true",
        correction=None if correction is None else int(correction),
        origin=headers.get("ce_origin", ""),
    )
