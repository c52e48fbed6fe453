"""Builds a small Debian image from this machine's own apt source, as the base of all stand-ins."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from docker.errors import ImageNotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    import docker

SUITE = "bookworm"
BASE = f"stand-in/debian:{SUITE}"

_SOURCES = (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list"))
_ADDRESS = re.compile(r"^(?:URIs:|deb)\s(?:\s*\[[^]]*\])?\s*(https?://\S+)", re.MULTILINE)


def make_base(engine: docker.DockerClient, say: Callable[[str], None]) -> None:
    """Have the image `BASE`. Raises `OSError` that says what is missing, and Docker's own errors."""
    try:
        engine.images.get(BASE)
    except ImageNotFound:
        pass
    else:
        return
    debootstrap = shutil.which("debootstrap", path="/usr/local/sbin:/usr/sbin:/sbin:/usr/bin")
    if debootstrap is None:
        raise OSError("debootstrap is not installed; on Debian, as root: apt-get install debootstrap")
    say(f"Building {BASE} …")
    with tempfile.TemporaryDirectory(prefix="trekkpaalegg-debian-") as folder:
        root = Path(folder) / "root"
        made = subprocess.run(
            [debootstrap, "--variant=minbase", "--include=ca-certificates", SUITE, str(root), _apt_source()],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode != 0:
            raise OSError(f"debootstrap failed:\n{(made.stdout + made.stderr)[-2000:]}")
        for cached in (*root.glob("var/cache/apt/archives/*.deb"), *root.glob("var/lib/apt/lists/*_*")):
            cached.unlink()
        archive = Path(folder) / "root.tar"
        subprocess.run(["tar", "--numeric-owner", "-C", str(root), "-cf", str(archive), "."], check=True)
        repository, tag = BASE.split(":")
        engine.api.import_image_from_file(str(archive), repository=repository, tag=tag)


def _apt_source() -> str:
    """The first address of Debian's packages that this machine uses."""
    for sources in _SOURCES:
        found = _ADDRESS.search(sources.read_text(encoding="utf-8")) if sources.exists() else None
        if found:
            return found[1]
    raise OSError(f"no address of Debian's packages in {' or '.join(map(str, _SOURCES))}: stand-ins are made on Debian")
