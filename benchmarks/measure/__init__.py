"""What is scored, how calls arrive, and on which machine."""
