"""The model families that can be exported."""
