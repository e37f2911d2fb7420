"""How overdue invoices are followed up: rules only."""
