"""The ledger: what payroll knows of every trekkpålegg, in PostgreSQL or SQLite."""
