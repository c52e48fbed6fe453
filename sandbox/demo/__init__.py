"""The demo: a story from API to Kafka, told by the real programs, every claim of it checked."""
