"""Ports in memory. They remember what was done to them."""
