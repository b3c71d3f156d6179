"""The embedded stack: PostgreSQL with pgvector and Valkey from wheels, in one data folder."""
