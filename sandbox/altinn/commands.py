"""The control commands of the simulated Altinn, such as an event that a test makes up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from sandbox.altinn.delivery import Weather
from sandbox.altinn.event_log import SEEN
from sandbox.altinn.pusher import CONTENT_TYPE
from sandbox.altinn.state import ApiFault, Behaviour

if TYPE_CHECKING:
    from sandbox.altinn.pusher import Pusher
    from sandbox.altinn.state import Altinn

Fields = dict[str, Any]


class AltinnCommands:
    """Each public method is a command; its name begins with `altinn`."""

    def __init__(self, state: Altinn, pusher: Pusher) -> None:
        self._state = state
        self._pusher = pusher

    def altinn_behaviour(self, settings: Fields) -> Any:  # noqa: ANN401  # JSON
        """Change how it answers and pushes."""
        with self._state.lock:
            merged = {**msgspec.to_builtins(self._state.behaviour), **settings}
            self._state.behaviour = msgspec.convert(merged, Behaviour)
            return msgspec.to_builtins(self._state.behaviour)

    def altinn_weather(self, weather: Fields) -> None:
        """How pushing misbehaves: losses, doubles, disorder."""
        with self._state.lock:
            self._state.deliveries.weather = msgspec.convert(weather, Weather)

    def altinn_fault(self, fault: Fields) -> None:
        """Answer the next calls with an error."""
        with self._state.lock:
            self._state.faults.append(msgspec.convert(fault, ApiFault))

    def altinn_clear(self) -> None:
        """Remove all faults."""
        with self._state.lock:
            self._state.faults.clear()
            self._state.refused.clear()
            self._state.deliveries.weather = Weather()

    def altinn_refuse(self, trekkpliktig: str) -> None:
        """Refuse this trekkpliktig's subscriptions until `altinn-allow`."""
        with self._state.lock:
            self._state.refused.add(trekkpliktig)

    def altinn_allow(self, trekkpliktig: str) -> None:
        """Undo `altinn-refuse`."""
        with self._state.lock:
            self._state.refused.discard(trekkpliktig)

    def altinn_pause(self) -> None:
        """Push nothing; it waits."""
        self._state.set_paused(paused=True)

    def altinn_resume(self) -> None:
        """Undo `altinn-pause`."""
        self._state.set_paused(paused=False)

    def altinn_revoke_tokens(self) -> None:
        """End all tokens early."""
        self._state.tokens.revoke_all()

    def altinn_forget_events(self) -> None:
        """No event can be pulled any more, and no id of one is known."""
        with self._state.lock:
            self._state.log.forget()

    def altinn_event(
        self, trekkpliktig: str, kind: str = SEEN, trekkid: str = "0", fields: Fields | None = None
    ) -> Fields:
        """An event of any kind, pushed to its subscribers, and available to be pulled. A field of null is left out."""
        return self._state.emit_event(trekkpliktig, trekkid, kind, fields)

    def altinn_push(self, address: str, body: str, headers: dict[str, str] | None = None) -> int:
        """Push any text to any address at once; the status that came back."""
        return self._pusher.push_raw(address, body.encode(), {"content-type": CONTENT_TYPE, **(headers or {})})

    def altinn_subscriptions(self) -> Any:  # noqa: ANN401  # JSON
        """All subscriptions, with their addresses."""
        with self._state.lock:
            return [msgspec.to_builtins(each) for each in self._state.subscriptions.values()]

    def altinn_counts(self) -> Fields:
        """Counts of calls, pushes and waiting deliveries."""
        return self._state.summary()
