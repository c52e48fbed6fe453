"""Metrics and health of a running consumer."""
