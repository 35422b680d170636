"""What others run this model with, each in a virtual environment of its own, measured side by side with us."""
