#!/usr/bin/env bash
# Sets up an environment and runs linter and tests.
#
#   bash scripts/test.sh                    the tests that CI runs
#   bash scripts/test.sh --all              and the slow ones: nnU-Net's own commands on every kind of dataset
#   bash scripts/test.sh --nnunet 2.8.0     against that version of nnU-Net, in an environment of its own
#
# Other arguments go to pytest.
set -euo pipefail

NNUNET=
tests=(-m "not slow")
others=()
while [ $# -gt 0 ]; do
    case $1 in
        --all) tests=(); shift ;;
        --nnunet)
            if [ -z "${2:-}" ]; then echo "--nnunet needs a version, for example 2.8.0" >&2; exit 2; fi
            NNUNET=$2; shift 2 ;;
        *) others+=("$1"); shift ;;
    esac
done
source "$(dirname "$0")/environment.sh"
ruff check .
ruff format --check .
exec pytest ${tests[@]+"${tests[@]}"} ${others[@]+"${others[@]}"}
