"""Administration of Kafka and the registry: topics, rights, schemas, and `doctor`."""
