"""A later program: the producer as it is, but with a second method by which hashes of contents are made.

Its arguments are those of the producer. It includes unknown fields, which the first method leaves out.
"""

from __future__ import annotations

import runpy
import sys
from hashlib import blake2b
from typing import TYPE_CHECKING

import producer.bootstrap  # noqa: F401 - all modules that know the number of the method
from producer.domain import content

if TYPE_CHECKING:
    from producer.domain.trekkpaalegg import Trekkpaalegg, Trekkstatus

SECOND = 2


def _second_method(trekkpaalegg: Trekkpaalegg, status: Trekkstatus) -> bytes:
    unknown = repr(sorted(trekkpaalegg.ukjente_felter.items())).encode()
    return blake2b(content.METHODS[1](trekkpaalegg, status) + unknown, digest_size=content.CONTENT_HASH_BYTES).digest()


def plant() -> None:
    """Make it the method of new hashes, in every module that has imported the number."""
    content.METHODS[SECOND] = _second_method
    content.content_hash.__kwdefaults__["method"] = SECOND
    for name, module in list(sys.modules.items()):
        if name.startswith("producer.") and hasattr(module, "CONTENT_HASH_VERSION"):
            setattr(module, "CONTENT_HASH_VERSION", SECOND)  # noqa: B010 - a constant, planted for a test


if __name__ == "__main__":
    plant()
    sys.argv[0] = "producer"
    runpy.run_module("producer", run_name="__main__")
