"""Events from Kafka in, signed CloudEvents at a payroll system's HTTP address out."""
