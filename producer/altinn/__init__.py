"""Altinn Events: subscriptions to what happens for a trekkpliktig, and the events themselves, pushed or pulled."""
