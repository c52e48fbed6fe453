"""What a broken Kafka left behind: hanging transactions (KIP-664), found and aborted."""
