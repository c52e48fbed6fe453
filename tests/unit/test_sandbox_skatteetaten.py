"""The simulated Skatteetaten's state, answers and faults, without a network."""

from __future__ import annotations

import itertools
import json
from datetime import date
from random import Random

import msgspec
import pytest

from sandbox.maskinporten.tokens import Token, TokenStore
from sandbox.skatteetaten.answer import BASE_PATH, SCOPE, AnswerDelivery, Request, answer
from sandbox.skatteetaten.faults import ErrorShape, Fault, FaultKind, Operation, rough_weather
from sandbox.skatteetaten.state import Skatteetaten

OURS, THEIRS, SUPPLIER = "310000001", "310000002", "310000003"
NOW = 1_790_000_000.0


class World:
    """A state, its tokens and a clock that moves only when it is set."""

    def __init__(self) -> None:
        self.now = NOW
        self.state = Skatteetaten(seed=1, clock=lambda: self.now)
        self.tokens = TokenStore(Random(1), lambda: self.now)
        self.text = {party: self.mint(party) for party in (OURS, THEIRS)}

    def mint(self, party, scope=SCOPE, life=100):
        return self.tokens.mint(Token(party, SUPPLIER, scope, "client", self.now + life))

    def ask(self, path="", query="", party=OURS, text=None, leave=True, method="GET", **headers):
        text = self.text[party] if text is None else text
        sent = {"authorization": f"Bearer {text}", "korrelasjonsid": "k-1", **headers}
        result = answer(self.state, self.tokens, Request(method, BASE_PATH + path, query, sent))
        if leave and result.supplier:
            self.state.leave(result.supplier)
        return result

    def page(self, after=0, most=100, party=OURS):
        result = self.ask(query=f"fraSekvensnummer={after}&maksAntall={most}", party=party)
        assert result.status == 200
        return json.loads(result.body)

    def kode(self, result):
        return result.status, json.loads(result.body).get("kode")


# The simulated Skatteetaten's state and answers, without a network


@pytest.fixture
def world():
    return World()


def numbers(page):
    return [element["sekvensnummer"] for element in page]


def test_a_list_holds_the_newest_version_of_each_order_of_the_tokens_organisation(world):
    first, second = world.state.create(OURS), world.state.create(OURS)
    world.state.create(THEIRS)
    changed = world.state.change(first.trekkid)
    page = world.page()
    assert [(each["trekkid"], each["trekkversjon"]) for each in page] == [(second.trekkid, 1), (changed.trekkid, 2)]


def test_a_list_may_show_the_orders_of_a_sub_unit_in_their_place(world):
    own, of_unit, last = world.state.create(OURS), world.state.create(THEIRS), world.state.create(OURS)
    assert numbers(world.page()) == [own.sekvensnummer, last.sekvensnummer]
    world.state.add_unit(OURS, THEIRS)
    assert numbers(world.page()) == [own.sekvensnummer, of_unit.sekvensnummer, last.sekvensnummer]
    assert numbers(world.page(own.sekvensnummer, 1)) == [of_unit.sekvensnummer]
    assert numbers(world.page(party=THEIRS)) == [of_unit.sekvensnummer]
    assert world.ask(f"/{of_unit.trekkid}/1").status == 200
    world.state.remove_unit(OURS, THEIRS)
    assert numbers(world.page()) == [own.sekvensnummer, last.sekvensnummer]
    assert world.ask(f"/{of_unit.trekkid}/1").status == 404


def test_fra_sekvensnummer_is_exclusive_and_maks_antall_limits(world):
    made = [world.state.create(OURS).sekvensnummer for _ in range(5)]
    assert numbers(world.page(made[1], 2)) == made[2:4]
    assert numbers(world.page(made[4])) == []
    assert numbers(json.loads(world.ask().body)) == made


@pytest.mark.parametrize(
    "query",
    [
        "fraSekvensnummer=1",
        "maksAntall=1",
        "fraSekvensnummer=-1&maksAntall=1",
        "fraSekvensnummer=0&maksAntall=0",
        "fraSekvensnummer=x&maksAntall=1",
        "fraSekvensnummer=&maksAntall=1",
        "fraSekvensnummer=1&fraSekvensnummer=2&maksAntall=1",
    ],
)
def test_wrong_parameters_are_refused_as_input(world, query):
    assert world.kode(world.ask(query=query)) == (400, "KB-006")


def test_a_page_limit_below_the_request_is_a_setting(world):
    made = [world.state.create(OURS).sekvensnummer for _ in range(5)]
    world.state.behaviour.maks_antall_cap = 2
    assert numbers(world.page(0, 100)) == made[:2]


