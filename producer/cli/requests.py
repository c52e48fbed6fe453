"""Operator requests: sent to the lanes, followed until they are answered; `suspend` and `resume` are two of them."""

from __future__ import annotations

import re
import threading
import time
import uuid
from typing import TYPE_CHECKING, Self

from rich.progress import ProgressColumn
from rich.text import Text

from producer import bootstrap
from producer.domain.requests import NEED_THE_SOURCE, SUSPEND, OperatorRequest
from producer.encode.signal import encode_request
from producer.encode.state import decode_results, decode_trekkpliktig_position
from producer.observe.port import NullObserver
from producer.publish.topics import Topics
from producer.service import NullWatch, Service
from producer.settings.trekkpliktige import TrekkpliktigeList
from trekkpaalegg.cli import STOP_SECONDS_MAX, progress_bar
from trekkpaalegg.errors import FatalError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from confluent_kafka import Message
    from rich.progress import Progress, Task

    from producer.domain.requests import RequestResult
    from producer.settings.model import Settings
    from trekkpaalegg.cli import Output


POLL_SECONDS = 0.1
WORKERS_LOOKED_AT_SECONDS = 3.0
TOLD_SECONDS = 30.0
_NUMBER = re.compile(r"[0-9]{9}", re.ASCII)


def new_request(
    kind: str, position: int | None = None, *, record: str | None = None, correction: bool = False
) -> OperatorRequest:
    """A request under an id of its own."""
    asked_at = bootstrap.now_microseconds()
    return OperatorRequest(uuid.uuid4().hex, kind, asked_at, position, record=record, correction=correction)


class _VersionsColumn(ProgressColumn):
    """How many versions were published, and how many per second."""

    def render(self, task: Task) -> Text:
        versions = int(task.fields["versions"])
        rate = versions / task.elapsed if task.elapsed else 0.0
        return Text(f"{versions} versions, {rate:.0f}/s")


def versions_bar() -> Progress:
    """A progress bar of trekkpliktige; its task has a field `versions`."""
    return progress_bar(_VersionsColumn())


def ask(
    settings: Settings,
    output: Output,
    request: OperatorRequest,
    trekkpliktige: Iterable[str],
    watch: Callable[[], None] = lambda: None,
) -> dict[str, RequestResult]:
    """Have the request done for each trekkpliktig, and wait for the results; `watch` is called at every turn.

    The workers that run do it. Where none runs, this process takes the lanes itself and does what was asked, and that
    alone. A request outlives whoever asked: it is a signal until it stands in `…-positions`, and then until it is done.
    """
    bootstrap.find_cluster(settings)
    positions = Topics.of(settings.topic_prefix).positions
    with bootstrap.build_follower(settings, [positions]) as tail, versions_bar() as progress:
        waiting = _Waiting(request, trekkpliktige, progress)
        with _Errand(settings, frozenset(waiting.left) if request.kind in NEED_THE_SOURCE else frozenset()) as errand:
            with bootstrap.build_signal_log(settings) as signals:
                signals.store((each, encode_request(request)) for each in sorted(waiting.left))
            told_at = time.monotonic()
            while waiting.left:
                errand.see_to()
                messages = tail.poll(POLL_SECONDS)
                for message in messages:
                    waiting.take(message)
                watch()
                if messages:
                    told_at = time.monotonic()
                elif time.monotonic() - told_at > TOLD_SECONDS:
                    told_at = time.monotonic()
                    output.note(f"{len(waiting.left)} of {waiting.total} trekkpliktige still to come")
    return waiting.results


def require_numbers(names: Iterable[str]) -> None:
    """Raise `SettingsError` unless all are organisation numbers. What else is given may be anything: not repeated."""
    wrong = sum(_NUMBER.fullmatch(name) is None for name in names)
    if wrong:
        raise SettingsError([f"{wrong} given as organisation number is not one: it has 9 digits"])


def refuse_others(results: dict[str, RequestResult]) -> None:
    """Raise `FatalError` that names those for which it was not done."""
    failed = {name: result for name, result in results.items() if result.outcome != "done"}
    if failed:
        name, result = next(iter(failed.items()))
        raise FatalError(f"{len(failed)} of {len(results)} were not done; the first, {name}: {result.detail}")


class _Waiting:
    """What is known of the requests on their way."""

    def __init__(self, request: OperatorRequest, trekkpliktige: Iterable[str], progress: Progress) -> None:
        self.left = set(trekkpliktige)
        self.total = len(self.left)
        self.results: dict[str, RequestResult] = {}
        self._request = request
        self._versions: dict[str, int] = {}
        self._versions_total = 0
        self._progress = progress
        self._task = progress.add_task("trekkpliktige", total=self.total, versions=0)

    def take(self, message: Message) -> None:
        """A record of `…-positions`."""
        trekkpliktig, value = (message.key() or b"").decode(errors="replace"), message.value()
        if trekkpliktig not in self.left or value is None:
            return
        for request in decode_trekkpliktig_position(value).requests:
            if request.id == self._request.id:
                self._count(trekkpliktig, request.published)
        for result in decode_results(value):
            if result.request.id == self._request.id:
                self.left.discard(trekkpliktig)
                self.results[trekkpliktig] = result
                self._count(trekkpliktig, result.request.published)
                self._progress.advance(self._task)

    def _count(self, trekkpliktig: str, versions: int) -> None:
        self._versions_total += versions - self._versions.get(trekkpliktig, 0)
        self._versions[trekkpliktig] = versions
        self._progress.update(self._task, versions=self._versions_total)


class _Errand:
    """A worker of our own, from when no other is found to run until the end."""

    def __init__(self, settings: Settings, to_read: frozenset[str]) -> None:
        self._settings = settings
        self._to_read = to_read
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._looked_at = float("-inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS_MAX)

    def see_to(self) -> None:
        """Begin when nobody else works on the lanes. Raises what the worker ended with."""
        if self._error is not None:
            raise self._error
        now = time.monotonic()
        if self._thread is not None or now - self._looked_at < WORKERS_LOOKED_AT_SECONDS:
            return
        self._looked_at = now
        if bootstrap.group_members(self._settings) == 0:
            service = Service(self._settings, NullObserver(), NullWatch(), self._stopping, errand=self._to_read)
            self._thread = threading.Thread(target=self._run, args=(service,), name="errand", daemon=True)
            self._thread.start()

    def _run(self, service: Service) -> None:
        try:
            service.run()
        except BaseException as error:  # noqa: BLE001 - carried to the thread that waits, which raises it
            self._error = error


ALL = "all"


def change_suspension(settings: Settings, output: Output, kind: str, trekkpliktige: list[str]) -> None:
    """Suspend or resume those named; `all` are all of the settings. Raises `FatalError` unless done for every one."""
    wanted = _named(settings, output, trekkpliktige)
    results = ask(settings, output, new_request(kind), wanted)
    word = "suspended" if kind == SUSPEND else "resumed"
    if output.as_json:
        output.json({name: {"outcome": each.outcome, "detail": each.detail} for name, each in sorted(results.items())})
    else:
        output.line(f"{sum(each.outcome == 'done' for each in results.values())} trekkpliktige {word}")
    refuse_others(results)


def _named(settings: Settings, output: Output, trekkpliktige: list[str]) -> set[str]:
    if not trekkpliktige:
        raise SettingsError([f"--trekkpliktig: give an organisation number, several times if you like, or {ALL}"])
    require_numbers(name for name in trekkpliktige if name != ALL)
    if ALL not in trekkpliktige:
        return set(trekkpliktige)
    return {each.organisasjonsnummer for each in TrekkpliktigeList(settings, output.note).current()}
