"""Sample consumers: they read the events and apply them. They share only `schemas` with the producer."""
