"""What the outside sees of a running consumer: metrics and health addresses."""
