"""The simulated world as one process, and the control address that changes it."""
