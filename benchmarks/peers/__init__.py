"""Other runtimes on the same checkpoint, each in a virtual environment of its own, measured in turns with us."""
