"""Topics, ledger and source in, the proof that they agree out: named checks with every difference."""
