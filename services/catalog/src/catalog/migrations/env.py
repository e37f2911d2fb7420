from catalog.store import metadata
from common.migrate import run_env

run_env(metadata)
