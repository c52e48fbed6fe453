"""Real servers, embedded: Kafka, the schema registry and PostgreSQL as child processes."""
