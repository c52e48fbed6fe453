"""Settings: read from the environment and files, checked, and all faults reported at once."""
