"""The producer: every version of every trekkpålegg from Skatteetaten's API to Kafka, exactly once."""