def test_unsorted_answers_hold_the_same_elements(world):
    made = [world.state.create(OURS).sekvensnummer for _ in range(20)]
    world.state.behaviour.unsorted = True
    page = numbers(world.page())
    assert sorted(page) == made
    assert page != made


def test_an_empty_answer_is_an_empty_array_or_by_setting_no_body(world):
    assert world.ask().body == b"[]"
    world.state.behaviour.empty_body = True
    result = world.ask()
    assert (result.status, result.body) == (200, b"")


def test_sekvensnummer_has_gaps(world):
    made = [world.state.create(OURS).sekvensnummer for _ in range(50)]
    steps = {after - before for before, after in itertools.pairwise(made)}
    assert steps == {1, 2, 3, 4}


def test_old_versions_can_be_fetched_by_number_and_unknown_ones_are_404(world):
    order = world.state.create(OURS)
    world.state.change(order.trekkid)
    assert json.loads(world.ask(f"/{order.trekkid}/1").body)["trekkversjon"] == 1
    assert json.loads(world.ask(f"/{order.trekkid}/2").body)["trekkversjon"] == 2
    assert world.kode(world.ask(f"/{order.trekkid}/3")) == (404, "KB-007")
    assert world.kode(world.ask(f"/{order.trekkid}/1", party=THEIRS)) == (404, "KB-007")
    assert world.kode(world.ask("/unknown/1")) == (404, "KB-007")
    assert world.kode(world.ask(f"/{order.trekkid}/x")) == (400, "KB-006")
    assert world.kode(world.ask(f"/{order.trekkid}/0")) == (400, "KB-006")
    assert world.kode(world.ask("/a/b/c")) == (404, "KB-003")
    assert world.kode(world.ask(f"/{'9' * 30}/{'9' * 30}")) == (400, "KB-006")


def test_a_percent_encoded_trekkid_is_understood(world):
    world.state.create(OURS, {"trekkid": "a/b æ"})
    assert json.loads(world.ask("/a%2Fb%20%C3%A6/1").body)["trekkid"] == "a/b æ"


def test_no_token_an_unknown_or_expired_one_is_401_and_a_wrong_scope_403(world):
    assert world.kode(world.ask(text="")) == (401, "KB-004")
    assert world.kode(world.ask(text="nonsense")) == (401, "KB-004")
    assert world.kode(world.ask(text=world.mint(OURS, "skatteetaten:other"))) == (403, "KB-005")
    world.now += 101
    assert world.kode(world.ask()) == (401, "KB-004")


def test_only_json_and_only_get_are_served(world):
    assert world.kode(world.ask(accept="application/xml")) == (406, "KB-008")
    assert world.ask(accept="application/json").status == 200
    assert world.ask(method="POST").status == 405


def test_the_correlation_id_comes_back_in_header_and_error(world):
    assert world.ask().headers["korrelasjonsid"] == "k-1"
    assert json.loads(world.ask("/x/1").body)["korrelasjonsid"] == "k-1"


def test_a_hidden_version_appears_late_with_its_old_sekvensnummer(world):
    late = world.state.create(OURS, visible=False)
    seen = world.state.create(OURS)
    assert numbers(world.page()) == [seen.sekvensnummer]
    assert world.ask(f"/{late.trekkid}/1").status == 404
    world.state.reveal(late.trekkid, 1)
    assert late.sekvensnummer < seen.sekvensnummer
    assert numbers(world.page()) == [late.sekvensnummer, seen.sekvensnummer]


def test_a_hidden_change_leaves_the_former_version_in_the_list_until_it_appears(world):
    order = world.state.create(OURS)
    world.state.change(order.trekkid, visible=False)
    third = world.state.change(order.trekkid, visible=False)
    assert [each["trekkversjon"] for each in world.page()] == [1]
    world.state.reveal(order.trekkid, 3)
    assert numbers(world.page()) == [third.sekvensnummer]
    assert world.ask(f"/{order.trekkid}/2").status == 404
    world.state.reveal(order.trekkid, 2)
    assert [each["trekkversjon"] for each in world.page()] == [3]
    assert world.ask(f"/{order.trekkid}/2").status == 200


def test_a_forgotten_version_is_404_by_number_until_it_is_restored(world):
    order = world.state.create(OURS)
    world.state.change(order.trekkid)
    world.state.forget(order.trekkid, 1)
    assert world.ask(f"/{order.trekkid}/1").status == 404
    assert (order.trekkid, 1) not in world.state.identities()
    world.state.restore(order.trekkid, 1)
    assert world.ask(f"/{order.trekkid}/1").status == 200


def test_a_moved_order_changes_lists_and_its_past_can_be_fetched_by_both(world):
    order = world.state.create(OURS)
    moved = world.state.move(order.trekkid, THEIRS)
    assert world.page() == []
    assert numbers(world.page(party=THEIRS)) == [moved.sekvensnummer]
    assert world.ask(f"/{order.trekkid}/1", party=THEIRS).status == 200
    assert world.ask(f"/{order.trekkid}/1").status == 200
    assert world.ask(f"/{order.trekkid}/2").status == 404


