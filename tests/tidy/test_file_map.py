"""The file maps in `producer/DESIGN.md` and `consumers/README.md` are the tree: every file once, and no other."""

from __future__ import annotations

from typing import Any

import pytest

MAPS = [("producer", "producer/DESIGN.md"), ("consumers", "consumers/README.md")]


def mapped(text: str, top: str) -> list[tuple[str, str]]:
    """Path and description of every file in the fenced block that begins with the name of the top folder."""
    block = text.split(f"```text\n{top}/\n")[1].split("```", maxsplit=1)[0]
    folders = [top]
    files = []
    for line in block.splitlines():
        name, _, description = line.strip().partition(" ")
        depth = (len(line) - len(line.lstrip())) // 2
        if name.endswith("/"):
            folders[depth:] = [name.rstrip("/")]
        else:
            files.append(("/".join([*folders[:depth], name]), description.strip()))
    return files


def test_the_rule_itself_reads_nested_folders() -> None:
    text = "```text\nproducer/\n  a.py  one\n  b/\n    c.py  two\n  d.py  three\n```"
    files = [("producer/a.py", "one"), ("producer/b/c.py", "two"), ("producer/d.py", "three")]
    assert mapped(text, "producer") == files


@pytest.mark.parametrize(("top", "document"), MAPS)
def test_the_map_is_the_tree(tree: Any, top: str, document: str) -> None:
    files = [path for path, _ in mapped(tree.text(document), top)]
    there = set(tree.python(top))
    assert {"missing": there - set(files), "gone": set(files) - there} == {"missing": set(), "gone": set()}
    assert len(files) == len(set(files))


@pytest.mark.parametrize(("top", "document"), MAPS)
def test_every_file_of_the_map_has_a_line_of_its_own(tree: Any, top: str, document: str) -> None:
    assert [path for path, description in mapped(tree.text(document), top) if not description] == []
