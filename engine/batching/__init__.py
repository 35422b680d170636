"""Which pairs run together, when, and on how many threads: pure functions, and the workers that carry plans out."""
