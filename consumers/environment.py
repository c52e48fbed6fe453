"""Environment variables and `.env` files in, one mapping of the settings' names to their text out, with every fault.

The environment wins over `--env-file`, which wins over `.env` in the working directory. An empty value counts as
not given, since that is what manifests and compose files make of a missing one.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

from dotenv.parser import parse_stream

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

PREFIX = "TREKKPAALEGG_"


def read_environment(
    env_file: Path | None, environ: Mapping[str, str], known: Collection[str]
) -> tuple[dict[str, str], list[str]]:
    """The values of the `known` names, and every fault found on the way: unreadable files and unknown names."""
    faults: list[str] = []
    given: dict[str, str] = {}
    beside = Path(".env")
    if beside.is_file():
        given |= _read_env_file(beside, faults)
    if env_file is not None:
        given |= _read_env_file(env_file, faults)
    given |= environ
    own = {name: value for name, value in given.items() if not is_service_link(name, value)}
    for name in sorted(own):
        if name.startswith(PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
            hint = f"did you mean {near[0]}?" if near else "see the README for the names there are"
            faults.append(f"{name}: no such setting; {hint}")
    return {name: own[name].strip() for name in known if own.get(name, "").strip()}, faults


def is_service_link(name: str, value: str) -> bool:
    """Whether Kubernetes injected this name for a service whose name begins as ours do.

    A service called `trekkpaalegg-http` gives `TREKKPAALEGG_HTTP_PORT=tcp://…`: a known name, but not our setting.
    Source: Kubernetes documentation, "Accessing the Service", environment variables.
    """
    if not name.startswith(PREFIX):
        return False
    tail = name.removeprefix(PREFIX[:-1])
    if tail.endswith("_SERVICE_HOST") or "_SERVICE_PORT" in tail:
        return True
    is_port = "_PORT_" in tail or tail.endswith("_PORT")
    return is_port and (
        value.startswith("tcp://") or ("_PORT_" in tail and tail.endswith(("_PROTO", "_ADDR", "_PORT")))
    )


def _read_env_file(path: Path, faults: list[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for binding in parse_stream(lines):
                if binding.error:
                    faults.append(f"{path}: line {binding.original.line} is not of the form NAME=value")
                elif binding.key is not None:
                    values[binding.key] = binding.value or ""
    except (OSError, UnicodeDecodeError) as error:
        faults.append(f"{path}: cannot be read ({type(error).__name__}); give a readable UTF-8 file")
    return values
