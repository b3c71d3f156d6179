"""The fixed tables, as SQLAlchemy models."""
