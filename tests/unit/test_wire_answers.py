"""Responses of the API: which hold elements, and which are no answer and are requested again."""

from __future__ import annotations

import pytest

from producer.domain.trekkpaalegg import Rejected, Trekkpaalegg
from producer.source.parse.page import read_elements, read_trekkpaalegg
from tests.unit.wire_elements import OTHER, PLAIN, SKYLDNER, TREKKPLIKTIG, changed, encoded
from trekkpaalegg.errors import RetryableError


@pytest.mark.parametrize("body", [b"", b" \r\n", b"[]", b" [ ] ", b"\xef\xbb\xbf[]"])
def test_an_empty_answer_holds_no_element(body: bytes) -> None:
    assert read_elements(body, TREKKPLIKTIG) == []


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"<html>Logg inn " + SKYLDNER.encode(), "markup"),
        (b'{"kode":"KB-001"}', "a JSON object"),
        (b"null", "something else"),
        (encoded([PLAIN, OTHER])[:-1], "a JSON array"),
        (encoded([PLAIN, OTHER])[:-200], "a JSON array"),
        (encoded([PLAIN]) + b"]", "a JSON array"),
        (b'[{"trekkid": "\\ud800"', "a JSON array"),
        (b"[" * 100_000, "a JSON array"),
        (b"\xff\xfe[", "something else"),
    ],
)
def test_a_body_that_is_no_array_or_cut_off_is_described_without_its_content(body: bytes, told: str) -> None:
    with pytest.raises(RetryableError) as caught:
        read_elements(body, TREKKPLIKTIG, "text/HTML; charset=utf-8")
    assert f"text/html, {len(body)} bytes, begins as {told}" in str(caught.value)
    assert SKYLDNER not in str(caught.value)


@pytest.mark.parametrize(
    "body", [b'[{"partIdentifikator":"1","aapentKravMedGjenstaaendeBeloep":[]}]', b"[1,2]", b"[{}]"]
)
def test_objects_of_another_api_are_recognised(body: bytes) -> None:
    with pytest.raises(RetryableError, match="another API's objects"):
        read_elements(body, TREKKPLIKTIG)


def test_one_object_with_a_sekvensnummer_is_enough_to_believe_a_page() -> None:
    first, second = read_elements(b'[{"partIdentifikator":"1"},{"sekvensnummer":"x"}]', TREKKPLIKTIG)
    assert isinstance(first, Rejected)
    assert isinstance(second, Rejected)


def test_a_single_answer_is_one_object() -> None:
    assert isinstance(read_trekkpaalegg(encoded(PLAIN), TREKKPLIKTIG), Trekkpaalegg)
    assert isinstance(read_trekkpaalegg(encoded(changed(opprettet="x")), TREKKPLIKTIG), Rejected)
    for body in (encoded([PLAIN]), b"", b"<html>", encoded(PLAIN)[:-1], b'{"kode":"KB-001"}'):
        with pytest.raises(RetryableError, match="no trekkpålegg"):
            read_trekkpaalegg(body, TREKKPLIKTIG)
