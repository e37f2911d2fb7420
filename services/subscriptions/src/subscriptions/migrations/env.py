from common.migrate import run_env
from subscriptions.tables import metadata

run_env(metadata)
