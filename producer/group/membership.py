"""The member of the consumer group on `…-signals`, in which each partition is a lane."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from producer.errors import LaneFencedError
from producer.group.port import Signal
from trekkpaalegg.errors import FatalError, KafkaSettingsError, RetryableError, TrekkpaaleggError
from trekkpaalegg.kafka.clients import UnansweredError, call_bounded, create_consumer
from trekkpaalegg.kafka.errors import GROUP, TOPIC, Right, is_instance_conflict, not_permitted
from trekkpaalegg.kafka.health import ALL_FORGOTTEN, MemberHealth
from trekkpaalegg.kafka.member import leave, member_settings
from trekkpaalegg.kafka.properties import RenewableProperties

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from confluent_kafka import Message


def translate_end(error: KafkaError) -> FatalError:
    """The error to raise for a consumer that has failed for good."""
    if is_instance_conflict(error):
        return LaneFencedError(
            "another process runs under the same TREKKPAALEGG_INSTANCE_ID: give each its own; "
            "if there is none, the group's coordinator has failed and counted us twice: restart this process"
        )
    return FatalError(f"the group of workers cannot be joined: {error.str()}")


_CALL_SECONDS_MAX = 2.0
_CONFIRM_SECONDS_MAX = 10.0
_SIGNALS_AT_ONCE_MAX = 500
_CHECK_SECONDS_MAX = 1.0
_CHECK_PAUSE_SECONDS = 2.0

_log = structlog.get_logger(__name__)


class KafkaMembership:
    """The group's member on a real Kafka; see `trekkpaalegg.kafka.member` for the protocol.

    Offsets are read uncommitted: a transaction that a killed owner left open hides the committed ones until the fence
    or its timeout ends it, and the fence comes only after the lane was assigned. The offset before it is older, so
    signals may come twice, which is harmless.

    `poll` calls `on_trouble` with the error that keeps the group from being used, and with None when it is over.
    librdkafka recovers by itself once a right has been granted, or Kafka has been given our password. But it reads
    certificates and password only when a client is created, so the client is replaced if a connection is refused and
    `read_properties`, or files that they name, have changed.
    """

    def __init__(
        self,
        read_properties: Callable[[], Mapping[str, str]],
        application_id: str,
        signals: str,
        instance_id: str | None,
        on_trouble: Callable[[TrekkpaaleggError | None], None] = lambda _: None,
    ) -> None:
        self._health = MemberHealth()
        self._properties = RenewableProperties(read_properties)
        self._instance_id = instance_id
        self._application_id = application_id
        self._signals = signals
        self._on_trouble = on_trouble
        self._trouble: TrekkpaaleggError | None = None
        self._check_at = 0.0
        self._metadata: object = None
        self._metadata_of: int | None = None
        """The rebalance after which it was read; None if another one has begun since."""
        self._consumer = self._connect()
        self._assigned: Callable[[dict[int, int]], None] | None = None
        self._revoked: Callable[[set[int]], None] | None = None
        self._new: dict[int, TopicPartition] = {}
        """Lanes that the group has assigned to us, and whose offsets have not been read yet."""
        self._held: set[int] = set()

    def _connect(self) -> Consumer:
        settings = {
            **member_settings(self._properties.load(), self._application_id, self._instance_id),
            "auto.offset.reset": "earliest",
            "isolation.level": "read_uncommitted",
            **self._health.callbacks(),
        }
        return create_consumer(settings)

    def join(self, assigned: Callable[[dict[int, int]], None], revoked: Callable[[set[int]], None]) -> None:
        """See `Membership.join`."""
        self._assigned, self._revoked = assigned, revoked
        self._subscribe()

    def _subscribe(self) -> None:
        self._consumer.subscribe(
            [self._signals], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
        )

    def poll(self, timeout_seconds: float) -> list[Signal]:
        """See `Membership.poll`."""
        signals = []
        message = self._poll(timeout_seconds)
        while message is not None:
            error = message.error()
            if error is None:
                key = (message.key() or b"").decode(errors="replace")
                signals.append(Signal(message.partition() or 0, message.offset() or 0, key, message.value()))
            elif error.fatal() or error.code() == KafkaError._FATAL:  # noqa: SLF001 - librdkafka's local codes begin so
                self._end_or_join_again(translate_end(error))
                return signals
            else:
                self._handle_error(error)
            message = self._poll(0.0) if len(signals) < _SIGNALS_AT_ONCE_MAX else None
        if self._health.has_forgotten_brokers:
            self._try_to_replace_client(ALL_FORGOTTEN)
        if self._health.is_connected is not False:
            self._refresh_metadata()
            self._assign_new()
        if self._is_in_doubt() and time.monotonic() >= self._check_at:
            self._check_access()
            self._check_at = time.monotonic() + _CHECK_PAUSE_SECONDS
        return signals

    def _refresh_metadata(self) -> None:
        """Read the group metadata if it may have changed. Call it only while Kafka answers.

        The call holds the interpreter lock until librdkafka's own thread has answered. While all brokers went away it
        never did (seen with 2.16.0), and the whole process was blocked.
        """
        if self._metadata_of != self._health.rebalances:
            self._metadata = self._consumer.consumer_group_metadata()
            self._metadata_of = self._health.rebalances

    def _is_in_doubt(self) -> bool:
        """Whether Kafka may refuse us."""
        is_gone = self._health.are_all_down or self._health.is_connected is False
        return is_gone or self._health.reason.is_refusal or self._trouble is not None

    def _end_or_join_again(self, error: FatalError) -> None:
        """Join again if the fence is probably self-inflicted, or raise the error."""
        if not isinstance(error, LaneFencedError) or not self._health.is_fence_self_inflicted():
            raise error
        self._health.joined_again()
        _log.warning("fenced after the coordinator of the group was away: joining again", reason=str(error))
        self._replace_client()

    def _handle_error(self, error: KafkaError) -> None:
        if error.code() in {KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError.TOPIC_AUTHORIZATION_FAILED}:
            self._report_trouble(self._translated(error))
        else:
            _log.warning("the group cannot be polled now", reason=error.name())

    def _check_access(self) -> None:
        """Check whether the group can be used now: reading an offset needs the same connection and rights."""
        try:
            self._consumer.committed([TopicPartition(self._signals, 0)], timeout=_CHECK_SECONDS_MAX)
        except KafkaException as error:
            self._report_trouble(self._translated(error.args[0]))
            if self._health.reason.is_refusal and self._properties.have_changed():
                self._try_to_replace_client("certificates or password have changed: connecting again")
            return
        self._health.reason.clear()
        self._report_trouble(None)

    def _translated(self, error: KafkaError) -> TrekkpaaleggError:
        if error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
            return not_permitted([Right("READ", GROUP, self._application_id)], self._properties.loaded)
        if error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            return not_permitted([Right("READ", TOPIC, self._signals)], self._properties.loaded)
        cause = self._health.reason.cause(self._properties.loaded) if self._health.reason.is_refusal else None
        return RetryableError(f"no Kafka broker can be used: {cause or error.name()}")

    def _report_trouble(self, trouble: TrekkpaaleggError | None) -> None:
        before, self._trouble = self._trouble, trouble
        if str(before) != str(trouble):
            self._on_trouble(trouble)

    def _try_to_replace_client(self, why: str) -> None:
        """Connect with the present certificates and password, unless they cannot be used yet."""
        _log.info(why)
        try:
            self._replace_client()
        except KafkaSettingsError as error:
            _log.warning("certificates or password cannot be used yet", reason=str(error))

    def _replace_client(self) -> None:
        """Replace the client by a new one. The lanes are revoked, and are assigned again once it has joined.

        They are revoked here, because a consumer that was fenced no longer reports it: a lane that we kept would be
        confirmed by a member that has not joined yet, which is fenced for it.
        """
        former, self._consumer = self._consumer, self._connect()
        self._metadata_of = None
        self._revoke({*self._new, *self._held})
        leave(former)
        self._health.replaced()
        self._subscribe()

    def _poll(self, timeout_seconds: float) -> Message | None:
        try:
            return self._consumer.poll(timeout_seconds)
        except KafkaException as error:
            raise translate_end(error.args[0]) from error

    def confirm(self, lane: int, first_open_offset: int) -> bool:
        """See `Membership.confirm`. Commits the offset that is stored already, which is refused to a former member.

        `call_bounded`, because librdkafka waits without limit for a broker that is down or refuses us.
        """
        consumer, stored = self._consumer, TopicPartition(self._signals, lane, first_open_offset)
        try:
            call_bounded(lambda: consumer.commit(offsets=[stored], asynchronous=False), _CONFIRM_SECONDS_MAX)
        except (KafkaException, UnansweredError) as error:
            reason = error.args[0].name() if error.args else "no answer"
            _log.warning("the group does not confirm a lane", lane=lane, reason=reason)
            return False
        return True

    def rewind(self, lane: int, first_open_offset: int) -> None:
        """See `Membership.rewind`."""
        self._consumer.seek(TopicPartition(self._signals, lane, first_open_offset))

    def metadata(self) -> object:
        """See `Membership.metadata`.

        It was read at the last poll after a change: read from another thread during a poll, confluent-kafka 2.16 never
        returns. If the membership has changed since, the transaction fails, which is the purpose of the metadata.
        """
        return self._metadata

    def is_connected(self) -> bool | None:
        """See `Membership.is_connected`."""
        return self._health.is_connected

    def trouble(self) -> str | None:
        """See `Membership.trouble`."""
        return self._health.trouble()

    def leave(self) -> None:
        """See `Membership.leave`."""
        leave(self._consumer)

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if consumer is self._consumer:
            self._metadata_of = None
            self._new |= {each.partition: each for each in partitions}

    def _assign_new(self) -> None:
        """Assign the new lanes once their offsets are known; otherwise at a later poll.

        Not done within the rebalance: an error raised there ends the poll, and with it the process.
        """
        if not self._new or self._assigned is None:
            return
        try:
            committed = self._consumer.committed(list(self._new.values()), timeout=_CALL_SECONDS_MAX)
        except KafkaException as error:
            _log.warning("the offsets of new lanes cannot be read now", lanes=sorted(self._new), reason=str(error))
            return
        self._new = {}
        self._held |= {each.partition for each in committed}
        self._assigned({each.partition: max(each.offset, 0) for each in committed})

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Ignores a former consumer that leaves late: its lanes may be assigned to its successor already."""
        if consumer is self._consumer:
            self._revoke({each.partition for each in partitions})

    def _revoke(self, lanes: set[int]) -> None:
        for lane in lanes:
            self._new.pop(lane, None)
        self._held -= lanes
        if self._revoked is not None:
            self._revoked(lanes)
