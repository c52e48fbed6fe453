"""`webhook`: forwards events as signed CloudEvents to the HTTP address of a payroll system without Kafka."""
