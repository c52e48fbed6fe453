"""Servers that tests break, secure and listen in on."""
