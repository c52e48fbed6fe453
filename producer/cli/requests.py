"""Operator requests: send them to the lanes and wait for the results. The commands `suspend` and `resume`."""

from __future__ import annotations

import re
import threading
import time
import uuid
from typing import TYPE_CHECKING, Annotated, Self

import msgspec
import typer
from rich.progress import ProgressColumn
from rich.text import Text

from producer import bootstrap
from producer.cli import KAFKA, example, output, settings_of
from producer.domain.requests import NEED_THE_SOURCE, RESUME, SUSPEND, OperatorRequest
from producer.encode.signal import EVERYBODY, encode_request
from producer.encode.state import decode_position_and_results, decode_request_state, decode_results
from producer.observe.port import NullObserver
from producer.publish.port import ANY_PARTITION
from producer.publish.state import REQUEST, RESULTS, SEPARATOR, learn
from producer.publish.topics import Topics
from producer.service import now_microseconds
from producer.settings.trekkpliktige import TrekkpliktigeList
from trekkpaalegg.cli import STOP_SECONDS_MAX, AsJson, EnvFile, progress_bar
from trekkpaalegg.errors import FatalError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from confluent_kafka import Message
    from rich.progress import Progress, Task

    from producer.domain.requests import RequestResult
    from producer.service import ProducerService
    from producer.settings.model import Settings
    from trekkpaalegg.cli import Output


POLL_SECONDS = 0.1
WORKERS_CHECKED_SECONDS = 3.0
REPORT_SECONDS = 30.0
_NUMBER = re.compile(r"[0-9]{9}", re.ASCII)


def new_request(
    kind: str, position: int | None = None, *, record: str | None = None, correction: bool = False
) -> OperatorRequest:
    """A request with a new id, which `perform_request` completes for each trekkpliktig."""
    requested_at = now_microseconds()
    return OperatorRequest(uuid.uuid4().hex, kind, requested_at, position, record=record, correction=correction)


class _VersionsColumn(ProgressColumn):
    """How many versions were published, and how many per second."""

    def render(self, task: Task) -> Text:
        versions = int(task.fields["versions"])
        rate = versions / task.elapsed if task.elapsed else 0.0
        return Text(f"{versions} versions, {rate:.0f}/s")


def versions_bar() -> Progress:
    """A progress bar; its task has a field `versions`."""
    return progress_bar(_VersionsColumn())


def perform_request(
    settings: Settings,
    output: Output,
    request: OperatorRequest,
    trekkpliktige: Iterable[str],
    watch: Callable[[], None] = lambda: None,
) -> dict[str, RequestResult]:
    """Have the lanes perform the request for each trekkpliktig, and wait for the results.

    Running workers perform it. If none runs, this process acquires the lanes and performs the request and nothing else.
    A request survives the command that sent it: it is a signal until it is recorded in `…-positions`, where it stays
    until it is done: that of a reading until all homes have answered. A release goes to the lane of the record's
    partition, which is the home of its order. `watch` is called after each poll.
    """
    bootstrap.find_cluster(settings)
    names = sorted(trekkpliktige)
    requests = {each: msgspec.structs.replace(request, id=f"{request.id}-{each}") for each in names}
    lane = ANY_PARTITION if request.record is None else int(request.record.split("/")[0])
    signals = {lane: [(each, encode_request(requests[each])) for each in names]}
    to_read = frozenset(names) if request.kind in NEED_THE_SOURCE else frozenset()
    return _perform(settings, output, requests, signals, _OwnWorker(settings, to_read), watch)


def perform_in_lanes(settings: Settings, output: Output, request: OperatorRequest) -> list[RequestResult]:
    """As `perform_request`, for a request that concerns no trekkpliktig, but each lane. The results by lane."""
    lanes = range(bootstrap.find_cluster(settings).lanes)
    requests = {f"lane {lane}": msgspec.structs.replace(request, id=f"{request.id}-{lane}") for lane in lanes}
    signals = {lane: [(EVERYBODY, encode_request(each))] for lane, each in enumerate(requests.values())}
    results = _perform(settings, output, requests, signals, _OwnWorker(settings, frozenset()))
    return [results[name] for name in requests]


def _perform(
    settings: Settings,
    output: Output,
    requests: dict[str, OperatorRequest],
    signals: Mapping[int, Iterable[tuple[str, bytes]]],
    own_worker: _OwnWorker,
    watch: Callable[[], None] = lambda: None,
) -> dict[str, RequestResult]:
    """Write the signals, (key, value) by partition, and wait for the results of the requests, by the same names."""
    positions = Topics.of(settings.topic_prefix).positions
    with bootstrap.build_follower(settings, [positions]) as tail, versions_bar() as progress:
        awaited = AwaitedResults(requests, progress)
        with own_worker as worker:
            with bootstrap.open_signal_log(settings) as log:
                for lane, each in signals.items():
                    log.store(each, lane)
            reported_at = time.monotonic()
            while awaited.left:
                worker.start_if_needed()
                messages = tail.poll(POLL_SECONDS)
                for message in messages:
                    awaited.receive(message)
                watch()
                if messages:
                    reported_at = time.monotonic()
                elif time.monotonic() - reported_at > REPORT_SECONDS:
                    reported_at = time.monotonic()
                    output.note(f"{len(awaited.left)} of {len(requests)} are not done yet")
    return awaited.results


