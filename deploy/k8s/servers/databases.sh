#!/bin/sh
# Run once by the PostgreSQL image, on an empty data folder: a role and a database for each service, closed to the others.
# The seventh belongs to the simulated gateway, which keeps its own record as a foreign company would.
# Passwords come from SALDO_PASSWORD_<NAME>.
set -eu

for name in catalog subscriptions metering invoicing payments dunning simulated_gateway; do
    variable="SALDO_PASSWORD_$(echo "$name" | tr '[:lower:]' '[:upper:]')"
    eval "password=\${$variable:?is not set}"
    psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
        --set name="$name" --set password="$password" <<'SQL'
CREATE ROLE :"name" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS NOREPLICATION PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
SQL
done
