from common.migrate import run_env
from libs.common.tests.notebook.store import metadata

run_env(metadata)
