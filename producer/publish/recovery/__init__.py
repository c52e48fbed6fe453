"""Recovers a lane from hanging transactions: transactions whose markers Kafka never wrote. Read this package last.

Publishing works without it as long as Kafka keeps its word, and meets it only through `recover.LaneRecovery`.

The fault. The coordinator answers a commit once its own log says so; the control records ("markers") that end the
transaction in each partition follow some milliseconds later. Kafka 4.3.1 mistakes a partition without a leader for a
deleted one, skips its marker, and completes the transaction all the same: `KRaftMetadataCache` returns no endpoint for
it since its move to Java (KAFKA-17573), where it should return `Node.noNode` (KAFKA-20734, open,
https://github.com/apache/kafka/pull/22680; skipping was meant for deleted topics, KAFKA-5202). It happens when every
replica of a partition goes down within those milliseconds.

What follows. Such a transaction is hanging (KIP-664): in each partition without a marker its records stay open, and
`read_committed` readers see neither them nor anything behind them, as the last stable offset (LSO) cannot pass them.
There they end with the next transaction of the same producer: its marker commits or aborts them too. So events could
appear twice, or, if their state is committed and an abort takes them away, never. KIP-890, which librdkafka 2.16 does
not implement, is about requests that arrive late, and not about this fault.

Why not `kafka-transactions.sh abort` (KIP-664)? It needs rights on the cluster, and takes away events that the lane's
state calls published. The lane has what it needs: its fenced producer, its state, and a source that can be read again.

- `recover`: the entrance, and the warning about a cluster whose only broker provokes the fault.
- `hanging`: finds records of hanging transactions: an LSO below the end, though the lane has no transaction open.
- `abort`: ends them, the state first, so that a crash at any point leaves what the next owner can finish.
- `audit`: compares the lane's last transaction in the state with the events, as a later abort may have ended a part.
- `rollback`, `records`: pure; what the state must become, and how events and state look as records.

Tested with brokers that skip markers, in `tests/integration`: `test_hanging_transactions.py`,
`test_last_transaction.py` and `test_single_broker_stops.py`. What remains at risk: `producer/DESIGN.md`.
"""
