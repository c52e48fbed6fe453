"""Bytes of an answer become orders, or elements rejected with the field that is wrong."""
