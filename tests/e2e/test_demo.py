"""`trekkpaalegg-sandbox demo` tells its story, holds every claim, and leaves nothing behind, however it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.kafka

README = Path(__file__).parents[2] / "README.md"
STORY_SECONDS_MAX = 600.0
"""It takes about 30 s; on a busy machine more."""
END_SECONDS_MAX = 300.0


def left_running(folder: Path) -> dict[int, str]:
    """Processes that were started below the demo: all inherit its TMPDIR, whatever session they are in."""
    mark = f"TMPDIR={folder}".encode()
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes().split(b"\0") and int(process.name) != os.getpid():
                found[int(process.name)] = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    return found


def wait_until(condition: Callable[[], bool], seconds_max: float) -> bool:
    deadline = time.monotonic() + seconds_max
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def milliseconds(text: str) -> float:
    number, unit = text.split()
    return float(number) * {"ms": 1, "s": 1000}[unit]


def shown_in_readme() -> list[str]:
    """What the README shows of the demo's output."""
    (block,) = re.findall(r"\$ make demo\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    return [line for line in block.splitlines() if line not in ("", "…")]


def shape(line: str) -> str:
    """The line without its numbers, and without how they are spaced."""
    return " ".join(re.sub(r"\d+(?:[ .]\d+)*(?: m?s\b)?", "#", line).split())


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the demo with these options; its output goes to files, so that no pipe can fill up."""
    started: list[subprocess.Popen[str]] = []
    (tmp_path / "tmp").mkdir()

    def start(*options: str) -> subprocess.Popen[str]:
        with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
            process = subprocess.Popen(
                [sys.executable, "-m", "sandbox", "demo", *options],
                stdout=out,
                stderr=err,
                text=True,
                start_new_session=True,
                env={**os.environ, "TMPDIR": str(tmp_path / "tmp"), "KAFKA_BROKERS": "nowhere:1"},
            )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def said(tmp_path: Path) -> str:
    return (tmp_path / "out").read_text(encoding="utf-8")


def test_the_whole_story_holds_and_leaves_nothing(demo: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    process = demo()
    code = process.wait(STORY_SECONDS_MAX)
    story, told = said(tmp_path), (tmp_path / "err").read_text(encoding="utf-8")
    assert (code, told) == (0, ""), story
    assert wait_until(lambda: not left_running(tmp_path / "tmp"), END_SECONDS_MAX), left_running(tmp_path / "tmp")
    assert list((tmp_path / "tmp").iterdir()) == [], "no folder is left"

    lines = story.splitlines()
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in story, "plain where there is no terminal"
    assert not re.search(r"(?<![0-9A-Za-z-])\d{11}(?!\d)", story), "no national id"
    examples = [line for line in lines if re.match(r"123456789 100\d\d ", line)]
    assert len(examples) == 19 + 4, "the official versions, and the two that each of two of them got"
    assert [line.split()[1:3] for line in examples[-4:]] == [[f"1000{n}", f"v{v}"] for n in (1, 2) for v in (2, 3)]
    assert [line.split()[5] for line in examples[-4:]] == ["gapfill", "poll", "poll", "notification"]
    swap = re.findall(r"^  (polled, a second apart|notified)((?: +[\d.]+ m?s){3})$", story, re.MULTILINE)
    polled, told = ([milliseconds(each) for each in re.findall(r"[\d.]+ m?s", took)] for _, took in swap)
    assert all(0 < fastest <= median <= slowest for fastest, median, slowest in (polled, told))
    assert "  ✓ 18 calls of Altinn, 9 changes: each is in the topic once" in lines
    assert '    "reason": "amount_or_percent",' in lines
    assert len(re.findall(r"⚡ kill -KILL \d+", story)) == 3, "the producer twice, the consumer once"
    middle = re.findall(r"in the middle: ([\d ]+) of ([\d ]+) versions are committed", story)
    assert len(middle) == 2
    assert all(0 < int(done.replace(" ", "")) < int(whole.replace(" ", "")) for done, whole in middle)
    (ledger,) = re.findall(r"in the middle: ([\d ]+) of ([\d ]+) versions are in the ledger", story)
    assert 0 < int(ledger[0].replace(" ", "")) < int(ledger[1].replace(" ", ""))
    assert len([line for line in lines if re.match(r"10\d{3}  \d  a", line)]) == 5, "rows of the ledger"
    assert "the live ledger was equal in every replayed row" in lines
    assert "swapped in" in lines
    assert len([line for line in lines if re.match(r"  ✓ (ledger|source)_", line)]) >= 6, "verify's checks"
    assert re.search(r"^ +lost +0$", story, re.MULTILINE)
    assert re.search(r"^ +doubled +0$", story, re.MULTILINE)
    assert re.search(r"^ +quarantined +1$", story, re.MULTILINE)
    assert lines[-1] == "Every claim held. Nothing is left running."
    shapes = iter(map(shape, lines))
    assert [line for line in shown_in_readme() if shape(line) not in shapes] == [], "not told, or not in this order"


@pytest.mark.parametrize(
    ("ending", "words"), [(signal.SIGINT, "trekkpaalegg-producer run &"), (signal.SIGTERM, "1  Kafka")]
)
def test_stopped_in_the_middle_it_stops_everything_and_ends_with_4(
    demo: Callable[..., subprocess.Popen[str]], tmp_path: Path, ending: signal.Signals, words: str
) -> None:
    """While the producer runs, or while the servers are being started."""
    process = demo()
    assert wait_until(lambda: words in said(tmp_path), STORY_SECONDS_MAX)
    assert wait_until(lambda: len(left_running(tmp_path / "tmp")) >= 4, STORY_SECONDS_MAX), "the demo and its servers"
    os.killpg(process.pid, ending)
    assert process.wait(END_SECONDS_MAX) == 4
    told = (tmp_path / "err").read_text(encoding="utf-8")
    assert told == "trekkpaalegg-sandbox: stopped before the story ended; nothing is left running\n"
    assert wait_until(lambda: not left_running(tmp_path / "tmp"), END_SECONDS_MAX), left_running(tmp_path / "tmp")
    assert list((tmp_path / "tmp").iterdir()) == []


def test_killed_in_the_middle_its_children_end_too(demo: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    process = demo()
    assert wait_until(lambda: "trekkpaalegg-producer run &" in said(tmp_path), STORY_SECONDS_MAX)
    assert len(left_running(tmp_path / "tmp")) >= 4
    process.kill()
    process.wait()
    assert wait_until(lambda: not left_running(tmp_path / "tmp"), END_SECONDS_MAX), left_running(tmp_path / "tmp")
    assert wait_until(lambda: list((tmp_path / "tmp").iterdir()) == [], END_SECONDS_MAX)


def test_a_false_claim_is_reported_on_one_line_and_exits_with_1(
    demo: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    """The producer that somebody else ends is no part of the story."""
    process = demo()
    command, found = f"{sys.executable} -m producer run", list[int]()

    def producer_runs() -> bool:
        running = left_running(tmp_path / "tmp").items()
        found.extend(pid for pid, words in running if words.startswith(command))
        return bool(found)

    assert wait_until(producer_runs, STORY_SECONDS_MAX)
    os.kill(found[0], signal.SIGKILL)
    assert process.wait(END_SECONDS_MAX) == 1
    told = (tmp_path / "err").read_text(encoding="utf-8")
    assert told.startswith("trekkpaalegg-sandbox: the story does not hold: the program has ended by itself")
    assert len(told.splitlines()) == 1
    assert wait_until(lambda: not left_running(tmp_path / "tmp"), END_SECONDS_MAX), left_running(tmp_path / "tmp")
