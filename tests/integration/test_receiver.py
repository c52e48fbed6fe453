"""The receiver of notifications over real HTTP; where wake-ups are stored is a list, and sometimes out of reach."""

from __future__ import annotations

import json
import uuid
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from producer.notifications.receiver import Gate, Receiver, receiver_server
from producer.observe.prometheus import PrometheusObserver
from trekkpaalegg.errors import RetryableError

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "s" * 40
OURS, FOREIGN = "314159265", "271828182"
CONTENT_TYPE = {"Content-Type": "application/json; charset=utf-8"}


class Store:
    """Keeps what was stored; while `reachable` is False nothing is."""

    def __init__(self) -> None:
        self.stored: list[tuple[str, bytes | None]] = []
        self.reachable = True

    def begin(self, trekkpliktig: str, value: bytes | None) -> Future[None]:
        future: Future[None] = Future()
        if self.reachable:
            self.stored.append((trekkpliktig, value))
            future.set_result(None)
        else:
            future.set_exception(RetryableError("Kafka is away"))
        return future


class Post:
    """Calls the receiver, and looks into what it counted."""

    def __init__(self, client: httpx.Client, store: Store, observer: PrometheusObserver) -> None:
        self.store = store
        self._client = client
        self._observer = observer

    def event(self, secret: str = SECRET, **changes: Any) -> httpx.Response:
        return self._client.post(f"/notifications/{secret}", json=event(**changes))

    def raw(self, content: bytes, headers: dict[str, str] | None = None) -> httpx.Response:
        return self._client.post(f"/notifications/{SECRET}", content=content, headers=headers or CONTENT_TYPE)

    def count(self, outcome: str) -> float:
        return self._observer.registry.get_sample_value("trekkpaalegg_notifications_total", {"outcome": outcome}) or 0.0


def event(**changes: Any) -> dict[str, Any]:
    made = {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),
        "type": "dialogporten.dialog.updated.v1",
        "time": "2026-11-25T10:00:00Z",
        "resource": "urn:altinn:resource:ske-informasjon-om-trekkpaalegg",
        "resourceinstance": str(uuid.uuid4()),
        "subject": f"urn:altinn:organization:identifier-no:{OURS}",
        "source": "https://platform.altinn.no/dialogporten/api/v1/enduser/dialogs/x",
        **changes,
    }
    return {name: value for name, value in made.items() if value is not None}


@pytest.fixture
def observer() -> PrometheusObserver:
    return PrometheusObserver()


@pytest.fixture
def post(observer: PrometheusObserver) -> Iterator[Post]:
    store = Store()
    receiver = Receiver(Gate(SECRET, [], 100_000), {OURS}, store, observer)
    with (
        receiver_server(receiver, host="127.0.0.1", port=0, proxies=()) as server,
        httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=30) as client,
    ):
        yield Post(client, store, observer)


def test_an_event_about_one_of_ours_is_stored_before_it_is_answered(post: Post) -> None:
    told = event()
    assert post.raw(json.dumps(told).encode()).status_code == 200
    [(trekkpliktig, value)] = post.store.stored
    assert (trekkpliktig, json.loads(value or b"")["id"]) == (OURS, told["id"])
    assert post.count("wake_up") == 1


def test_the_binary_mode_of_cloudevents_wakes_too(post: Post) -> None:
    headers = {f"ce-{name}": str(value) for name, value in event().items()}
    assert post.raw(b'{"any": "data"}', headers).status_code == 200
    assert [each for each, _ in post.store.stored] == [OURS]


def test_what_cannot_be_stored_is_not_acknowledged_and_is_taken_when_it_comes_again(post: Post) -> None:
    told = str(uuid.uuid4())
    post.store.reachable = False
    refused = post.event(id=told)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
    assert (post.count("not_stored"), post.store.stored) == (1, [])
    post.store.reachable = True
    assert post.event(id=told).status_code == 200
    assert len(post.store.stored) == 1


def test_a_repeated_event_is_acknowledged_and_wakes_once(post: Post) -> None:
    told = str(uuid.uuid4())
    assert [post.event(id=told).status_code for _ in range(4)] == [200] * 4
    assert (len(post.store.stored), post.count("double")) == (1, 3)


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"type": "platform.events.validatesubscription", "subject": None, "resource": None}, "validation"),
        ({"type": "dialogporten.dialog.seen.v1"}, "echo"),
        ({"subject": f"urn:altinn:organization:identifier-no:{FOREIGN}"}, "not_ours"),
        ({"subject": "urn:altinn:person:identifier-no:01417012345"}, "not_ours"),
        ({"resource": "urn:altinn:resource:another"}, "other_resource"),
    ],
)
def test_what_wakes_nobody_is_acknowledged_and_counted(post: Post, changes: dict[str, Any], outcome: str) -> None:
    assert post.event(**changes).status_code == 200
    assert (post.count(outcome), post.store.stored) == (1, [])


def test_a_type_that_is_not_known_wakes_and_is_counted(post: Post) -> None:
    assert post.event(type="skatteetaten.trekkpaalegg.endret.v1").status_code == 200
    assert (post.count("unknown_type"), len(post.store.stored)) == (1, 1)


@pytest.mark.parametrize(
    ("content", "status", "outcome"),
    [
        (b"", 400, "malformed"),
        (b"{", 400, "malformed"),
        (b"[]", 400, "malformed"),
        (b'{"specversion": "1.0"}', 400, "malformed"),
        (b"[" * 30_000, 400, "malformed"),
        (b"\xff\xfe", 400, "malformed"),
        (b" " * 70_000, 413, "oversized"),
    ],
)
def test_what_is_no_event_is_refused_in_words_and_does_not_stop_the_receiver(
    post: Post, content: bytes, status: int, outcome: str
) -> None:
    refused = post.raw(content)
    assert (refused.status_code, post.count(outcome)) == (status, 1)
    assert refused.json()["error"]
    assert post.event().status_code == 200


def test_a_wrong_secret_and_another_path_or_method_look_alike(post: Post) -> None:
    wrong = post.event(secret="t" * 40)
    assert (wrong.status_code, post.count("refused_secret"), post.store.stored) == (404, 1, [])
    assert SECRET not in wrong.text


def test_an_address_that_is_not_allowed_is_turned_away(observer: PrometheusObserver) -> None:
    store = Store()
    receiver = Receiver(Gate(SECRET, ["192.0.2.0/24"], 100), {OURS}, store, observer)
    with (
        receiver_server(receiver, host="127.0.0.1", port=0, proxies=["127.0.0.1"]) as server,
        httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=30) as client,
    ):
        path = f"/notifications/{SECRET}"
        assert client.post(path, json=event()).status_code == 403
        behind_proxy = {"X-Forwarded-For": "198.51.100.1, 192.0.2.7"}
        assert client.post(path, json=event(), headers=behind_proxy).status_code == 200
        forged = {"X-Forwarded-For": "192.0.2.7, 198.51.100.1"}
        assert client.post(path, json=event(), headers=forged).status_code == 403
    assert len(store.stored) == 1


def test_too_many_calls_are_told_to_come_again(observer: PrometheusObserver) -> None:
    receiver = Receiver(Gate(SECRET, [], 2), {OURS}, Store(), observer)
    with (
        receiver_server(receiver, host="127.0.0.1", port=0, proxies=()) as server,
        httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=30) as client,
    ):
        answers = [client.post(f"/notifications/{SECRET}", json=event()) for _ in range(30)]
    refused = [each for each in answers if each.status_code == 429]
    assert refused
    assert all("retry-after" in each.headers for each in refused)
