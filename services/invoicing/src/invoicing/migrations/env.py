from common.migrate import run_env
from invoicing.store import metadata

run_env(metadata)
