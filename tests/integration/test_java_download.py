"""Java programs are fetched over a network that fails now and then, from a repository on this machine."""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from sandbox.servers.java import FetchError, fetch_jars

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FOLDER = "/no/test/part/1.0/part-1.0"
POM = b"""<project><modelVersion>4.0.0</modelVersion>
<groupId>no.test</groupId><artifactId>part</artifactId><version>1.0</version></project>"""


def jar() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("part.txt", "x" * 100_000)
    return content.getvalue()


JAR = jar()


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[list[str]], list[str]]]:
    """Serves one jar after the given troubles, `503` or `cut off`; Maven's settings name it as the mirror of all."""
    troubles: list[str] = []
    asked: list[str] = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            files = {f"{FOLDER}.pom": POM, f"{FOLDER}.jar": JAR}
            files |= {f"{name}.sha1": hashlib.sha1(file).hexdigest().encode() for name, file in files.items()}  # noqa: S324 - as Maven has it
            body = files.get(self.path)
            asked.append(self.path)
            trouble = troubles.pop(0) if self.path.endswith(".jar") and troubles else ""
            self.send_response(404 if body is None else 503 if trouble == "503" else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            if body is not None:
                self.wfile.write(body[:1000] if trouble == "cut off" else body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    mirror = f"<mirror><id>test</id><mirrorOf>*</mirrorOf><url>{address}</url></mirror>"
    settings = tmp_path / ".m2" / "settings.xml"
    settings.parent.mkdir()
    settings.write_text(f"<settings><mirrors>{mirror}</mirrors></settings>", encoding="utf-8")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def meeting(met: list[str]) -> list[str]:
        troubles.extend(met)
        return asked

    yield meeting
    server.shutdown()
    server.server_close()


def checksums(folder: Path, content: bytes = JAR) -> Path:
    listed = folder / "listed.sha256"
    listed.write_text(f"{hashlib.sha256(content).hexdigest()}  part-1.0.jar\n", encoding="ascii")
    return listed


@pytest.mark.parametrize("troubles", [[], ["503", "cut off"]])
def test_a_failing_download_is_tried_again(
    repository: Callable[[list[str]], list[str]], tmp_path: Path, troubles: list[str]
) -> None:
    asked = repository(list(troubles))
    (fetched,) = fetch_jars("part", "no.test:part:1.0", checksums(tmp_path))
    assert fetched.read_bytes() == JAR
    assert asked.count(f"{FOLDER}.jar") == len(troubles) + 1
    assert fetch_jars("part", "no.test:part:1.0", checksums(tmp_path)) == [fetched]
    assert asked.count(f"{FOLDER}.jar") == len(troubles) + 1


def test_a_download_that_keeps_failing_names_the_remedy_and_leaves_nothing(
    repository: Callable[[list[str]], list[str]], tmp_path: Path
) -> None:
    repository(["503"] * 4)
    with pytest.raises(FetchError, match="Is the network up"):
        fetch_jars("part", "no.test:part:1.0", checksums(tmp_path))
    assert fetch_jars("part", "no.test:part:1.0", checksums(tmp_path))


def test_a_jar_of_another_content_is_refused(repository: Callable[[list[str]], list[str]], tmp_path: Path) -> None:
    repository([])
    with pytest.raises(FetchError, match=r"part-1.0.jar is not the file.* listed.sha256"):
        fetch_jars("part", "no.test:part:1.0", checksums(tmp_path, b"another"))
