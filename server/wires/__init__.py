"""The wires: one module for each form of request and answer."""
