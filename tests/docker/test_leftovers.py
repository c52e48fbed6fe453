"""Whatever ends the tests, their containers end with them, and so does the engine that `.ci/docker-engine` started."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from docker.client import DockerClient

from tests.kit.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECONDS_MAX = 60.0
PAUSE_SECONDS = 0.05
"""Between two questions to the engine, which cost it more than the tests."""
ENGINE = Path(__file__).parents[2] / ".ci" / "docker-engine"

DOCKER = shutil.which("docker") or "docker"
EMPTY_TAR = bytes(10_240)

PARENT = """
import time
from testcontainers.core.labels import LABEL_SESSION_ID, SESSION_ID
from tests.kit.containers.postgresql import ContainerPostgresql

print(f"{LABEL_SESSION_ID}={SESSION_ID}", flush=True)
with ContainerPostgresql():
    print("ready", flush=True)
    time.sleep(600)
"""


class Parent:
    """A process with a container, and what the engine has of it."""

    def __init__(self, engine: DockerClient) -> None:
        self._engine = engine
        self.process = subprocess.Popen(
            [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        assert self.process.stdout is not None
        self.label = self.process.stdout.readline().strip()

    def wait_until_ready(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def containers(self) -> list[str]:
        return [each["Id"] for each in self._engine.api.containers(all=True, filters={"label": self.label})]

    def volumes(self) -> set[str]:
        inspected = [self._engine.api.inspect_container(each) for each in self.containers()]
        return {mount["Name"] for each in inspected for mount in each["Mounts"] if mount["Type"] == "volume"}

    def volumes_left(self, names: set[str]) -> set[str]:
        return names & {each.name for each in self._engine.volumes.list()}


@pytest.fixture
def engine() -> Iterator[DockerClient]:
    client = DockerClient.from_env()
    yield client
    client.close()


@pytest.fixture
def parent(engine: DockerClient) -> Iterator[Parent]:
    made = Parent(engine)
    yield made
    made.process.kill()
    made.process.wait()
    made.process.stdout.close()
    for container in made.containers():
        engine.api.remove_container(container, force=True, v=True)


def test_a_parent_ended_by_sigkill_leaves_no_container_and_no_volume(parent: Parent) -> None:
    parent.wait_until_ready()
    volumes = parent.volumes()
    assert volumes
    parent.process.kill()
    until(lambda: not parent.containers(), SECONDS_MAX, pause_seconds=PAUSE_SECONDS)
    assert parent.volumes_left(volumes) == set()


def test_a_parent_ended_by_sigkill_while_its_container_is_being_made_leaves_none(parent: Parent) -> None:
    until(parent.containers, SECONDS_MAX, pause_seconds=PAUSE_SECONDS)
    parent.process.kill()
    until(lambda: not parent.containers(), SECONDS_MAX, pause_seconds=PAUSE_SECONDS)


def test_ctrl_c_removes_the_container(parent: Parent) -> None:
    parent.wait_until_ready()
    assert parent.containers()
    os.killpg(parent.process.pid, signal.SIGINT)
    parent.process.wait(SECONDS_MAX)
    assert parent.containers() == []


@pytest.fixture
def make_engine() -> Iterator[Callable[[subprocess.Popen[bytes]], tuple[Path, dict[str, str]]]]:
    """Starts an engine that ends with a process; gives its folder and an environment that leads to it."""
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        reason = "only root with Debian's docker.io installed can start an engine"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    # A socket's path must be short, which that of a test's own folder is not.
    folder = Path(tempfile.mkdtemp(prefix="trekkpaalegg-docker."))
    nobody = {"DOCKER_HOST": f"unix://{folder}/nobody.sock"}
    # In a network of its own: two engines in one would take each other's bridge and firewall rules away.
    alone = ["unshare", "--net"]

    def make(owner: subprocess.Popen[bytes]) -> tuple[Path, dict[str, str]]:
        start = [*alone, ENGINE, "start", folder, str(owner.pid)]
        told = subprocess.run(start, env=os.environ | nobody, stdout=subprocess.PIPE, text=True, check=True)
        assert told.stdout == f"export DOCKER_HOST=unix://{folder}/docker.sock\n"
        return folder, os.environ | {"DOCKER_HOST": f"unix://{folder}/docker.sock"}

    yield make
    subprocess.run([ENGINE, "stop", folder], check=True)


@pytest.fixture
def owner() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["/bin/sleep", "600"])
    yield process
    process.kill()
    process.wait()


def is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def test_an_engine_of_its_own_ends_with_its_owner_and_every_container_in_it(
    make_engine: Callable[[subprocess.Popen[bytes]], tuple[Path, dict[str, str]]], owner: subprocess.Popen[bytes]
) -> None:
    folder, environment = make_engine(owner)
    # An image with nothing in it: the program in the container is this machine's.
    image = subprocess.run([DOCKER, "import", "-"], env=environment, input=EMPTY_TAR, capture_output=True, check=True)
    programs = [f"--volume={each}:{each}:ro" for each in ("/bin", "/lib", "/lib64", "/usr") if Path(each).exists()]
    words = ["run", "--detach", "--network=none", *programs, image.stdout.decode().strip(), "/bin/sleep", "600"]
    container = docker(environment, *words)
    pids = [
        int(docker(environment, "inspect", "--format={{.State.Pid}}", container)),
        int((folder / "dockerd.pid").read_text()),
    ]
    assert not any(map(is_gone, pids))
    owner.kill()
    owner.wait()
    until(lambda: all(map(is_gone, pids)) and not folder.exists(), SECONDS_MAX)
    assert str(folder) not in Path("/proc/mounts").read_text()


def test_an_engine_is_stopped_at_once_and_nothing_stays(
    make_engine: Callable[[subprocess.Popen[bytes]], tuple[Path, dict[str, str]]], owner: subprocess.Popen[bytes]
) -> None:
    folder, environment = make_engine(owner)
    engine = int((folder / "dockerd.pid").read_text())
    watch = int((folder / "watch.pid").read_text())
    assert docker(environment, "ps", "--quiet") == ""
    subprocess.run([ENGINE, "stop", folder], check=True)
    assert is_gone(engine)
    assert not folder.exists()
    until(lambda: is_gone(watch), SECONDS_MAX)
    assert owner.poll() is None


def test_an_engine_that_answers_is_used_as_it_is(tmp_path: Path) -> None:
    told = subprocess.run([ENGINE, "start", tmp_path, str(os.getpid())], capture_output=True, text=True, check=True)
    assert (told.stdout, "one answers already" in told.stderr) == ("", True)
    assert list(tmp_path.iterdir()) == []


def docker(environment: dict[str, str], *words: str) -> str:
    ended = subprocess.run([DOCKER, *words], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()
