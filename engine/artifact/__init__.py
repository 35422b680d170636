"""The folder that an export writes and the runtime reads: manifest, hashes, files."""
