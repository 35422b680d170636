"""How weights and activations are stored: float32, float16, int8."""