def require_numbers(names: Iterable[str]) -> None:
    """Raise `SettingsError` unless all are organisation numbers. Others are not quoted: they may be national ids."""
    wrong = sum(_NUMBER.fullmatch(name) is None for name in names)
    if wrong:
        raise SettingsError([f"{wrong} of the organisation numbers given do not have 9 digits"])


def require_done(results: dict[str, RequestResult]) -> None:
    """Raise `FatalError` unless the request was done for all."""
    failed = {name: result for name, result in results.items() if result.outcome != "done"}
    if failed:
        name, result = next(iter(failed.items()))
        raise FatalError(f"{len(failed)} of {len(results)} were not done; the first, {name}: {result.detail}")


class AwaitedResults:
    """The requests, by name, whose results have not come yet, and the results of the others.

    Each has an id of its own, so that the homes count for each what they publish.
    """

    def __init__(self, requests: Mapping[str, OperatorRequest], progress: Progress) -> None:
        self.left = set(requests)
        self.results: dict[str, RequestResult] = {}
        self._names = {each.id: name for name, each in requests.items()}
        self._published: dict[tuple[str, int], int] = {}
        """How many versions each home has published, by name and lane."""
        self._versions_total = 0
        self._progress = progress
        self._task = progress.add_task("requests", total=len(requests), versions=0)

    def receive(self, message: Message) -> None:
        """Note what a record of `…-positions` says of the requests."""
        key, value = message.key() or b"", message.value()
        learn(key, value)
        name, _, rest = key.partition(SEPARATOR)
        if value is None:
            return
        if name == REQUEST:
            found = self._names.get(rest.decode(errors="replace"))
            if found is not None:
                self._count((found, message.partition() or 0), decode_request_state(value).published)
        elif name.endswith(RESULTS):
            self._note(decode_results(value))
        elif not rest and name.decode(errors="replace") in self.left:
            self._note(decode_position_and_results(value)[1])

    def _note(self, results: Iterable[RequestResult]) -> None:
        for result in results:
            name = self._names.get(result.request.id)
            if name in self.left:
                self.left.discard(name)
                self.results[name] = result
                self._progress.advance(self._task)

    def _count(self, home: tuple[str, int], versions: int) -> None:
        self._versions_total += versions - self._published.get(home, 0)
        self._published[home] = versions
        self._progress.update(self._task, versions=self._versions_total)


class _OwnWorker:
    """A worker in this process, started if no other worker runs, and stopped at the end."""

    def __init__(self, settings: Settings, to_read: frozenset[str]) -> None:
        self._settings = settings
        self._to_read = to_read
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._checked_at = float("-inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS_MAX)

    def start_if_needed(self) -> None:
        """Start the worker if no other one runs. Raises what the worker has ended with."""
        if self._error is not None:
            raise self._error
        now = time.monotonic()
        if self._thread is not None or now - self._checked_at < WORKERS_CHECKED_SECONDS:
            return
        self._checked_at = now
        if bootstrap.group_members(self._settings) == 0:
            service = bootstrap.build_service(self._settings, NullObserver(), self._stopping, errand=self._to_read)
            self._thread = threading.Thread(target=self._run, args=(service,), name="errand", daemon=True)
            self._thread.start()

    def _run(self, service: ProducerService) -> None:
        try:
            service.run()
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
            self._error = error


ALL = "all"


def change_suspension(settings: Settings, output: Output, kind: str, trekkpliktige: list[str]) -> None:
    """Suspend or resume those named, or `all` of the settings. Raises `FatalError` unless it was done for all."""
    wanted = _named(settings, output, trekkpliktige)
    results = perform_request(settings, output, new_request(kind), wanted)
    word = "suspended" if kind == SUSPEND else "resumed"
    if output.as_json:
        output.json({name: {"outcome": each.outcome, "detail": each.detail} for name, each in sorted(results.items())})
    else:
        output.line(f"{sum(each.outcome == 'done' for each in results.values())} trekkpliktige {word}")
    require_done(results)


def _named(settings: Settings, output: Output, trekkpliktige: list[str]) -> set[str]:
    if not trekkpliktige:
        raise SettingsError([f"--trekkpliktig: give organisation numbers, each with an option of its own, or {ALL}"])
    require_numbers(name for name in trekkpliktige if name != ALL)
    if ALL not in trekkpliktige:
        return set(trekkpliktige)
    return {each.organisasjonsnummer for each in TrekkpliktigeList(settings, output.note).current()}


OrAll = Annotated[list[str] | None, typer.Option(help="Only this one; may be given again. `all`: all of the settings.")]


def register(program: typer.Typer) -> None:
    """Add the commands to the program."""
    program.command(epilog=example("suspend --trekkpliktig 314159265"))(suspend)
    program.command(epilog=example("resume --trekkpliktig all"))(resume)


def suspend(*, trekkpliktig: OrAll = None, as_json: AsJson = False, env_file: EnvFile = None) -> None:
    """Stop reading these until they are resumed. Restarts and moved lanes do not end it."""
    change_suspension(settings_of(env_file, KAFKA), output(as_json=as_json), SUSPEND, trekkpliktig or [])


def resume(*, trekkpliktig: OrAll = None, as_json: AsJson = False, env_file: EnvFile = None) -> None:
    """Start reading these again at once, from where reading stopped."""
    change_suspension(settings_of(env_file, KAFKA), output(as_json=as_json), RESUME, trekkpliktig or [])
