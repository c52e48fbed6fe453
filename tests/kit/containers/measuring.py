"""Measure how large the built images are, and how soon after `docker run` a container answers.

Times are medians of three runs, in seconds.

python -m tests.kit.containers.measuring
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from sandbox.cli.secrets import make_secrets
from sandbox.servers.server import free_port

if TYPE_CHECKING:
    from collections.abc import Sequence

_RUNS = 3
_DEADLINE_SECONDS = 60.0
_NAMES = {"producer": "PRODUCER", "consumer": "CONSUMER", "sandbox": "OUTSIDE"}


def main() -> None:
    """Measure all three and print the table."""
    with tempfile.TemporaryDirectory(prefix="trekkpaalegg-images-") as folder:
        secrets = Path(folder) / "secrets"
        make_secrets(secrets)
        key = str(secrets / "maskinporten_client_jwk")
        services = {
            # Nothing of what it talks to is there: it serves its health all the same, and says what is missing.
            "producer": (
                "/livez",
                [
                    f"--volume={key}:/run/secrets/key:ro",
                    "--env=TREKKPAALEGG_API_URL=http://127.0.0.1:1/v1",
                    "--env=TREKKPAALEGG_TREKKPLIKTIGE=357475856",
                    "--env=MASKINPORTEN_CLIENT_ID=sandbox-client",
                    "--env=MASKINPORTEN_CLIENT_JWK_FILE=/run/secrets/key",
                    "--env=MASKINPORTEN_WELL_KNOWN_URL=http://127.0.0.1:1/",
                    "--env=KAFKA_BROKERS=127.0.0.1:1",
                ],
                [],
            ),
            "consumer": (
                "/livez",
                [
                    "--env=TREKKPAALEGG_CONSUMER_HTTP_PORT=8080",
                    "--env=TREKKPAALEGG_LEDGER=sqlite:////var/lib/trekkpaalegg/ledger.db",
                    "--env=KAFKA_BROKERS=127.0.0.1:1",
                    "--tmpfs=/var/lib/trekkpaalegg:uid=10001",
                ],
                [],
            ),
            "sandbox": ("/control", [], ["api", "--host=0.0.0.0", "--control-port=8080"]),
        }
        print(f"{'image':<24}{'size':>8}{'--help':>10}{'answers HTTP':>15}")
        for program, (path, options, words) in services.items():
            image = os.environ.get(f"SANDBOX_{_NAMES[program]}_IMAGE") or f"trekkpaalegg-{program}"
            helps = statistics.median(_until_help(image) for _ in range(_RUNS))
            answers = statistics.median(_until_answer(image, path, options, words) for _ in range(_RUNS))
            print(f"{image:<24}{_size_megabytes(image):>5.0f} MB{helps:>8.1f} s{answers:>13.1f} s")


def _docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout


def _size_megabytes(image: str) -> float:
    return int(json.loads(_docker("image", "inspect", image))[0]["Size"]) / 1e6


def _until_help(image: str) -> float:
    begun = time.monotonic()
    _docker("run", "--rm", "--read-only", image, "--help")
    return time.monotonic() - begun


def _until_answer(image: str, path: str, options: Sequence[str], words: Sequence[str]) -> float:
    name, port = f"trekkpaalegg-measured-{uuid.uuid4().hex[:8]}", free_port()
    begun = time.monotonic()
    _docker(
        *(
            "run",
            "--detach",
            "--rm",
            "--read-only",
            "--tmpfs=/tmp",
            f"--name={name}",
            f"--publish=127.0.0.1:{port}:8080",
        ),
        *options,
        image,
        *words,
    )
    try:
        while time.monotonic() - begun < _DEADLINE_SECONDS:
            try:
                if httpx.get(f"http://127.0.0.1:{port}{path}", timeout=1).is_success:
                    return time.monotonic() - begun
            except httpx.TransportError:
                time.sleep(0.02)
        raise TimeoutError(f"{image} does not answer {path}:\n{_docker('logs', name)}")
    finally:
        _docker("rm", "--force", name)


if __name__ == "__main__":
    main()
