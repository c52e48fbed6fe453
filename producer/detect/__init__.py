"""Detection, pure: from what was published and what was read to what to publish, quarantine and remember."""
