"""Fakes: ports in memory, which remember what was done to them."""
