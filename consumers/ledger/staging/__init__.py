"""A fresh ledger beside the live one, for a replay to fill, compare and swap in."""
