"""Metrics and health of a running producer."""
