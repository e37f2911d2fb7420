from common.migrate import run_env
from subscriptions.store import metadata

run_env(metadata)
