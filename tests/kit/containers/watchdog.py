"""Remove the containers with a label soon after the process that started this one has ended.

This process waits for the end of its standard input, of which only the parent has the other end. So containers end
with the tests that started them, also after kill -9, and no image such as testcontainers' Ryuk need be had for it.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from functools import cache

_QUIET_SECONDS = 3.0
"""So long no container with the label must have been seen: one may have been asked for just before the end."""


_LEFT_BEHIND = 'exec 3<&0; "$@" <&3 3<&- &'
"""A shell leaves the watchdog behind and ends: it outlives this process for a moment, so it is no child of it."""


@cache
def watch_over(label: str) -> int:
    """Have a watchdog for this label as long as this process lives; it ends with it. The second call does nothing.

    Gives back what the kernel closes with this process, and nobody before: the watchdog's standard input.
    """
    standard_input, kept = os.pipe()
    subprocess.run(
        ["/bin/sh", "-c", _LEFT_BEHIND, "watchdog", sys.executable, "-m", "tests.kit.containers.watchdog", label],
        stdin=standard_input,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        check=True,
    )
    os.close(standard_input)
    return kept


def main() -> None:
    """Wait for the parent's end, then remove what it left."""
    label = sys.argv[1]
    sys.stdin.buffer.read()

    from docker.client import DockerClient  # noqa: PLC0415 - a waiting watchdog is to be small
    from docker.errors import APIError  # noqa: PLC0415 - as above

    engine = DockerClient.from_env()
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < _QUIET_SECONDS:
        for container in engine.api.containers(all=True, filters={"label": label}):
            quiet_since = time.monotonic()
            with contextlib.suppress(APIError):  # it is being removed already
                engine.api.remove_container(container["Id"], force=True, v=True)
        time.sleep(0.2)


if __name__ == "__main__":
    main()
