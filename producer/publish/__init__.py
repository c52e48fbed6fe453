"""Publishes to Kafka: a lane's transactional producer, its state in `…-positions`, observations and signals."""
