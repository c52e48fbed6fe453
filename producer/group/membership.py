"""Membership in the consumer group on `…-signals`, in which each partition is a lane."""

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


def put_out(error: KafkaError) -> FatalError:
    """What a consumer that has failed for good means. It says so once, as `_FATAL` with the cause in its text alone."""
    if is_instance_conflict(error):
        return LaneFencedError(
            "another process runs under the same TREKKPAALEGG_INSTANCE_ID: give each its own; "
            "if there is none, the group's broker has failed and took us for two: start it again"
        )
    return FatalError(f"the group of workers cannot be joined: {error.str()}")


_CALL_SECONDS_MAX = 2.0
_CONFIRM_SECONDS_MAX = 10.0
_SIGNALS_AT_ONCE_MAX = 500
_LOOK_SECONDS_MAX = 1.0
_LOOK_PAUSE_SECONDS = 2.0

_log = structlog.get_logger(__name__)


class KafkaMembership:
    """The group's member on a real Kafka; see `trekkpaalegg.kafka.member` for the protocol.

    Offsets are read uncommitted: a transaction that a killed owner left open hides the committed ones until the fence
    or its timeout ends it, and the fence comes only after the lane was given. The offset that stood before it is an
    older one, so signals may come twice, which is harmless.

    `on_trouble` is told within `poll` of what keeps us from working with the group, in words, and None when it has
    passed. librdkafka goes on by itself when a right was granted, or the password at Kafka was made ours; certificates
    and passwords it takes only when a client is made, so one is made anew when a connection is refused and
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
        self._look_at = 0.0
        self._metadata: object = None
        self._metadata_of: int | None = None
        """The rebalance that it stands for; None when one has come since."""
        self._consumer = self._connect()
        self._given: Callable[[dict[int, int]], None] | None = None
        self._taken: Callable[[set[int]], None] | None = None
        self._new: dict[int, TopicPartition] = {}
        """Lanes that the group gave us, and whose offsets are still to be asked for."""
        self._held: set[int] = set()

    def _connect(self) -> Consumer:
        settings = {
            **member_settings(self._properties.load(), self._application_id, self._instance_id),
            "auto.offset.reset": "earliest",
            "isolation.level": "read_uncommitted",
            **self._health.callbacks(),
        }
        return create_consumer(settings)

    def join(self, given: Callable[[dict[int, int]], None], taken: Callable[[set[int]], None]) -> None:
        """See `Membership.join`."""
        self._given, self._taken = given, taken
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
                self._take_end(put_out(error))
                return signals
            else:
                self._take_error(error)
            message = self._poll(0.0) if len(signals) < _SIGNALS_AT_ONCE_MAX else None
        if self._health.has_forgotten_brokers:
            self._renew(ALL_FORGOTTEN)
        if self._health.is_connected is not False:
            self._take_metadata()
            self._give_new()
        if self._is_in_doubt() and time.monotonic() >= self._look_at:
            self._look()
            self._look_at = time.monotonic() + _LOOK_PAUSE_SECONDS
        return signals

    def _take_metadata(self) -> None:
        """How the group knows us. Asked for when that may have changed, while Kafka answers.

        The call holds Python's interpreter until librdkafka's own thread has answered. Seen with 2.16.0: while all
        brokers went it never did, and the whole process stood still.
        """
        if self._metadata_of != self._health.rebalances:
            self._metadata = self._consumer.consumer_group_metadata()
            self._metadata_of = self._health.rebalances

    # Trouble

    def _is_in_doubt(self) -> bool:
        """Whether Kafka may refuse us."""
        is_gone = self._health.are_all_down or self._health.is_connected is False
        return is_gone or self._health.reason.is_refusal or self._trouble is not None

    def _take_end(self, error: FatalError) -> None:
        """The consumer can do no more. Raises it, unless the fence is likely of our own making."""
        if not isinstance(error, LaneFencedError) or not self._health.is_fence_self_inflicted():
            raise error
        self._health.joined_again()
        _log.warning("fenced after the coordinator of the group was away: joining again", reason=str(error))
        self._connect_anew()

    def _take_error(self, error: KafkaError) -> None:
        if error.code() in {KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError.TOPIC_AUTHORIZATION_FAILED}:
            self._tell(self._meaning(error))
        else:
            _log.warning("the group cannot be polled now", reason=error.name())

    def _look(self) -> None:
        """Whether the group can be worked with now: its offset is asked for, which takes all that working takes."""
        try:
            self._consumer.committed([TopicPartition(self._signals, 0)], timeout=_LOOK_SECONDS_MAX)
        except KafkaException as error:
            self._tell(self._meaning(error.args[0]))
            if self._health.reason.is_refusal and self._properties.have_changed():
                self._renew("certificates or password have changed: connecting anew")
            return
        self._health.reason.clear()
        self._tell(None)

    def _meaning(self, error: KafkaError) -> TrekkpaaleggError:
        if error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
            return not_permitted([Right("READ", GROUP, self._application_id)], self._properties.loaded)
        if error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            return not_permitted([Right("READ", TOPIC, self._signals)], self._properties.loaded)
        cause = self._health.reason.cause(self._properties.loaded) if self._health.reason.is_refusal else None
        return RetryableError(f"no Kafka broker can be used: {cause or error.name()}")

    def _tell(self, trouble: TrekkpaaleggError | None) -> None:
        before, self._trouble = self._trouble, trouble
        if str(before) != str(trouble):
            self._on_trouble(trouble)

    def _renew(self, why: str) -> None:
        """With the certificates or the password that are there now, unless they cannot be used yet."""
        _log.info(why)
        try:
            self._connect_anew()
        except KafkaSettingsError as error:
            _log.warning("certificates or password cannot be used yet", reason=str(error))

    def _connect_anew(self) -> None:
        """As they say now. The lanes are given up, and come back with the new connection.

        By ourselves, as a consumer that was fenced no longer says so: a lane that stayed would be confirmed by a member
        that has not joined yet, which is fenced for it.
        """
        former, self._consumer = self._consumer, self._connect()
        self._metadata_of = None
        self._let_go({*self._new, *self._held})
        leave(former)
        self._health.replaced()
        self._subscribe()

    def _poll(self, timeout_seconds: float) -> Message | None:
        try:
            return self._consumer.poll(timeout_seconds)
        except KafkaException as error:
            raise put_out(error.args[0]) from error

    def confirm(self, lane: int, first_open_offset: int) -> bool:
        """See `Membership.confirm`. A commit of the offset that stands anyway: a member put out is refused.

        Bounded from outside, as librdkafka waits for as long as a broker that is down, or refuses us, owes an answer.
        """
        consumer, place = self._consumer, TopicPartition(self._signals, lane, first_open_offset)
        try:
            call_bounded(lambda: consumer.commit(offsets=[place], asynchronous=False), _CONFIRM_SECONDS_MAX)
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

        What stood at the last poll after a change: asked for from another thread while one polls, confluent-kafka
        2.16 never answers. A membership that has changed since makes the transaction fail, which is what it is for.
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

    def _give_new(self) -> None:
        """Hand over the lanes that have come, once their offsets are known; else at another poll.

        Not done while the group hands them over: what is raised there ends the poll, and with it the process.
        """
        if not self._new or self._given is None:
            return
        try:
            committed = self._consumer.committed(list(self._new.values()), timeout=_CALL_SECONDS_MAX)
        except KafkaException as error:
            _log.warning("the offsets of new lanes cannot be had now", lanes=sorted(self._new), reason=str(error))
            return
        self._new = {}
        self._held |= {each.partition for each in committed}
        self._given({each.partition: max(each.offset, 0) for each in committed})

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """A former consumer that leaves late has no say: its lanes may have come back with its successor."""
        if consumer is self._consumer:
            self._let_go({each.partition for each in partitions})

    def _let_go(self, lanes: set[int]) -> None:
        for lane in lanes:
            self._new.pop(lane, None)
        self._held -= lanes
        if self._taken is not None:
            self._taken(lanes)
