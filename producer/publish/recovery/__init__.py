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

What helps. Lane p alone writes partition p of the history, the newest versions, the quarantine and the state. So what
is open there after the fence is the lane's own and hangs, and each of these four partitions holds all of a transaction
or nothing. Recovery ends what hangs, and makes the state agree with what the history then holds, in this order:

1. Commit the state that hangs, as events that it records may be committed already.
2. Abort the newest versions that hang. They are copies: those that the history keeps are written again with step 3.
3. Commit the corrected state. It no longer records events that hang or that an abort has removed, and it does record
   events that are committed.
4. Abort the events and the quarantine records that hang.

The state changes before its events are removed. After a crash the next owner finds the same again, or events that hang
and are not recorded, and continues: nothing is lost or doubled.

How an event comes again. The state of its order goes back to the version before it, with the lost one as `seen` and the
employer that it names among the `readers`, so that the home fetches it by number. That employer may be none of ours,
and nothing names one for an event that an abort has removed. So the state also says, in `show_since`, that all lists
must be handed over completely again.

- `recover`: the entrance, and the warning about a cluster whose only broker provokes the fault.
- `hanging`: finds records of hanging transactions: an LSO below the end, though the lane has no transaction open.
- `audit`: compares the lane's last transaction with the events. A later abort may have ended a part of it.
- `events`: pure; what an event on Kafka says, and the state of its order with and without it.

Tested with brokers that skip markers, in `tests/integration`: `test_hanging_transactions.py`,
`test_last_transaction.py` and `test_single_broker_stops.py`. What remains at risk: `producer/DESIGN.md`.
"""
