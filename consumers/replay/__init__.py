"""Replay: a ledger rebuilt from the topic beside itself, compared, and swapped in."""
