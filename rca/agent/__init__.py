"""Questions in plain words, answered by an agent over the same tools, with or without a model."""
