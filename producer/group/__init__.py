"""Which worker owns which lane: membership in the consumer group, the worker, and worker slots."""
