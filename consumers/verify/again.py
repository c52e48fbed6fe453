"""Some orders in, all that a topic has of them out: a second reading, for what is to be compared field by field."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumers.verify.content import content_of_fields
from consumers.verify.events import marks_of_message
from consumers.verify.ledger import Wanted
from consumers.verify.reading import CommittedReader
from trekkpaalegg.errors import UndecodableError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from consumers.verify.event_topics import Progress
    from consumers.verify.events import PlainValues


class SecondReading:
    """Reads a topic again. Raises as `CommittedReader` and as the schema source."""

    def __init__(self, properties: Mapping[str, str], values: PlainValues, progress: Progress) -> None:
        self._properties = properties
        self._values = values
        self._progress = progress

    def read(self, topic: str, orders: Collection[str], limits: Mapping[int, int] | None = None) -> dict[str, Wanted]:
        """What the topic has of these orders (trekkid) before the `limits`, by partition, or else before its end.

        What cannot be decoded is left out: the check of headers tells it.
        """
        wanted: dict[str, Wanted] = {}
        keys = {trekkid.encode() for trekkid in orders}
        with CommittedReader(self._properties, topic) as reader:
            ends = reader.ends()
            if limits is not None:
                ends = {partition: min(end, limits.get(partition, 0)) for partition, end in ends.items()}
            self._progress.expect(sum(max(0, end - reader.begins[partition]) for partition, end in ends.items()))
            for found in reader.read_to(ends):
                for message in found:
                    if message.key() not in keys:
                        continue
                    try:
                        late, correction = marks_of_message(message)
                        fields = self._values.fields(message.value() or b"")
                    except UndecodableError:
                        continue
                    order = wanted.setdefault(fields["trekkid"], Wanted())
                    order.take(content_of_fields(fields, correction or 0), correction or 0, late=late)
                self._progress.advance(len(found))
        return wanted
