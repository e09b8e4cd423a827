"""A diagnosis for people: on a terminal, and as one self-contained page."""
