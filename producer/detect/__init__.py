"""Detection: decide what to publish, quarantine and remember, given what was published and what was read. Pure."""
