"""One lane: the loop that reads its employers, detects new versions and commits them."""
