"""Environment variables and `.env` files in, one mapping of the settings' names to their text out, with every fault.

The environment wins over `--env-file`, which wins over `.env` in the working directory. An empty value counts as
not given, since that is what manifests and compose files make of a missing one. A secret may be given as a file that
holds it, in the name with `_FILE` after it: that keeps it out of the environment, which `docker inspect` and crash
reports show.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

from dotenv.parser import parse_stream

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

PREFIX = "TREKKPAALEGG_"
FILE_SUFFIX = "_FILE"
_SECRET_BYTES_MAX = 65_536


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
    faults += [_unknown(name, known) for name in sorted(own) if name.startswith(PREFIX) and name not in known]
    return {name: own[name].strip() for name in known if own.get(name, "").strip()}, faults


def read_secret_files(given: Mapping[str, str], secret_names: Collection[str], faults: list[str]) -> dict[str, str]:
    """The text of each of `secret_names` that is given as a file; empty, and told in `faults`, where it cannot be had.

    Line ends and blanks around it are no part of a secret: editors and `echo` add them.
    """
    read: dict[str, str] = {}
    for name in secret_names:
        file_name = name + FILE_SUFFIX
        if file_name not in given:
            continue
        if name in given:
            faults.append(f"{name} and {file_name}: give one of the two, not both")
            continue
        try:
            with Path(given[file_name]).open("rb") as file:
                content = file.read(_SECRET_BYTES_MAX + 1)
            read[name] = content.decode("utf-8-sig").strip() if len(content) <= _SECRET_BYTES_MAX else ""
            if not read[name]:
                reason = "is empty" if len(content) <= _SECRET_BYTES_MAX else "is too large for a secret"
                faults.append(f"{file_name}: {given[file_name]} {reason}; give a file that holds the secret alone")
        except FileNotFoundError:
            read[name] = ""
            faults.append(f"{file_name}: there is no file {given[file_name]}; make it, or mount the secret there")
        except (OSError, UnicodeDecodeError) as error:
            read[name] = ""
            reason = type(error).__name__
            faults.append(f"{file_name}: {given[file_name]} cannot be read ({reason}); give a readable UTF-8 file")
    return read


def is_service_link(name: str, value: str) -> bool:
    """Whether Kubernetes injected this name for a service whose name begins as ours do.

    A service called `trekkpaalegg-http` gives `TREKKPAALEGG_HTTP_PORT=tcp://…`: a known name, but not our setting.
    Source: Kubernetes documentation, "Accessing the Service", environment variables.
    """
    if not name.startswith(PREFIX):
        return False
    tail = name.removeprefix(PREFIX[:-1])
    return (
        tail.endswith("_SERVICE_HOST")
        or "_SERVICE_PORT" in tail
        or (("_PORT_" in tail or tail.endswith("_PORT")) and value.startswith("tcp://"))
        or ("_PORT_" in tail and tail.endswith(("_PROTO", "_ADDR", "_PORT")))
    )


def _read_env_file(path: Path, faults: list[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    try:
        with path.open(encoding="utf-8-sig") as lines:
            line_number = 1
            for binding in parse_stream(lines):
                line_number = binding.original.line
                if binding.error:
                    faults.append(f"{path}: line {line_number} is not of the form NAME=value")
                elif binding.key is not None:
                    values[binding.key] = binding.value or ""
    except (OSError, UnicodeDecodeError) as error:
        faults.append(f"{path}: cannot be read ({type(error).__name__}); give a readable UTF-8 file")
    return values


def _unknown(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    hint = f"; did you mean {near[0]}?" if near else "; see the README for the names there are"
    return f"{name}: no such setting{hint}"
