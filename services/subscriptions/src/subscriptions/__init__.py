"""Knows who the customers are and what each of them has agreed to, from when until when."""
