"""Writes the package's metadata and its programs into a folder, as an installer would, from `pyproject.toml`.

An image holds only some of the packages of the project, so they are copied, not installed. But the producer sends its
version to Skatteetaten, and reads it from the metadata.

    python write_metadata.py FOLDER PROGRAM...
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path


def main(folder: Path, programs: list[str]) -> None:
    """Write the metadata beside the packages in `folder`, and the programs into its `bin`."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    entries = {program: project["scripts"][program] for program in programs}
    name, version = project["name"], project["version"]
    metadata = folder / f"{re.sub('[-_.]+', '_', name)}-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\nLicense-Expression: {project['license']}\n"
    )
    lines = [f"{program} = {entry}\n" for program, entry in entries.items()]
    (metadata / "entry_points.txt").write_text("[console_scripts]\n" + "".join(lines))
    (folder / "bin").mkdir()
    for program, entry in entries.items():
        module, function = entry.split(":")
        path = folder / "bin" / program
        path.write_text(f"#!/opt/venv/bin/python\nfrom {module} import {function}\n\n{function}()\n")
        path.chmod(0o755)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
