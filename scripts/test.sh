#!/usr/bin/env bash
# Sets up an environment and runs linter and tests; arguments go to pytest.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
ruff check .
ruff format --check .
exec pytest "$@"
