"""From a trekkpålegg to the bytes of an event."""
