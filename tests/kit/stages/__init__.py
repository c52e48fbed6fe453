"""Stages: the parts of the project composed as a test needs them."""
