"""What is sent: the CloudEvent, its signature, and where it may go."""

from __future__ import annotations

import base64
import json
import re
from datetime import UTC, datetime, timedelta
from importlib.resources import files

import msgspec
import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_structured
from cloudevents.core.formats.json import JSONFormat
from standardwebhooks import Webhook, WebhookVerificationError

from consumers.webhook.cloudevent import CONTENT_TYPE, WebhookRequest, order_of, request_for
from consumers.webhook.delivery import PREFIX, Signer, address_fault, new_secret, shown
from tests.kit.event_stream import event_encoder, incoming_of, make_stream
from trekkpaalegg.errors import SettingsError, UndecodableError
from trekkpaalegg.event import TrekkpaaleggVersjon
from trekkpaalegg.identifiers import Foedselsnummer
from trekkpaalegg.incoming import Coordinates

(PUBLICATION,) = make_stream(1, 1, versions_max=1)
(INCOMING,) = incoming_of([PUBLICATION])
EVENT = INCOMING.event
HEADERS = {name: text.decode() for name, text in event_encoder().encode(PUBLICATION).headers.items()}
PERSON = PUBLICATION.trekkpaalegg.skyldner.reveal()


def parsed(request: WebhookRequest):
    return from_structured(HTTPMessage({"content-type": CONTENT_TYPE}, request.body), JSONFormat())


def test_attributes_are_those_of_the_message() -> None:
    event = parsed(request_for(EVENT, {**HEADERS, "ce_late": "true", "ce_correction": "2"}))
    attributes = event.get_attributes()
    assert attributes["id"] == HEADERS["ce_id"] == f"{EVENT.trekkid}/{EVENT.trekkversjon}"
    assert attributes["type"] == "trekkpaalegg.versjon.v1"
    assert attributes["source"] == HEADERS["ce_source"]
    assert attributes["subject"] == EVENT.trekkid
    assert attributes["time"] == EVENT.opprettet
    assert attributes["datacontenttype"] == "application/json"
    assert attributes["sekvensnummer"] == str(EVENT.sekvensnummer)
    assert attributes["trekkpliktig"] == EVENT.trekkpliktig
    assert (attributes["late"], attributes["correction"]) == ("true", "2")


def test_the_event_is_whole_with_money_as_text() -> None:
    """Every field of the schema, under its name there; a reader that makes it an event again gets the same."""
    data = json.loads(request_for(EVENT, HEADERS).body)["data"]
    assert set(data) == set(EVENT.__struct_fields__)
    assert data["skyldner"] == PERSON
    for periode, wanted in zip(data["trekkstoerrelse_for_periode"], EVENT.trekkstoerrelse_for_periode, strict=True):
        for name in ("trekkbeloep", "trekkprosent", "startdato", "sluttdato"):
            value = getattr(wanted, name)
            assert periode[name] == (None if value is None else str(value))
    again = msgspec.convert(data, TrekkpaaleggVersjon, strict=False, dec_hook=lambda kind, text: kind(text))
    assert again == EVENT


def test_the_national_id_is_in_the_body_alone() -> None:
    request = request_for(EVENT, HEADERS)
    headers = Signer(new_secret()).headers(request, datetime.now(UTC))
    assert PERSON.encode() in request.body
    assert PERSON not in f"{headers}{request.webhook_id}"


@pytest.mark.parametrize("name", ["ce_id", "ce_source", "ce_type", "ce_specversion"])
def test_a_message_without_its_headers_is_undecodable(name: str) -> None:
    headers = {each: text for each, text in HEADERS.items() if each != name}
    with pytest.raises(UndecodableError, match=name):
        request_for(EVENT, headers)


@pytest.mark.parametrize(
    ("name", "text"),
    [("ce_time", "yesterday"), ("ce_time", "2026-01-01T00:00:00"), ("ce_subject", "other"), ("ce_specversion", "2.0")],
)
def test_headers_that_make_no_sense_are_undecodable(name: str, text: str) -> None:
    with pytest.raises(UndecodableError, match=name.removeprefix("ce_")):
        request_for(EVENT, {**HEADERS, name: text})


def test_an_id_that_no_header_can_hold_is_percent_encoded() -> None:
    request = request_for(EVENT, {**HEADERS, "ce_id": "æ 1/2\r\nx: y"})
    assert request.webhook_id == "%C3%A6%201/2%0D%0Ax:%20y"
    assert parsed(request).get_id() == "æ 1/2\r\nx: y"


