from common.migrate import run_env
from dunning.store import metadata

run_env(metadata)
