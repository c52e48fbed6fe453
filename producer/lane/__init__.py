"""A lane: the loop that reads its trekkpliktige, detects new versions and commits them."""
