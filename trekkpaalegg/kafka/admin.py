"""Ask Kafka about topics, offsets and configuration: an admin client whose calls are repeated and end in time."""

from __future__ import annotations

from concurrent.futures import TimeoutError as FutureTimeoutError
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, TypeVar

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import ConfigResource, OffsetSpec, ResourceType  # type: ignore[attr-defined]  # they are not in its __all__

from trekkpaalegg.errors import RetryableError
from trekkpaalegg.incoming import Partition
from trekkpaalegg.kafka.clients import create_admin_client
from trekkpaalegg.kafka.diagnosis import LastReason
from trekkpaalegg.kafka.errors import LOGIN_REFUSED, NOT_AUTHORIZED, is_transient, translate, translate_reading
from trekkpaalegg.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from concurrent.futures import Future

    from confluent_kafka.admin import AdminClient

    from trekkpaalegg.errors import TrekkpaaleggError
    from trekkpaalegg.kafka.errors import Right

CALL_SECONDS_MAX = 10.0
REFUSED_SECONDS_MAX = 2.0
"""While one broker refuses the client another one may admit it, so a refusal is not final before that."""
_METADATA_SECONDS = (1.0, 2.0, 4.0)
"""This call holds back signals and does not see that it should be given up, so it is short and repeated. Each is longer
than the one before: a busy broker that needs more than a second would never answer in time."""
_SLICE_SECONDS = 0.2
_PAUSE_SECONDS = 0.02
_NOTHING_LATER = -1

T = TypeVar("T")


