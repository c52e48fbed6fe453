"""A place in `…-quarantine` in; what the record there says, read anew by the code of today, out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from producer.domain.trekkpaalegg import Failed, Gone, Rejected
from producer.errors import RejectedTrekkpaaleggError
from producer.publish.quarantine_log import read_one
from producer.source.parse.page import read_trekkpaalegg
from trekkpaalegg.errors import FatalError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from producer.domain.trekkpaalegg import Trekkpaalegg
    from producer.source.port import TrekkpaaleggSource


class Quarantined:
    """The quarantine and the source. Safe for several threads; every call reads for itself."""

    def __init__(self, properties: Mapping[str, str], topic: str, source: TrekkpaaleggSource) -> None:
        self._properties = properties
        self._topic = topic
        self._source = source

    def understand(self, trekkpliktig: str, record_id: str) -> Trekkpaalegg:
        """What the record says; from the source when too little of it was kept.

        Raises `RejectedTrekkpaaleggError` when it still cannot be understood, `FatalError` when there is no such
        record of this trekkpliktig or the source does not give the whole, and `RetryableError`.
        """
        partition, offset = (int(part) for part in record_id.split("/"))
        record = read_one(self._properties, self._topic, partition, offset)
        if record.trekkpliktig != trekkpliktig:
            raise FatalError(f"the record {record_id} is about another trekkpliktig")
        element: Trekkpaalegg | Rejected | Gone | Failed = read_trekkpaalegg(record.raw, trekkpliktig)
        if record.raw_truncated and record.trekkid and record.trekkversjon:
            element = self._source.fetch_trekkpaalegg(trekkpliktig, record.trekkid, record.trekkversjon)
        if isinstance(element, Rejected):
            raise RejectedTrekkpaaleggError(
                f"it still cannot be understood ({element.reason.value})", element.field_path
            )
        if isinstance(element, Gone | Failed):
            raise FatalError("only a part of it was kept, and the source does not give the whole now; try again later")
        return element
