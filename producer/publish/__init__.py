"""From events to Kafka, one transaction at a time."""
