"""Compatibility of two schemas: every difference that would keep readers of one from reading the other, as a sentence.

The rule is FULL (each reads what the other wrote), which over every pair of versions is FULL_TRANSITIVE, and stricter
than Avro's where Avro would let a meaning change unseen:

1. logical type, precision and scale never change: a reader would take days for microseconds, or kroner for øre;
2. an enum symbol is never removed, though a default would let it be read: it would be read as something else;
3. the default of an enum is neither removed nor changed;
4. string and bytes are two types, though Avro reads each as the other.

The order of enum symbols, of fields and of union branches may change: Avro reads them by name. Aliases are not looked
at, so a new name is a field removed and another added.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from schemas import Schema

_LOGICAL = ("logicalType", "precision", "scale")
_NAMED = ("record", "enum", "fixed", "error")


def differences(older: Schema, newer: Schema) -> list[str]:
    """What forbids the two to live side by side: a sentence for each fault, the path of its field first."""
    comparison = _Comparison(older.parsed, newer.parsed)
    return list(comparison.of_types("", older.parsed, newer.parsed))


def differences_between_all(versions: Sequence[Schema]) -> list[str]:
    """The same for every pair of `versions` (oldest first), each sentence once."""
    found = (sentence for older, newer in combinations(versions, 2) for sentence in differences(older, newer))
    return list(dict.fromkeys(found))


class _Comparison:
    """One walk through two schemas side by side. Remembers the named types that it has met, so recursion ends."""

    def __init__(self, older: Any, newer: Any) -> None:  # noqa: ANN401 - Avro declares a type as text, list or object
        self._older_names = dict(_named_types(older))
        self._newer_names = dict(_named_types(newer))
        self._met: set[str] = set()

    def of_types(self, path: str, older: Any, newer: Any) -> Iterator[str]:  # noqa: ANN401 - as above
        """Faults between two declared types."""
        older = _resolved(older, self._older_names)
        newer = _resolved(newer, self._newer_names)
        if isinstance(older, list) and isinstance(newer, list):
            yield from self._of_unions(path, older, newer)
        elif _kind(older) != _kind(newer):
            yield f"{_at(path)}: the type changed from {_kind(older)} to {_kind(newer)}."
        else:
            yield from _of_logical_types(path, older, newer)
            yield from self._of_parts(path, older, newer)

    def _of_unions(self, path: str, older: list[Any], newer: list[Any]) -> Iterator[str]:
        older_branches = {_kind(branch): branch for branch in (_resolved(each, self._older_names) for each in older)}
        newer_branches = {_kind(branch): branch for branch in (_resolved(each, self._newer_names) for each in newer)}
        for kind in older_branches.keys() - newer_branches.keys():
            yield f"{_at(path)}: {kind} is no longer allowed, so older events could not be read."
        for kind in newer_branches.keys() - older_branches.keys():
            yield f"{_at(path)}: {kind} was not allowed before, so older readers could not read new events."
        for kind in older_branches.keys() & newer_branches.keys():
            yield from self.of_types(path, older_branches[kind], newer_branches[kind])

    def _of_parts(self, path: str, older: dict[str, Any], newer: dict[str, Any]) -> Iterator[str]:
        match older["type"]:
            case "array":
                yield from self.of_types(f"{path}[]", older["items"], newer["items"])
            case "map":
                yield from self.of_types(f"{path}{{}}", older["values"], newer["values"])
            case "enum":
                yield from _of_enums(path, older, newer)
            case "fixed" if older["size"] != newer["size"]:
                yield f"{_at(path)}: the size changed from {older['size']} to {newer['size']} bytes."
            case "record" if older["name"] not in self._met:
                self._met.add(older["name"])
                yield from self._of_records(path, older, newer)

    def _of_records(self, path: str, older: dict[str, Any], newer: dict[str, Any]) -> Iterator[str]:
        older_fields = {field["name"]: field for field in older["fields"]}
        newer_fields = {field["name"]: field for field in newer["fields"]}
        prefix = f"{path}." if path else ""
        for name, field in older_fields.items():
            if name in newer_fields:
                yield from self.of_types(prefix + name, field["type"], newer_fields[name]["type"])
            elif "default" not in field:
                yield f"{prefix}{name}: the field was removed, and older readers have no default for it."
        for name, field in newer_fields.items():
            if name not in older_fields and "default" not in field:
                yield f"{prefix}{name}: the field was added without a default, so older events could not be read."


def _of_logical_types(path: str, older: dict[str, Any], newer: dict[str, Any]) -> Iterator[str]:
    for attribute in _LOGICAL:
        before, after = older.get(attribute), newer.get(attribute)
        if attribute == "scale" and "decimal" in (older.get("logicalType"), newer.get("logicalType")):
            before, after = before or 0, after or 0
        if before != after:
            name = "logical type" if attribute == "logicalType" else attribute
            yield f"{_at(path)}: the {name} changed from {_or_none(before)} to {_or_none(after)}."


def _of_enums(path: str, older: dict[str, Any], newer: dict[str, Any]) -> Iterator[str]:
    for symbol in older["symbols"]:
        if symbol not in newer["symbols"]:
            yield f"{_at(path)}: the symbol {symbol} was removed, so older events would be read as something else."
    added = [symbol for symbol in newer["symbols"] if symbol not in older["symbols"]]
    if added and "default" not in older:
        yield f"{_at(path)}: the symbol {added[0]} was added, and older readers have no default to read it as."
    if "default" in older and older["default"] != newer.get("default"):
        yield f"{_at(path)}: the enum's default changed from {older['default']} to {_or_none(newer.get('default'))}."


def _at(path: str) -> str:
    return path or "the whole"


def _or_none(value: object) -> str:
    return "none" if value is None else str(value)


def _kind(declared: list[Any] | dict[str, Any]) -> str:
    if isinstance(declared, list):
        return "a union"
    return f"{declared['type']} {declared['name']}" if declared["type"] in _NAMED else str(declared["type"])


def _resolved(declared: Any, names: dict[str, Any]) -> Any:  # noqa: ANN401 - as above
    """A union as list, any other type as object: names followed to what they stand for."""
    if isinstance(declared, str):
        return names.get(declared, {"type": declared})
    if isinstance(declared, dict) and isinstance(declared["type"], (dict, list)):
        return _resolved(declared["type"], names)
    return declared


def _named_types(declared: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - as above
    if isinstance(declared, list):
        parts: Iterable[Any] = declared
    elif isinstance(declared, dict):
        if declared["type"] in _NAMED:
            yield declared["name"], declared
        parts = [declared["type"], declared.get("items"), declared.get("values")]
        parts += [field["type"] for field in declared.get("fields", ())]
    else:
        return
    for part in parts:
        yield from _named_types(part)
