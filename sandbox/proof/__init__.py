"""The proof that every version of the source was published exactly once, in order and unchanged."""
