"""``distill``: a small student learns what a large teacher, or several, make of photos."""
