"""The consumers' own errors; those that they share with the producer are in `trekkpaalegg.errors`.

::

    TrekkpaaleggError
    └── FatalError
        └── InputError      a file that the user gave is wrong; carries every fault found

No message holds a value from an event.
"""

from __future__ import annotations

from trekkpaalegg.errors import FatalError


class InputError(FatalError):
    """A file that the user gave cannot be used; `faults` lists every one, a line each, and quotes nothing of it."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        super().__init__("\n".join(faults))
