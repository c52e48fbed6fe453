"""Events, quarantine records, signals and state as bytes for Kafka, and back."""
