"""What all tests share: the embedded servers, started once a session when a test asks, and what becomes of `docker`."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import uuid
from functools import cache
from typing import TYPE_CHECKING

import psycopg
import pytest
import sqlalchemy as sa
import structlog
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

from sandbox.servers.kafka import EmbeddedKafka
from sandbox.servers.postgresql import EmbeddedPostgresql
from sandbox.servers.registry import EmbeddedRegistry
from tests.kit.containers.engine import trouble_of_engine, trouble_of_image
from tests.kit.servers.mariadb import EmbeddedMariadb
from tests.kit.servers.secured_kafka import SecuredKafka
from tests.kit.servers.shared import SharedServers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from xdist.remote import Producer
    from xdist.workermanage import WorkerController

    from tests.kit.containers.images import Image

DEBIAN_PACKAGES = {"kcat": "kcat", "mariadbd": "mariadb-server-core", "promtool": "prometheus"}
"""Programs that tests use and Python packages do not bring, and the Debian package of each."""

NO_DOCKER = "no Docker: "

FOLDERS = ("e2e", "docker", "integration", "interoperability", "contract")
"""Those whose tests take longest, in this order; then the others."""

HEAVY_FILES = ("test_three_brokers", "test_demo")
"""Each takes a machine of two cores for minutes. Side by side they wait for one another past their deadlines."""

LONGEST_FILES = (
    "test_compose",
    *HEAVY_FILES,
    "test_bench",
    "test_kafka_refuses",
    "test_broker_trouble",
    "test_scale_out",
    "test_kafka_rights",
    "test_kafka_doors",
    "test_random_kills",
    "test_transaction_steps",
    "test_ledger_servers",
)
"""They take a minute or more each."""

SECURED_FILES = ("test_kafka_doors", "test_kafka_rights", "test_secrets_stay_secret")
"""They share one secured broker, and so one process."""

FILES_OF_LONG_TESTS = ("test_random_kills", "test_scale_out", "test_transaction_steps")
"""Whose tests share nothing but what all tests share, so that several processes can run them."""

SHARED_SERVERS = pytest.StashKey[SharedServers]()


# Every process of a run, and every program that it starts, imports the same modules, and pytest rewrites the assertions
# of every test file in each process. Bytecode on disk spares that, so it is kept whatever the environment says.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So it is below a shell's background job. Programs that tests start would inherit it, and not heed Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    """Servers are started by the process that pytest-xdist is controlled from, for all."""
    config.stash[SHARED_SERVERS] = SharedServers(getattr(config, "workerinput", {}).get("servers"))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: WorkerController) -> None:
    """Tell a process of pytest-xdist where to request them."""
    node.workerinput["servers"] = node.config.stash[SHARED_SERVERS].serve()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop them."""
    config.stash[SHARED_SERVERS].close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, then the folders whose tests take longest: what begins last should be short."""

    def place(item: pytest.Item) -> tuple[int, int]:
        name, folder = item.path.stem, item.path.parent.name
        return (
            LONGEST_FILES.index(name) if name in LONGEST_FILES else len(LONGEST_FILES),
            FOLDERS.index(folder) if folder in FOLDERS else len(FOLDERS),
        )

    items.sort(key=place)


class FilesAndLongTests(LoadScopeScheduling):
    """Each file to one process, as `--dist loadfile` does it, and each test of `FILES_OF_LONG_TESTS` to any.

    Of those that need Docker, `docker compose` goes to one process and all others to another, which share their
    containers. The heavy files go to the same process, and so do the secured ones.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        folder, _, name = file.removesuffix(".py").rpartition("/")
        if folder.endswith("/docker"):
            return "compose" if name == "test_compose" else "docker"
        if name in HEAVY_FILES:
            return "heavy"
        if name in SECURED_FILES:
            return "secured"
        return nodeid if name in FILES_OF_LONG_TESTS else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> FilesAndLongTests:
    """How pytest-xdist spreads tests over its processes."""
    return FilesAndLongTests(config, log)


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
settings.register_profile("short", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=50)
settings.register_profile("long", settings.get_profile("short"), max_examples=2000)
settings.load_profile("short")


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest) -> EmbeddedKafka:
    """One real broker for the run. Share it by `topic_prefix`; a test that stops it starts one of its own."""
    return request.config.stash[SHARED_SERVERS].get(EmbeddedKafka)


@pytest.fixture(scope="session")
def registry(request: pytest.FixtureRequest) -> EmbeddedRegistry:
    """One real schema registry for the run. Share it by `topic_prefix`, which subjects begin with."""
    return request.config.stash[SHARED_SERVERS].get(EmbeddedRegistry)


@pytest.fixture(scope="session")
def postgresql(request: pytest.FixtureRequest) -> EmbeddedPostgresql:
    """One real PostgreSQL for the run; a test makes a database or schema of its own in it."""
    return request.config.stash[SHARED_SERVERS].get(EmbeddedPostgresql)


@pytest.fixture(scope="session")
def secured() -> Iterator[SecuredKafka]:
    """One broker that grants nothing by itself, for the tests of `SECURED_FILES`; each has users of its own."""
    with SecuredKafka() as server:
        yield server


@pytest.fixture(scope="session")
def program() -> Callable[[str], str]:
    """Path of a program of `DEBIAN_PACKAGES`; without it the test is skipped and the end tells so, in CI it fails."""

    def find(name: str) -> str:
        path = shutil.which(name) or shutil.which(name, path="/usr/sbin")
        if path is None:
            reason = f"{name} is not installed; on Debian and Ubuntu: sudo apt-get install {DEBIAN_PACKAGES[name]}"
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)
        return path

    return find


@pytest.fixture(scope="session")
def mariadb(program: Callable[[str], str]) -> Iterator[EmbeddedMariadb]:
    """MariaDB with nothing in it; each test creates a database of its own."""
    with EmbeddedMariadb(program("mariadbd")) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.Engine]:
    """SQLAlchemy's engine, as a vendor makes it, on an empty database of each kind."""
    name = f"own_{uuid.uuid4().hex[:12]}"
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'own.db'}"
    elif request.param == "mariadb":
        url = request.getfixturevalue("mariadb").create_database(name)
    else:
        server: EmbeddedPostgresql = request.getfixturevalue("postgresql")
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}")
        url = f"{server.url.replace('postgresql:', 'postgresql+psycopg:')}?options=-csearch_path%3D{name}"
    engine = sa.create_engine(url)
    yield engine
    engine.dispose()


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """A command that was run in this process must not leave its logs to a stream that pytest has closed since."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def topic_prefix() -> str:
    """Start of every topic, group and transactional id of this test, so that tests can share one broker."""
    return f"test-{uuid.uuid4().hex[:12]}"
