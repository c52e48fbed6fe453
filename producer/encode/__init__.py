"""Events, quarantine records, observations, signals and state as bytes for Kafka, and back."""
