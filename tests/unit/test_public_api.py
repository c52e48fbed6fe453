"""The public API of the library is what `trekkpaalegg.PUBLIC_API` lists, and importing it costs next to nothing."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib import import_module

import pytest

import trekkpaalegg
import trekkpaalegg.exactly_once

# What a vendor's code relies on: a change here is a change of the public API, and belongs in the changelog.
SIGNATURES = {
    "ExactlyOnce": "(engine, kafka, group, *, topic, decoder, tables, undecodable_max, batch_records_max, instance_id,"
    " report)",
    "ExactlyOnce.create_tables": "(self)",
    "ExactlyOnce.run": "(self, handler, *, stop, until_end)",
    "ExactlyOnce.undecodable": "(self)",
    "ExactlyOnce.retry_undecodable": "(self, handler)",
    "define_tables": "(metadata, *, prefix, schema)",
}


@pytest.mark.parametrize(
    ("module", "name"), [(m, name) for m, names in trekkpaalegg.PUBLIC_API.items() for name in names]
)
def test_every_public_name_exists_and_is_documented(module: str, name: str) -> None:
    assert inspect.getdoc(getattr(import_module(module), name))


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_public_signature_does_not_change_unnoticed(name: str) -> None:
    found = trekkpaalegg.exactly_once
    for part in name.split("."):
        found = getattr(found, part)
    parameters = []
    for each in inspect.signature(found).parameters.values():
        if each.kind is inspect.Parameter.KEYWORD_ONLY and "*" not in parameters:
            parameters.append("*")
        parameters.append(each.name)
    assert f"({', '.join(parameters)})" == SIGNATURES[name]


def test_the_package_exports_what_the_list_says() -> None:
    assert sorted(trekkpaalegg.exactly_once.__all__) == sorted(trekkpaalegg.PUBLIC_API["trekkpaalegg.exactly_once"])
    with pytest.raises(AttributeError, match="Exactly"):
        _ = trekkpaalegg.exactly_once.Exactly


def test_importing_the_package_imports_nothing_heavy() -> None:
    program = "import sys, trekkpaalegg.exactly_once; print(*(sys.modules.keys() & {'sqlalchemy', 'confluent_kafka'}))"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == ""
