"""The embedded stack: PostgreSQL with pgvector and Valkey from wheels, in one data folder."""

from embedfleet.stack.files import Endpoints
from embedfleet.stack.lifecycle import ServerStatus, StackStatus, down, status, up

__all__ = ["Endpoints", "ServerStatus", "StackStatus", "down", "status", "up"]
