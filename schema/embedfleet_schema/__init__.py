"""The contract with PostgreSQL: tables, migrations, named SQL, types, errors, settings."""
