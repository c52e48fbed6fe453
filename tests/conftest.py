"""What all tests share: the embedded servers, started once a session when a test asks, and what becomes of `docker`."""

from __future__ import annotations

import os
import shutil
import signal
import uuid
from functools import cache
from typing import TYPE_CHECKING

import pytest
import structlog
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadFileScheduling

from sandbox.servers.kafka import EmbeddedKafka
from sandbox.servers.postgresql import EmbeddedPostgresql
from sandbox.servers.registry import EmbeddedRegistry
from tests.kit.containers.engine import trouble_of_engine, trouble_of_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from xdist.remote import Producer

    from tests.kit.containers.images import Image

DEBIAN_PACKAGES = {"kcat": "kcat", "promtool": "prometheus"}
"""Programs that tests use and Python packages do not bring, and the Debian package of each."""

NO_DOCKER = "no Docker: "

HEAVY_FILES = ("test_three_brokers.py", "test_demo.py")
"""Each takes a machine of two cores for minutes. Side by side they wait for one another past their deadlines."""

LONGEST_FILES = (
    "test_compose.py",
    *HEAVY_FILES,
    "test_compose_trouble.py",
    "test_kafka_refuses.py",
    "test_random_kills.py",
    "test_kafka_doors.py",
    "test_kafka_rights.py",
    "test_scale_out.py",
    "test_transaction_steps.py",
    "test_ledger_servers.py",
)
"""They take a minute or more each. What begins them last waits for one of them alone."""


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So it is below a shell's background job. Programs that tests start would inherit it, and not heed Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first; then the folders whose tests take longest."""
    folders = ("e2e", "docker", "integration", "interoperability", "contract")

    def place(item: pytest.Item) -> tuple[int, int]:
        name, folder = item.path.name, item.path.parent.name
        return (
            LONGEST_FILES.index(name) if name in LONGEST_FILES else len(LONGEST_FILES),
            folders.index(folder) if folder in folders else len(folders),
        )

    items.sort(key=place)


class OneHeavyFileAtATime(LoadFileScheduling):
    """Each file to one process, as `--dist loadfile` does it; all heavy ones to the same, one after the other.

    So too all that need Docker: each process has containers of its own, which stay to its end.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        if "/docker/" in file:
            return "docker"
        return "heavy" if file.rpartition("/")[2] in HEAVY_FILES else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> OneHeavyFileAtATime:
    """How pytest-xdist spreads tests over its processes."""
    return OneHeavyFileAtATime(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test marked `docker` is skipped where no engine answers, or an image of the mark is not to be had; CI fails."""
    marks = list(item.iter_markers("docker"))
    trouble = trouble_of_docker(tuple({image for mark in marks for image in mark.args})) if marks else None
    if trouble is None:
        return
    if os.environ.get("CI"):
        pytest.fail(NO_DOCKER + trouble, pytrace=False)
    pytest.skip(NO_DOCKER + trouble)


@cache
def trouble_of_docker(images: tuple[Image, ...]) -> str | None:
    return trouble_of_engine() or next(filter(None, map(trouble_of_image, images)), None)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """Say aloud, after all else, how many tests lacked Docker."""
    yield
    told = [each.longrepr[2] for each in terminalreporter.stats.get("skipped", ()) if isinstance(each.longrepr, tuple)]
    troubles = [text.partition(NO_DOCKER)[2] for text in told if NO_DOCKER in text]
    if troubles:
        terminalreporter.write_line(
            f"!! {len(troubles)} docker tests did not run: {troubles[0]}. To run them: start Docker, or set "
            'DOCKER_HOST, then make test ARGS="-m docker"; .ci/run starts an engine of its own',
            yellow=True,
            bold=True,
        )


# How long an example takes tells how busy the machine is, and nothing of the code.
settings.register_profile("trekkpaalegg", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("trekkpaalegg")


@pytest.fixture(scope="session")
def kafka() -> Iterator[EmbeddedKafka]:
    """One real broker for the session. Share it by `topic_prefix`; a test that stops it starts one of its own."""
    with EmbeddedKafka() as server:
        yield server


@pytest.fixture(scope="session")
def registry() -> Iterator[EmbeddedRegistry]:
    """One real schema registry for the session. Share it by `topic_prefix`, which subjects begin with."""
    with EmbeddedRegistry() as server:
        yield server


@pytest.fixture(scope="session")
def postgresql() -> Iterator[EmbeddedPostgresql]:
    """One real PostgreSQL for the session; a test makes a database or schema of its own in it."""
    with EmbeddedPostgresql() as server:
        yield server


@pytest.fixture(scope="session")
def program() -> Callable[[str], str]:
    """Path of a program of `DEBIAN_PACKAGES`; without it the test is skipped and the end tells so, in CI it fails."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            reason = f"{name} is not installed; on Debian and Ubuntu: sudo apt-get install {DEBIAN_PACKAGES[name]}"
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)
        return path

    return find


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """A command that was run in this process must not leave its logs to a stream that pytest has closed since."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def topic_prefix() -> str:
    """Start of every topic, group and transactional id of this test, so that tests can share one broker."""
    return f"test-{uuid.uuid4().hex[:12]}"
