"""The simulated outside world and the embedded servers: for the demo, the tests and a developer's own machine."""
