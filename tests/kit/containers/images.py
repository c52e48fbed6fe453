"""The images that containers are made of, and the environment variables that name others."""

from __future__ import annotations

import os
from typing import NamedTuple

from sandbox.servers.kafka import KAFKA_VERSION
from sandbox.servers.registry import REGISTRY_VERSION


class Image(NamedTuple):
    """One image that tests or the compose file use: the environment variable that names another, and the default."""

    setting: str
    public: str

    @property
    def name(self) -> str:
        """The image to take now."""
        return os.environ.get(self.setting) or self.public


KAFKA = Image("SANDBOX_KAFKA_IMAGE", f"apache/kafka:{KAFKA_VERSION}")
REGISTRY = Image("SANDBOX_REGISTRY_IMAGE", f"apicurio/apicurio-registry:{REGISTRY_VERSION}")
POSTGRESQL = Image("SANDBOX_POSTGRESQL_IMAGE", "postgres:18")
PROMETHEUS = Image("SANDBOX_PROMETHEUS_IMAGE", "prom/prometheus:v3.13.5")
PYTHON = Image("SANDBOX_PYTHON_IMAGE", "python:3.11-slim-bookworm")
