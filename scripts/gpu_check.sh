#!/usr/bin/env bash
# Trains, times, kills and resumes on this machine's GPU; writes gpu_check/gpu_check.json and gpu_check/gpu_check.md, to
# be attached to a report. Ten minutes at most; --help lists the options. Without a GPU it does the same at toy sizes.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
exec python scripts/gpu_check.py "$@"
