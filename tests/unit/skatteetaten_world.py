"""The simulated Skatteetaten's state, tokens and answers, and a clock to move: for tests without a network."""

from __future__ import annotations

import json
from random import Random

from sandbox.maskinporten.tokens import Token, TokenStore
from sandbox.skatteetaten.answer import BASE_PATH, SCOPE, Request, answer
from sandbox.skatteetaten.state import Skatteetaten

OURS, THEIRS, SUPPLIER = "310000001", "310000002", "310000003"
NOW = 1_790_000_000.0


class World:
    """A state, its tokens and a clock that stands still until it is moved."""

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
