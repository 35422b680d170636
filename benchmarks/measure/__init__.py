"""What is scored, how calls arrive, and the machine that runs them."""
