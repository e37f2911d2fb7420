"""Plays a seller's story from a folder of files against the six services, as an internal platform would."""
