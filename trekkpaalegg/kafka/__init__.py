"""Kafka clients: properties, security, errors with their remedy, group membership, reading, administration."""
