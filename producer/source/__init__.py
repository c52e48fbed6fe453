"""The source of trekkpålegg: a narrow port, and its adapter for Skatteetaten's API."""
