"""Clean tables into a diagnosis, its evidence, a fix and a memory."""
