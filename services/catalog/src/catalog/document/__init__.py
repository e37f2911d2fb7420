"""Knows the catalog as a document: how it is read, written, and compared with what is stored."""
