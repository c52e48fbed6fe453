"""What the outside sees of a running producer: metrics, logs, health addresses."""