class Admin:
    """An admin client. One thread uses it.

    A broker that is starting, stopping or handing over its work is asked again, for `seconds_max` in all and until
    `gives_up` returns true. `role` is who has the client's rights in `acls apply`.

    Every method raises `KafkaSettingsError` when librdkafka rejects the properties, `RefusedError` when Kafka refuses a
    login or a right, `RetryableError` when it does not answer in time, `FatalError` otherwise.
    """

    def __init__(
        self,
        properties: Mapping[str, str],
        *,
        role: str = "producer",
        seconds_max: float = CALL_SECONDS_MAX,
        gives_up: Callable[[], bool] = lambda: False,
        on_silence: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_silence` is called once when Kafka does not answer the first time it is asked."""
        self.properties = properties
        self.role = role
        self._seconds_max = seconds_max
        self._known_topics: set[str] = set()
        self._gives_up = gives_up
        self._on_silence: Callable[[], None] | None = on_silence
        self._reason = LastReason()
        self._client = create_admin_client(properties, self._reason)

    def call(
        self,
        what: str,
        call: Callable[[AdminClient], T],
        *,
        right: Right | None = None,
        expected: Collection[int] = frozenset(),
        seconds_max: float | None = None,
    ) -> T:
        """What the call returns; it waits for futures by `result`.

        `what` and `right` name, in an error, what was tried and what it needs. A `KafkaException` with one of the
        `expected` codes is raised as it is.
        """

        def translated(error: KafkaError) -> TrekkpaaleggError:
            return translate(error, what, self.properties, self._reason, right=right, role=self.role)

        return self._call(lambda: call(self._client), translated, expected, seconds_max)

    def result(self, future: Future[T]) -> T:
        """What the future gives. Raises `KafkaException`, and `RetryableError` when it is given up."""
        while True:
            try:
                return future.result(_SLICE_SECONDS)
            except FutureTimeoutError:
                if self._gives_up():
                    raise RetryableError("Kafka has not answered before the wait was given up") from None

    def metadata(self, topic: str | None = None, *, seconds_max: float | None = None) -> Any:  # noqa: ANN401  confluent-kafka's has no types
        """The cluster's id, brokers and topics, or one topic; that it is unknown is an error in there.

        `seconds_max` takes the place of the client's.
        """
        what, named = ("asking for the topics", ()) if topic is None else (f"{topic} cannot be read", (topic,))
        limit = self._seconds_max if seconds_max is None else seconds_max
        timeouts = chain(_METADATA_SECONDS, repeat(_METADATA_SECONDS[-1]))
        return self.call(
            what, lambda client: client.list_topics(*named, timeout=min(next(timeouts), limit)), seconds_max=limit
        )

    def describe(self, topics: Iterable[str]) -> tuple[dict[str, Any], set[str]]:
        """Those of the topics that exist, by name, with what we may do; and the names of those that we may not see."""
        self.metadata()  # in short calls, as what follows is one long one when nobody answers
        names = TopicCollection(list(topics))
        found: dict[str, Any] = {}
        hidden: set[str] = set()

        def describe(client: AdminClient) -> None:
            answers = client.describe_topics(
                names, include_authorized_operations=True, request_timeout=self._seconds_max
            )
            for name, answer in answers.items():
                try:
                    found[name] = self.result(answer)
                except KafkaException as error:
                    code = error.args[0].code()
                    if code == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                        hidden.add(name)
                    elif code != KafkaError.UNKNOWN_TOPIC_OR_PART:
                        raise

        self.call("asking for the topics", describe)
        return found, hidden

    def partitions(self, *topics: str) -> list[Partition]:
        """Every partition of these topics. Raises `UnknownTopicError` also."""
        found = []
        for topic in topics:
            described = self.metadata(topic).topics[topic]
            if described.error is not None:
                raise self._reading_error(described.error, topic)
            found += [Partition(topic, number) for number in sorted(described.partitions)]
        return found

    def begins(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """The first offset that each partition still has."""
        earliest: OffsetSpec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]  # confluent-kafka's has no types
        return self._offsets(dict.fromkeys(partitions, earliest), IsolationLevel.READ_UNCOMMITTED)

    def ends(
        self, partitions: Iterable[Partition], isolation: IsolationLevel = IsolationLevel.READ_COMMITTED
    ) -> dict[Partition, int]:
        """The offset after the last message of each partition that a reader of this isolation may read."""
        latest: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # as above
        return self._offsets(dict.fromkeys(partitions, latest), isolation)

    def offsets_since(self, ends: Mapping[Partition, int], instant: int) -> dict[Partition, int]:
        """The first offset in each partition written at or after the instant, in milliseconds since 1970.

        That of its end where there is none.
        """
        since = OffsetSpec.for_timestamp(instant)
        found = self._offsets(dict.fromkeys(ends, since), IsolationLevel.READ_UNCOMMITTED)
        return {each: ends[each] if offset == _NOTHING_LATER else offset for each, offset in found.items()}

    def configs(self, kind: ResourceType, names: Iterable[str]) -> dict[str, dict[str, str] | None]:
        """The configuration in force of each resource of this kind; None where we may not see it."""
        resources = {name: ConfigResource(kind, name) for name in names}

        def describe(client: AdminClient) -> dict[str, dict[str, str] | None]:
            if not resources:
                return {}
            answers = client.describe_configs(list(resources.values()), request_timeout=self._seconds_max)
            found: dict[str, dict[str, str] | None] = {}
            for name, resource in resources.items():
                try:
                    entries = self.result(answers[resource])
                    found[name] = {config: str(entry.value) for config, entry in entries.items()}
                except KafkaException as error:
                    if error.args[0].code() not in NOT_AUTHORIZED:
                        raise
                    found[name] = None
            return found

        return self.call("asking for the configuration", describe)

    def _offsets(self, wanted: Mapping[Partition, OffsetSpec], isolation: IsolationLevel) -> dict[Partition, int]:
        found: dict[Partition, int] = {}
        failed = ""
        # librdkafka looks for the leaders of a topic once a second; asked for its metadata it knows them at once.
        for topic in {each.topic for each in wanted} - self._known_topics:
            self.metadata(topic)
            self._known_topics.add(topic)

        def list_offsets() -> None:
            nonlocal failed
            left = {TopicPartition(*each): spec for each, spec in wanted.items() if each not in found}
            if not left:
                return
            answers = self._client.list_offsets(left, isolation_level=isolation, request_timeout=self._seconds_max)
            failures: list[tuple[str, KafkaException]] = []
            for each, answer in answers.items():
                try:
                    found[Partition(each.topic, each.partition)] = self.result(answer).offset
                except KafkaException as error:
                    failures.append((each.topic, error))
            if failures:
                # A failure that does not pass comes first: to ask again would be no use.
                failed, failure = min(failures, key=lambda each: is_transient(each[1].args[0]))
                raise failure

        self._call(list_offsets, lambda error: self._reading_error(error, failed))
        return found

    def _reading_error(self, error: KafkaError, topic: str) -> TrekkpaaleggError:
        return translate_reading(error, topic, self.properties, self._reason, role=self.role)

    def _call(
        self,
        call: Callable[[], T],
        translated: Callable[[KafkaError], TrekkpaaleggError],
        expected: Collection[int] = frozenset(),
        seconds_max: float | None = None,
    ) -> T:
        limit = self._seconds_max if seconds_max is None else seconds_max
        is_refused = False

        def attempt() -> T:
            nonlocal is_refused
            try:
                return call()
            except KafkaException as error:
                failed = error.args[0]
                if failed.code() in expected:
                    raise
                self._client.poll(0)  # librdkafka reports its reasons within
                is_refused = self._reason.is_refusal or failed.code() in LOGIN_REFUSED
                if self._gives_up() or not (is_refused or is_transient(failed)):
                    raise translated(failed) from error
                raise _FailedAttemptError(failed) from error

        retry = Retry(
            retried=_FailedAttemptError,
            seconds_max=lambda: min(limit, REFUSED_SECONDS_MAX) if is_refused else limit,
            failed=self._report_silence,
        )
        try:
            return retry(attempt)
        except _FailedAttemptError as error:
            raise translated(error.failed) from error.__cause__

    def _report_silence(self, _reason: str) -> None:
        if self._on_silence is not None:
            self._on_silence()
            self._on_silence = None


class _FailedAttemptError(RetryableError):
    """An attempt of a call failed. Only the last one is translated, as that may open a connection."""

    def __init__(self, failed: KafkaError) -> None:
        super().__init__("Kafka does not answer", retry_after_seconds=_PAUSE_SECONDS)
        self.failed = failed
