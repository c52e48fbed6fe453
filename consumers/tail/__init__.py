"""`tail`: events as they come, readable, with national ids masked."""
