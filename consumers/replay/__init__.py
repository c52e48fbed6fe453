"""`replay`: rebuilds a ledger from the topic beside the live one, compares the two, and swaps the new one in."""