def test_the_signature_verifies_and_fails_when_anything_was_changed() -> None:
    secret = new_secret()
    request = request_for(EVENT, HEADERS)
    headers = Signer(secret).headers(request, datetime.now(UTC))
    Webhook(secret).verify(request.body, headers)
    tampered = [
        (secret, request.body.replace(b"kidnummer", b"kidnummeR"), headers),
        (secret, request.body, {**headers, "webhook-id": "other"}),
        (secret, request.body, {**headers, "webhook-timestamp": str(int(headers["webhook-timestamp"]) + 1)}),
        (new_secret(), request.body, headers),
    ]
    for with_secret, body, with_headers in tampered:
        with pytest.raises(WebhookVerificationError):
            Webhook(with_secret).verify(body, with_headers)


def test_an_old_signature_cannot_be_sent_again() -> None:
    secret = new_secret()
    request = request_for(EVENT, HEADERS)
    with pytest.raises(WebhookVerificationError, match="too old"):
        Webhook(secret).verify(request.body, Signer(secret).headers(request, datetime.now(UTC) - timedelta(minutes=10)))


def test_a_receiver_with_either_secret_verifies_while_one_is_changed_for_another() -> None:
    former, coming = new_secret(), new_secret()
    request = request_for(EVENT, HEADERS)
    headers = Signer(f"{former} {coming}").headers(request, datetime.now(UTC))
    Webhook(former).verify(request.body, headers)
    Webhook(coming).verify(request.body, headers)


@pytest.mark.parametrize(
    "text",
    ["", "   ", "hemmelig", PREFIX, f"{PREFIX}!!!", f"{PREFIX}c2hvcnQ=", PREFIX + base64.b64encode(b"x" * 65).decode()],
)
def test_a_secret_of_another_form_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(SettingsError, match=r"TREKKPAALEGG_FORWARD_SECRET: .*make one with .*webhook secret") as raised:
        Signer(text)
    told = str(raised.value)
    assert not [part for part in text.split() if len(part) > len(PREFIX) and part in told]


@pytest.mark.parametrize(
    ("url", "good"),
    [
        *(("https://payroll.example/trekk", True), ("http://127.0.0.1:8080/x", True), ("http://[::1]/x", True)),
        *(("http://localhost/x", True), ("http://127.9.9.9/", True), ("http://payroll.example/", False)),
        *(("http://127.0.0.1.example/", False), ("http://localhost.example/", False), ("http://10.0.0.1/", False)),
    ],
)
def test_national_ids_go_over_tls_or_stay_on_the_machine(url: str, *, good: bool) -> None:
    assert (address_fault(url, allow_plain_http=False) is None) == good
    assert address_fault(url, allow_plain_http=True) is None


def test_an_address_is_shown_without_what_may_be_secret() -> None:
    assert shown("https://payroll.example:8443/hook/token?key=secret") == "https://payroll.example:8443"


def test_the_order_is_the_key_and_messages_without_one_are_independent() -> None:
    place = Coordinates("topic", 2, 17)
    assert order_of(b"10001", place) == "10001"
    assert {order_of(key, place) for key in (None, b"", b"\xff", b"a\x00b")} == {"@topic/2/17"}
    assert len(order_of(b"x" * 5000, place)) == 65


def example(language: str) -> str:
    """The one block of this language in the README."""
    text = files("consumers.webhook").joinpath("README.md").read_text(encoding="utf-8")
    (block,) = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    return block


def test_the_body_in_the_readme_is_what_is_sent() -> None:
    shown = json.loads(example("json"))
    event = msgspec.convert(
        shown["data"], TrekkpaaleggVersjon, strict=False, dec_hook=lambda _, text: Foedselsnummer(text)
    )
    names = set(shown) - {"data", "datacontenttype"}
    headers = {**HEADERS, **{f"ce_{name}": shown[name] for name in names}}
    assert json.loads(request_for(event, headers).body) == shown


def test_the_receiver_in_the_readme_accepts_each_event_once(capsys: pytest.CaptureFixture) -> None:
    written: dict = {}
    exec(example("python"), written)  # noqa: S102 - that it runs is what is tested
    secret, seen = new_secret(), set()
    request = request_for(EVENT, HEADERS)
    headers = Signer(secret).headers(request, datetime.now(UTC))
    statuses = [written["receive"](secret, request.body, headers, seen) for _ in range(2)]
    assert statuses == [204, 204]
    assert capsys.readouterr().out == f"{EVENT.trekkid} {EVENT.trekkversjon} {EVENT.trekkstatus}\n"
    assert written["receive"](new_secret(), request.body, headers, seen) == 401
