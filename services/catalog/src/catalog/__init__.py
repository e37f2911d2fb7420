"""Keeps what sellers offer: products, plans and the prices that never change once published."""
