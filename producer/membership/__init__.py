"""Which lanes this process owns: Kafka's consumer group on `…-signals` is the scheduler."""
