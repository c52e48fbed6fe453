"""Applying events: what a batch changes in the ledger, and the worker that does it."""
