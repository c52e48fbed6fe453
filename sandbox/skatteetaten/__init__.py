"""The simulated Skatteetaten: orders of trekkpålegg, their API, and its faults."""
