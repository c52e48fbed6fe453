"""What a trekkpålegg is and what is remembered of it: pure, no I/O."""
