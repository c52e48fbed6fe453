"""The checks of the topic against the source.

The source is listed first, then the topic is read. Orders that differ are then read again from both, because one may
have changed in between; they count only if they differ again in the same way.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

from consumers.verify.content import (
    ORDER_FIELDS,
    Content,
    UnreadableElementError,
    content_of_element,
    content_of_fields,
    differing,
    differing_periods,
    normalised,
)
from consumers.verify.findings import SOURCE_NEWEST, SOURCE_VERSIONS, Check, Difference
from trekkpaalegg.errors import TrekkpaaleggError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from consumers.verify.history import History, TopicMessage
    from consumers.verify.reading import OrderReader
    from consumers.verify.source import Element, SourceClient

COMPARISONS_MAX = 5
COMPARISON_PAUSE_SECONDS = 2.0
"""How long a new version of the source has to reach the topic before it counts as a difference."""
_ENDED = "avsluttet"


class _Newest(NamedTuple):
    """The newest version on one side. `owner`: trekkpliktig; `number`: hash of the content, None if unreadable."""

    owner: str
    trekkversjon: int
    number: int | None
    status: str = ""
    correction: int = 0


class SourceProof:
    """Compares the source with the topic: call `read_source`, then add all messages, then call `checks`.

    An employer that cannot be read is a difference, never an empty list. `is_known`, by key and trekkversjon: known to
    be missing.
    """

    def __init__(
        self,
        source: SourceClient,
        trekkpliktige: Iterable[str],
        topic: str,
        order_reader: OrderReader,
        *,
        every_version: bool = False,
    ) -> None:
        self._source = source
        self._trekkpliktige = list(trekkpliktige)
        self._topic = topic
        self._order_reader = order_reader
        self._every_version = every_version
        self._listed: dict[str, _Newest] = {}
        self._published: dict[str, _Newest] = {}
        self._versions: dict[tuple[str, int], tuple[int, int]] = {}
        """With `every_version`: correction and hash of the content, by trekkid and trekkversjon."""
        self._unread: dict[str, str] = {}
        """By trekkpliktig, why it could not be read."""

    def read_source(self) -> None:
        """List every order of every trekkpliktig."""
        self._listed = self._list(self._trekkpliktige)

    def on_version(self, _history: History, message: TopicMessage, fields: dict[str, Any], _is_first: bool) -> None:  # noqa: FBT001 - a callback's
        """Add a message of `…-versjoner`."""
        trekkid, version, correction = fields["trekkid"], message.trekkversjon, message.correction or 0
        known = self._published.get(trekkid)
        is_newest = known is None or (version, correction) >= (known.trekkversjon, known.correction)
        if is_newest or self._every_version:
            content = normalised(content_of_fields(fields, 0))
            number = hash(content)
            if is_newest:
                owner, status = fields["trekkpliktig"], fields["trekkstatus"]
                self._published[trekkid] = _Newest(owner, version, number, status, correction)
            if self._every_version and self._versions.get((trekkid, version), (0, 0))[0] <= correction:
                self._versions[trekkid, version] = (correction, number)

    def checks(self, is_known: Callable[[bytes, int], bool]) -> list[Check]:
        """Compare, after the topic has been read."""
        check = Check(SOURCE_NEWEST, "orders", len(self._listed))
        suspects = self._differing(self._listed.keys() | self._published.keys())
        self._compare_again(suspects, check, is_known)
        for trekkpliktig, reason in sorted(self._unread.items()):
            check.add(Difference(f"the orders of trekkpliktig {trekkpliktig} could not be read: {reason}"))
        foreign = sum(each.owner not in self._trekkpliktige for each in self._published.values())
        if foreign:
            check.notes.append(f"{foreign} orders of other trekkpliktige are not compared")
        return [check, self._compare_every_version()] if self._every_version else [check]

    def _list(self, trekkpliktige: Iterable[str]) -> dict[str, _Newest]:
        listed: dict[str, _Newest] = {}
        wanted = list(trekkpliktige)
        with ThreadPoolExecutor(max_workers=5) as pool:
            for trekkpliktig, answer in zip(wanted, pool.map(self._list_one, wanted), strict=True):
                if isinstance(answer, str):
                    self._unread[trekkpliktig] = answer
                    continue
                self._unread.pop(trekkpliktig, None)
                for element in answer:
                    found = _newest_of(trekkpliktig, element)
                    known = listed.get(found[0])
                    if known is None or known.trekkversjon < found[1].trekkversjon:
                        listed[found[0]] = found[1]
        return listed

    def _list_one(self, trekkpliktig: str) -> list[Element] | str:
        try:
            return self._source.orders(trekkpliktig)
        except TrekkpaaleggError as error:
            return str(error)

    def _differing(self, orders: Iterable[str]) -> set[str]:
        """The orders whose newest versions differ."""
        found = set()
        for trekkid in orders:
            here, there = self._published.get(trekkid), self._listed.get(trekkid)
            if here is None or there is None:
                if there is not None or (here and self._is_read(here.owner)):
                    found.add(trekkid)
            elif (here.trekkversjon, here.number) != (there.trekkversjon, there.number):
                found.add(trekkid)
        return found

    def _is_read(self, trekkpliktig: str) -> bool:
        return trekkpliktig in self._trekkpliktige and trekkpliktig not in self._unread

    def _compare_again(self, suspects: set[str], check: Check, is_known: Callable[[bytes, int], bool]) -> None:
        known_missing = unlisted = 0
        for comparison in range(1, COMPARISONS_MAX + 1):
            if not suspects:
                break
            time.sleep(COMPARISON_PAUSE_SECONDS)
            before = {each: (self._published.get(each), self._listed.get(each)) for each in suspects}
            contents = self._refresh(suspects)
            changed = set()
            for trekkid in sorted(self._differing(suspects)):
                here, there = self._published.get(trekkid), self._listed.get(trekkid)
                if comparison < COMPARISONS_MAX and (here, there) != before[trekkid]:
                    changed.add(trekkid)
                elif there is not None and is_known(trekkid.encode(), there.trekkversjon):
                    known_missing += 1
                elif there is None and here is not None and here.status == _ENDED:
                    unlisted += 1
                else:
                    check.add(self._difference(trekkid, contents))
            suspects = changed
        if known_missing:
            check.notes.append(f"{known_missing} newest versions are known to be missing")
        if unlisted:
            check.notes.append(f"{unlisted} ended orders are no longer at the source: not compared")

    def _refresh(self, suspects: set[str]) -> dict[str, tuple[Content | None, Content | None]]:
        """Read these orders again, the source first. Returns their contents in the topic and at the source."""
        owners = {side[each].owner for side in (self._listed, self._published) for each in suspects if each in side}
        listed = self._list(sorted(owners & set(self._trekkpliktige)))
        published = self._order_reader.read(self._topic, suspects)
        contents: dict[str, tuple[Content | None, Content | None]] = {}
        for trekkid in suspects:
            self._published.pop(trekkid, None)
            self._listed.pop(trekkid, None)
            here = None
            if trekkid in published:
                newest = published[trekkid].newest()
                here = normalised(newest)
                self._published[trekkid] = _Newest(
                    here.order[5], here.order[1], hash(here), here.order[7], newest.order[-1]
                )
            there = None
            if trekkid in listed:
                self._listed[trekkid] = listed[trekkid]
            elif here is not None and self._is_read(here.order[5]):
                self._fetch_by_number(trekkid, here)
            if trekkid in self._listed:
                there = self._content_at_source(trekkid, self._listed[trekkid])
            contents[trekkid] = (here, there)
        return contents

    def _fetch_by_number(self, trekkid: str, here: Content) -> None:
        """An order that is not listed may still be available by number."""
        try:
            element = self._source.version(here.order[5], trekkid, here.order[1])
        except TrekkpaaleggError as error:
            self._unread[here.order[5]] = str(error)
            return
        if element is not None:
            self._listed[trekkid] = _newest_of(here.order[5], element)[1]

    def _content_at_source(self, trekkid: str, newest: _Newest) -> Content | None:
        """The content of a listed version, to find the fields that differ; None if it is not available."""
        try:
            element = self._source.version(newest.owner, trekkid, newest.trekkversjon)
            return None if element is None else content_of_element(element)
        except (TrekkpaaleggError, UnreadableElementError):
            return None

    def _difference(self, trekkid: str, contents: dict[str, tuple[Content | None, Content | None]]) -> Difference:
        here, there = self._published.get(trekkid), self._listed.get(trekkid)
        if there is None:
            return Difference("in the topic, but not at the source", trekkid, here.trekkversjon if here else None)
        if here is None:
            return Difference("at the source, but not in the topic", trekkid, there.trekkversjon)
        if here.trekkversjon != there.trekkversjon:
            what = f"the source is at version {there.trekkversjon}, the topic at {here.trekkversjon}"
            return Difference(what, trekkid, max(here.trekkversjon, there.trekkversjon))
        if there.number is None:
            return Difference("the source's version cannot be read", trekkid, there.trekkversjon)
        fields = _fields(*contents.get(trekkid, (None, None)))
        return Difference("differs from the source", trekkid, here.trekkversjon, here.correction or None, fields)

    def _compare_every_version(self) -> Check:
        """Compare every version except the newest, which has been compared already."""
        check = Check(SOURCE_VERSIONS, "versions")
        wanted = [
            (trekkid, version)
            for trekkid, version in self._versions
            if trekkid in self._listed and version != self._listed[trekkid].trekkversjon
        ]
        gone = 0
        with ThreadPoolExecutor(max_workers=5) as pool:
            for (trekkid, version), answer in zip(wanted, pool.map(self._compare_one, wanted), strict=True):
                check.examined += 1
                if isinstance(answer, Difference):
                    check.add(answer)
                elif answer is None:
                    gone += 1
                elif hash(answer) != self._versions[trekkid, version][1]:
                    again = self._order_reader.read(self._topic, [trekkid]).get(trekkid)
                    here = {} if again is None else {key[0]: each[0] for key, each in sorted(again.versions.items())}
                    fields = _fields(normalised(here[version]) if version in here else None, answer)
                    check.add(Difference("differs from the source", trekkid, version, fields=fields))
        if gone:
            check.notes.append(f"{gone} older versions are no longer at the source: not compared")
        return check

    def _compare_one(self, version: tuple[str, int]) -> Content | Difference | None:
        trekkid, trekkversjon = version
        try:
            element = self._source.version(self._listed[trekkid].owner, trekkid, trekkversjon)
            return None if element is None else content_of_element(element)
        except UnreadableElementError:
            return Difference("the source's version cannot be read", trekkid, trekkversjon)
        except TrekkpaaleggError as error:
            return Difference(f"could not be read: {error}", trekkid, trekkversjon)


def _newest_of(trekkpliktig: str, element: Element) -> tuple[str, _Newest]:
    try:
        content = content_of_element(element)
    except UnreadableElementError:
        version = element.get("trekkversjon")
        return str(element.get("trekkid")), _Newest(trekkpliktig, version if isinstance(version, int) else 0, None)
    return content.order[0], _Newest(trekkpliktig, content.order[1], hash(content))


def _fields(here: Content | None, there: Content | None) -> tuple[str, ...]:
    if here is None or there is None:
        return ()
    return differing(there.order, here.order, ORDER_FIELDS) + differing_periods(there.periods, here.periods)
