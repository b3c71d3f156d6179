"""What may happen to the rows: every statement that changes state goes through here."""
