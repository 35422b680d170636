"""One queue for all calls: whose batches run next, together with which others, and what is refused."""
