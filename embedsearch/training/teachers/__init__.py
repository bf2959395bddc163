"""Those who are asked about photos and texts, so that a network may learn from the answers."""
