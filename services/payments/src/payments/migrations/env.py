from common.migrate import run_env
from payments.store import metadata

run_env(metadata)
