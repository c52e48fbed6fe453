"""The file map in `producer/DESIGN.md` is the tree: every file once, and no other."""

from __future__ import annotations

from typing import Any

DESIGN = "producer/DESIGN.md"


def mapped(text: str) -> list[tuple[str, str]]:
    """Path and description of every file in the fenced block that begins with `producer/`."""
    block = text.split("```text\nproducer/\n")[1].split("```", maxsplit=1)[0]
    folders = ["producer"]
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
    assert mapped(text) == [("producer/a.py", "one"), ("producer/b/c.py", "two"), ("producer/d.py", "three")]


def test_the_map_is_the_tree(tree: Any) -> None:
    files = [path for path, _ in mapped(tree.text(DESIGN))]
    there = set(tree.python("producer"))
    assert {"missing": there - set(files), "gone": set(files) - there} == {"missing": set(), "gone": set()}
    assert len(files) == len(set(files))


def test_every_file_of_the_map_has_a_line_of_its_own(tree: Any) -> None:
    assert [path for path, description in mapped(tree.text(DESIGN)) if not description] == []
