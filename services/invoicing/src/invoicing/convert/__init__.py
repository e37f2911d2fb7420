"""Knows how what invoicing works with looks on the wire: its own contracts out, those of its neighbours in."""
