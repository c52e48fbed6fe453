"""`tail`: shows events as they arrive, with national ids masked."""
