"""What engineers use around the services: servers from wheels, contracts, the `saldo` command."""
