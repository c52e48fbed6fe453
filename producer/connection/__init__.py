"""What keeps a client from Kafka, in words: connections that fail, and rights that are missing."""
