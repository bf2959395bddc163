"""What is done to training pictures, on purpose: policies, their steps, mixing, adversaries."""
