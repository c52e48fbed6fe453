"""One file for each command that is not the service itself."""
