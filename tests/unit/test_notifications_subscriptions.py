"""Altinn subscriptions: which are created, renewed and removed; how a URL is shown; tokens and refusals."""

from __future__ import annotations

import base64
import json

import pytest

from producer.errors import SuspendedError
from producer.notifications.client import read_token, refusal_of
from producer.notifications.event import RESOURCE
from producer.notifications.subscriptions import (
    AltinnSubscription,
    is_below,
    notification_address,
    ours_of,
    plan_of,
    shown,
    wanted_subscription,
)
from producer.source.http import HttpResponse
from trekkpaalegg.errors import RetryableError

OURS, OTHER = "310000025", "310000033"
BASE = "https://payroll.example.no/hooks"
SECRET = "s" * 40
ADDRESS = notification_address(BASE, SECRET)
WANTED = wanted_subscription(OURS, ADDRESS)


def subscription(number, *, address=ADDRESS, organisation=OURS, resource=RESOURCE, validated=True, **filters):
    subject = f"urn:altinn:organization:identifier-no:{organisation}"
    return AltinnSubscription(number, address, resource, subject, validated=validated, **filters)


def test_a_validated_subscription_is_left_unchanged():
    plan = plan_of(WANTED, [subscription(1)])
    assert (plan.standing.id, plan.make, plan.remove) == (1, False, ())


def test_a_missing_subscription_is_created_and_an_unvalidated_one_validated_again():
    assert plan_of(WANTED, []).make
    plan = plan_of(WANTED, [subscription(1, validated=False)])
    assert (plan.standing.id, plan.make, plan.remove) == (1, True, ())


def test_ones_with_an_older_secret_or_another_filter_and_duplicates_are_removed():
    older = subscription(1, address=notification_address(BASE, "t" * 40))
    unvalidated, good = subscription(2, validated=False), subscription(3)
    filtered = subscription(4, type_filter="x")
    plan = plan_of(WANTED, [older, unvalidated, good, filtered])
    assert plan.standing is good
    assert not plan.make
    assert plan.remove == (older, unvalidated, filtered)


@pytest.mark.parametrize(
    "foreign",
    [
        subscription(1, address="https://other-vendor.example.no/notifications/x"),
        subscription(1, address=f"{BASE}x/notifications/{SECRET}"),
        subscription(1, address=f"{BASE}/notifications/"),
        subscription(1, organisation=OTHER),
        subscription(1, resource="urn:altinn:resource:another"),
        AltinnSubscription(1, ADDRESS),
    ],
)
def test_subscriptions_that_others_may_have_made_are_never_touched(foreign):
    assert ours_of(OURS, BASE, [foreign]) == []


def test_ours_come_oldest_first():
    assert [each.id for each in ours_of(OURS, f"{BASE}/", [subscription(11), subscription(9)])] == [9, 11]


@pytest.mark.parametrize(
    ("address", "told"),
    [
        (ADDRESS, "https://payroll.example.no/hooks/notifications/***"),
        ("http://127.0.0.1:8080/notifications/x", "http://127.0.0.1:8080/notifications/***"),
        ("https://user:password@host/a/secret?key=secret", "https://host/a/***"),
        ("https://host/?key=secret", "https://host/***"),
        ("https://host/", "https://host/"),
        ("https://[half", "***"),
    ],
)
def test_no_address_shows_its_secret(address, told):
    assert shown(address) == told


def test_nothing_shows_the_secret():
    assert SECRET not in repr([WANTED, subscription(1), plan_of(WANTED, [subscription(1)])])
    assert is_below(BASE, ADDRESS)


def jwt_of(claims):
    parts = [json.dumps({"alg": "RS256"}), json.dumps(claims), "signature"]
    return ".".join(base64.urlsafe_b64encode(each.encode()).decode().rstrip("=") for each in parts)


def test_the_lifetime_of_a_token_is_read_from_its_claims():
    token = jwt_of({"exp": 2000, "iat": 200})
    assert read_token(token.encode(), 0) == (token, 1800)
    assert read_token(f'"{token}"\n'.encode(), 0) == (token, 1800)
    assert read_token(jwt_of({"exp": 2000}).encode(), 1900)[1] == 100
    assert read_token(jwt_of({"exp": 10**12, "iat": 0}).encode(), 0)[1] == 24 * 3600


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"a.b.c",
        b'{"access_token": "a.b.c"}',
        jwt_of({}).encode(),
        jwt_of({"exp": "soon"}).encode(),
        jwt_of({"exp": 10, "iat": 10}).encode(),
        jwt_of([]).encode(),
    ],
)
def test_an_answer_without_a_token_is_a_temporary_failure_that_shows_nothing(body):
    with pytest.raises(RetryableError) as caught:
        read_token(body, 0)
    assert not body or body.decode() not in str(caught.value)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409])
def test_a_refusal_is_of_this_trekkpliktig_alone(status):
    error = refusal_of(HttpResponse(status, {}, SECRET.encode()), "subscribe", 0)
    assert isinstance(error, SuspendedError)
    assert f"subscribe with HTTP {status}" in str(error)
    assert SECRET not in str(error)


@pytest.mark.parametrize("status", [302, 408, 429, 500, 503])
def test_a_temporary_failure_is_retried(status):
    error = refusal_of(HttpResponse(status, {"retry-after": "7"}, b""), "list events", 0)
    assert isinstance(error, RetryableError)
    assert error.retry_after_seconds == 7
