"""Publishes to Kafka: the lane's transactional producer, its state in `…-positions`, and the topics of signals."""
