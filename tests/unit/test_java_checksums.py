"""No fetched Java file is used that is not the one which was chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sandbox.servers.java import FetchError, check_file

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", ["kafka_2.13-4.3.1.jar", "never-chosen.jar"])
def test_a_file_with_an_unlisted_checksum_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"something else")
    with pytest.raises(FetchError, match=name):
        check_file(tmp_path / name)
