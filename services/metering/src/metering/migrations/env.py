from common.migrate import run_env
from metering.store import metadata

run_env(metadata)
