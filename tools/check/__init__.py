"""Verifies, from the data of all services, that what Saldo promises has been kept; trusts none of their code."""
