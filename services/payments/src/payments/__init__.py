"""Collects what is owed through gateways, and knows at every moment what was captured."""
