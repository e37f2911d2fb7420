"""The documents that are sent to customers."""