def test_an_order_can_be_in_the_list_of_an_employer_that_it_does_not_name(world):
    wire = json.loads(world.state.create(THEIRS).body)
    world.state.put({**wire, "trekkid": "x", "sekvensnummer": 99}, listed_for=OURS)
    assert [each["trekkpliktig"] for each in world.page()] == [THEIRS]


def test_a_removed_order_is_nowhere(world):
    order = world.state.create(OURS)
    world.state.remove(order.trekkid)
    assert world.page() == []
    assert world.ask(f"/{order.trekkid}/1").status == 404
    assert world.state.identities() == set()


def test_the_same_version_is_never_made_twice(world):
    order = world.state.create(OURS)
    with pytest.raises(ValueError, match="already"):
        world.state.put(json.loads(order.body))


def test_rewritten_content_keeps_its_numbers(world):
    order = world.state.create(OURS)
    world.state.rewrite(order.trekkid, 1, {"saksnummer": "changed"})
    element = world.page()[0]
    assert (element["saksnummer"], element["sekvensnummer"]) == ("changed", order.sekvensnummer)
    assert json.loads(world.ask(f"/{order.trekkid}/1").body)["saksnummer"] == "changed"


def test_any_text_can_be_planted_in_a_list_or_replace_a_version(world):
    order = world.state.create(OURS)
    planted = world.state.plant(OURS, '"no object"', sekvensnummer=0)
    world.state.replace_raw(order.trekkid, 1, '{"trekkid": 1}')
    assert world.ask().body == b'["no object",{"trekkid": 1}]'
    world.state.uproot(planted)
    assert world.ask().body == b'[{"trekkid": 1}]'


def test_midnight_ends_orders_whose_periods_have_passed_in_either_way(world):
    over = {"trekkstoerrelseForPeriode": [{"startdato": "20260101", "sluttdato": "20260131"}]}
    ended, running = world.state.create(OURS, over), world.state.create(OURS)
    world.state.plant(OURS, "not even json")
    changed = world.state.switch_status_at_midnight(date(2026, 1, 31), as_new_version=False)
    assert changed == []
    world.state.switch_status_at_midnight(date(2026, 2, 1), as_new_version=False)
    assert json.loads(world.ask(f"/{ended.trekkid}/1").body)["trekkstatus"] == "avsluttet"
    again = world.state.create(OURS, over)
    world.state.switch_status_at_midnight(date(2026, 2, 1), as_new_version=True)
    assert json.loads(world.ask(f"/{again.trekkid}/2").body)["trekkstatus"] == "avsluttet"
    assert world.ask(f"/{running.trekkid}/2").status == 404


def test_more_than_five_concurrent_calls_of_a_supplier_are_refused_and_the_maximum_is_recorded(world):
    statuses = [world.ask(party=party, leave=False).status for party in (OURS, THEIRS) * 3]
    assert statuses == [200] * 5 + [429]
    assert world.state.simultaneous_max == 6
    for _ in statuses:
        world.state.leave(SUPPLIER)
    assert world.ask().status == 200


def test_calls_are_counted_by_operation_and_outcome_and_remembered(world):
    world.ask(query="fraSekvensnummer=0&maksAntall=1", klientid="us/1")
    world.ask("/x/1")
    world.ask("/nowhere")
    assert world.state.summary()["calls"] == {"list": {"200": 1}, "version": {"404": 1}, "other": {"404": 1}}
    call = world.state.calls[0]
    assert (call.party, call.query, call.klientid) == (OURS, "fraSekvensnummer=0&maksAntall=1", "us/1")
    world.state.forget_calls()
    assert world.state.summary()["calls"] == {}


# The simulated Skatteetaten's faults, and the shapes of its errors, without a network


def test_a_scripted_fault_strikes_once_where_it_fits(world):
    world.state.add_fault(Fault(FaultKind.STATUS, Operation.LIST, OURS, status=503, seconds=7))
    assert world.ask("/x/1").status == 404
    assert world.ask(party=THEIRS).status == 200
    struck = world.ask()
    assert (struck.status, struck.headers["retry-after"]) == (503, "7")
    assert world.ask().status == 200
    assert world.state.summary()["faults"] == {"503": 1}


