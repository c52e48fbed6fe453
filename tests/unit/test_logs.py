"""Logs: JSON lines from structlog and from the standard library, without national ids, by whatever way they come in."""

from __future__ import annotations

import io
import json
import logging
import warnings
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from trekkpaalegg.identifiers import Foedselsnummer
from trekkpaalegg.logs import configure_logs

if TYPE_CHECKING:
    from collections.abc import Iterator

SKYLDNER = "01810112345"


@pytest.fixture
def lines() -> Iterator[Any]:
    """Everything logged since, parsed."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    stream = io.StringIO()
    configure_logs(stream=stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def test_an_entry_is_one_json_object_with_its_fields(lines: Any) -> None:
    structlog.get_logger("producer.lane.lane").info("lane acquired", lane=3, trekkpliktig="312345609", årsak="ø")
    (entry,) = lines()
    assert entry.pop("timestamp").endswith("Z")
    assert entry == {
        "event": "lane acquired",
        "lane": 3,
        "trekkpliktig": "312345609",
        "årsak": "ø",
        "level": "info",
        "logger": "producer.lane.lane",
    }


def test_entries_of_libraries_have_the_same_form(lines: Any) -> None:
    logging.getLogger("some.library").warning("retry %d of %s", 2, "three")
    (entry,) = lines()
    assert (entry["event"], entry["level"], entry["logger"]) == ("retry 2 of three", "warning", "some.library")


@pytest.mark.parametrize(
    "fields",
    [
        {"event": f"order of {SKYLDNER} seen"},
        {"event": "x", "skyldner": SKYLDNER},
        {"event": "x", "skyldner": Foedselsnummer(SKYLDNER)},
        {"event": "x", "nested": {"list": [("deep", SKYLDNER)]}},
        {"event": "x", "keyed": {SKYLDNER: 1}},
        {"event": "x", "raw": f'{{"skyldner":"{SKYLDNER}"}}'.encode()},
        {"event": "x", "error": ValueError(SKYLDNER)},
        {"event": "x", "set": {SKYLDNER}},
    ],
)
def test_a_national_id_is_masked_in_every_field(lines: Any, fields: dict[str, Any]) -> None:
    structlog.get_logger().warning(**fields)
    text = json.dumps(lines())
    assert SKYLDNER not in text
    assert "***********" in text


def test_a_national_id_in_a_traceback_or_an_argument_of_a_library_is_masked(lines: Any) -> None:
    try:
        _ = {}[SKYLDNER]
    except KeyError:
        structlog.get_logger().exception("failed")
        logging.getLogger("some.library").exception("failed on %s", SKYLDNER)
    first, second = lines()
    assert "KeyError: '***********'" in first["exception"]
    assert second["event"] == "failed on ***********"
    assert SKYLDNER not in json.dumps([first, second])


@pytest.mark.parametrize("written", ["018101 12345", "018101-12345"])
def test_a_national_id_written_in_two_parts_is_masked(lines: Any, written: str) -> None:
    structlog.get_logger().warning("x", text=f"skyldner {written}")
    assert lines()[0]["text"] == "skyldner ***********"


def test_numbers_of_another_length_and_identifiers_stay_whole(lines: Any) -> None:
    korrelasjonsid = "7b1d0f7e-0000-4000-8000-12345678901a"
    structlog.get_logger().info("x", korrelasjonsid=korrelasjonsid, micros="1795460302033000", orgnummer="312345609")
    (entry,) = lines()
    assert (entry["korrelasjonsid"], entry["micros"]) == (korrelasjonsid, "1795460302033000")


def test_chatty_libraries_are_quiet_and_warnings_are_entries(lines: Any) -> None:
    logging.getLogger("httpx").info("HTTP Request: GET https://host/secret-path")
    logging.getLogger("uvicorn.access").warning("GET /notifications/secret")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("odd", UserWarning, stacklevel=1)
    (entry,) = lines()
    assert entry["logger"] == "py.warnings"


def test_entries_below_the_level_are_left_out(lines: Any) -> None:
    structlog.get_logger("a").debug("unseen")
    assert lines() == []
