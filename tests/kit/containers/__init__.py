"""Kafka, registry and PostgreSQL in containers, to start, kill and restart like the embedded ones."""
