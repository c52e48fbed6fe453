"""Updates `schemas/openapi-sandbox-control.yaml` from the commands of the sandbox's control address."""

from __future__ import annotations

from pathlib import Path

import yaml

from sandbox.control.document import completed

FILE = Path(__file__).parents[2] / "schemas" / "openapi-sandbox-control.yaml"


class Plain(yaml.SafeDumper):
    """Writes equal parts out each time, as a person would read them."""

    def ignore_aliases(self, _data: object) -> bool:
        return True


if __name__ == "__main__":
    document = completed(yaml.safe_load(FILE.read_text(encoding="utf-8")))
    text = yaml.dump(document, Dumper=Plain, sort_keys=False, allow_unicode=True, width=110)
    FILE.write_text(text, encoding="utf-8")
