"""Kafka as consumers read it: topics in, committed messages out, alone or as a member of a group."""