def test_a_fault_may_concern_one_order_or_one_version_alone(world):
    order, other = world.state.create(OURS), world.state.create(OURS)
    world.state.change(order.trekkid)
    world.state.add_fault(Fault(FaultKind.STATUS, times=None, status=451, trekkid=order.trekkid, trekkversjon=1))
    world.state.add_fault(Fault(FaultKind.STATUS, times=None, status=409, trekkid=other.trekkid))
    paths = (f"/{order.trekkid}/1", f"/{order.trekkid}/2", f"/{other.trekkid}/1", f"/{other.trekkid}/x", "")
    assert [world.ask(path).status for path in paths] == [451, 200, 409, 409, 200]


def test_retry_after_can_be_an_http_date(world):
    world.state.add_fault(Fault(FaultKind.STATUS, status=429, seconds=60, as_http_date=True))
    assert world.ask().headers["retry-after"] == "Mon, 21 Sep 2026 14:14:20 GMT"


def test_a_fault_may_wait_and_may_last(world):
    world.state.add_fault(Fault(FaultKind.STATUS, after=1, times=2, status=500))
    assert [world.ask().status for _ in range(4)] == [200, 500, 500, 200]


def test_faults_by_rate_repeat_with_the_seed():
    def statuses():
        world = World()
        world.state.add_fault(Fault(FaultKind.STATUS, times=None, rate=0.3, status=500))
        return [world.ask().status for _ in range(200)]

    seen = statuses()
    assert 30 < seen.count(500) < 90
    assert seen == statuses()


def test_random_faults_include_every_temporary_one_at_about_the_given_rate(world):
    for fault in rough_weather(0.5):
        world.state.add_fault(fault)
    for _ in range(500):
        world.text[OURS] = world.mint(OURS)
        world.ask()
    struck = world.state.summary()["faults"]
    assert set(struck) == {"delay", "429", "500", "503", "reset", "truncated", "expired_token", "body"}
    assert 150 < sum(struck.values()) < 280


def test_one_organisation_can_be_forbidden_and_allowed_again(world):
    world.state.forbid(OURS)
    assert [world.ask().status, world.ask().status, world.ask(party=THEIRS).status] == [403, 403, 200]
    world.state.allow(OURS)
    assert world.ask().status == 200


def test_an_early_expired_token_stays_expired(world):
    world.state.add_fault(Fault(FaultKind.EXPIRED_TOKEN))
    assert [world.ask().status, world.ask().status] == [401, 401]
    world.text[OURS] = world.mint(OURS)
    assert world.ask().status == 200


def test_a_delay_goes_together_with_another_fault(world):
    world.state.add_fault(Fault(FaultKind.DELAY, seconds=0.5))
    world.state.add_fault(Fault(FaultKind.STATUS, status=500))
    result = world.ask()
    assert (result.delay_seconds, result.status) == (0.5, 500)


def test_broken_connections_are_reported_by_the_delivery(world):
    world.state.create(OURS)
    world.state.add_fault(Fault(FaultKind.RESET))
    world.state.add_fault(Fault(FaultKind.TRUNCATED))
    world.state.add_fault(Fault(FaultKind.FILLER, size_bytes=1000))
    reset, truncated, filler = world.ask(), world.ask(), world.ask()
    assert (reset.delivery, reset.body) == (AnswerDelivery.RESET, b"")
    assert truncated.delivery is AnswerDelivery.TRUNCATED
    assert json.loads(truncated.body)
    assert (filler.delivery, filler.filler_bytes) == (AnswerDelivery.FILLER, 1000)
    assert world.state.summary()["calls"]["list"] == {"reset": 1, "truncated": 1, "filler": 1}


def test_any_body_can_replace_an_answer(world):
    world.state.add_fault(Fault(FaultKind.BODY, body="<html>", content_type="text/html"))
    result = world.ask()
    assert (result.status, result.body, result.headers["content-type"]) == (200, b"<html>", "text/html")


@pytest.mark.parametrize(
    ("shape", "check"),
    [
        (ErrorShape.KODE, lambda body: json.loads(body)["korrelasjonsid"] == "k-1"),
        (ErrorShape.KODE_INTEGER, lambda body: isinstance(json.loads(body)["korrelasjonsid"], int)),
        (ErrorShape.PROBLEM, lambda body: json.loads(body)["status"] == 404),
        (ErrorShape.PLAIN, lambda body: body.decode().startswith("Fant")),
        (ErrorShape.NONE, lambda body: body == b""),
    ],
)
def test_error_bodies_come_in_every_documented_shape(world, shape, check):
    world.state.behaviour.error_shape = shape
    result = world.ask("/x/1")
    assert result.status == 404
    assert check(result.body)


def test_mixed_error_shapes_are_all_seen(world):
    world.state.behaviour.error_shape = ErrorShape.MIXED
    kinds = {world.ask("/x/1").headers.get("content-type") for _ in range(100)}
    assert len(kinds) == 4


def test_a_fault_with_an_unknown_field_is_refused():
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"kind": "delay", "second": 3}, Fault)
