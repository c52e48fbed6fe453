"""Whether a Docker engine answers and has an image, and its errors in plain words."""

from __future__ import annotations

import os
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

from docker.client import DockerClient
from docker.errors import APIError, DockerException, ImageNotFound
from requests.exceptions import RequestException

from sandbox.servers.process import ServerStartError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kit.containers.images import Image

_CONNECT_SECONDS_MAX = 5.0


class EngineError(ServerStartError):
    """The Docker engine did not do what was asked of it; the message says what to do."""


def trouble_of_engine() -> str | None:
    """Why no container can be started, or None."""
    try:
        _connect()
        engine = DockerClient.from_env()
        engine.ping()
        engine.close()
    except (DockerException, RequestException, OSError) as error:
        return f"no Docker engine answers ({_where()}: {_first_line(error)})"
    return None


def _connect() -> None:
    """Raise `OSError` when nobody listens at the engine's socket; Docker's library would leave it open then."""
    scheme, _, path = _where().partition("://")
    if scheme == "unix":
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(_CONNECT_SECONDS_MAX)
            probe.connect(path)


def trouble_of_image(image: Image) -> str | None:
    """Why there will be no container of this image, or None; pulls it if it is missing."""
    with translated("the images were asked for"):
        engine = DockerClient.from_env()
        try:
            engine.images.get(image.name)
        except ImageNotFound:
            try:
                engine.images.pull(image.name)
            except APIError as error:
                return (
                    f"the image {image.name} is missing and cannot be pulled ({_first_line(error)}): name another by "
                    f"{image.setting}, or build stand-ins as .ci/images/README.md says"
                )
        finally:
            engine.close()
    return None


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn every error of the engine, or of the way to it, into an `EngineError` that says what was being done."""
    try:
        yield
    except APIError as error:
        raise EngineError(f"the Docker engine refused when {doing}: {_first_line(error)}") from error
    except (DockerException, RequestException) as error:
        raise EngineError(
            f"the Docker engine does not answer ({_where()}) when {doing}: {_first_line(error)}. "
            "Is it running? Containers of this run that it still has are to be removed by hand when it is back."
        ) from error


def _where() -> str:
    return os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"


def _first_line(error: Exception) -> str:
    told = (error.explanation if isinstance(error, APIError) else getattr(error, "strerror", None)) or str(error)
    return str(told).strip().splitlines()[0] if str(told).strip() else type(error).__name__
