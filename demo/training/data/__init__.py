"""Package descriptions, and the queries, candidates and texts that are made of them."""
