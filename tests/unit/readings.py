"""Versions, pages of them, and readings with such pages."""

from __future__ import annotations

from random import Random

import msgspec

from producer.domain.trekkpaalegg import Origin, Rejected, RejectionReason
from producer.lane.reading import Reading
from producer.source.port import Page
from tests.kit.fakes.source import make_trekkpaalegg

ONE = "311111111"
TEMPLATE = make_trekkpaalegg(ONE, Random(1), sekvensnummer=1)
BAD = Rejected(ONE, b"{}", bytes(16), RejectionReason.TOO_LARGE, "$", "", "A", 1)
EMPTY = Page([], None)


def version(trekkid="A", trekkversjon=1, sekvensnummer=1):
    return msgspec.structs.replace(TEMPLATE, trekkid=trekkid, trekkversjon=trekkversjon, sekvensnummer=sekvensnummer)


def page(*elements, end=False):
    return Page(list(elements), None if end else elements[-1].sekvensnummer)


def reading_of(*pages, full=False, cursor=0):
    reading = Reading(ONE, Origin.POLL, cursor, 0, full=full)
    for each in pages:
        assert reading.begin_page() is not None
        reading.add_page(each)
    return reading
