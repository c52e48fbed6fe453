"""The demo: a story from API to Kafka, run by the real programs, with every claim checked."""
