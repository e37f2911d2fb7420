"""What the `saldo` command can do, one module per noun."""
