"""Knows how files of usage are sent to metering: read in pieces, each row once, whatever happens in between."""
