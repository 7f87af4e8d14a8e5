# Sourced by the other scripts: makes .venv in the checkout once, installs this package into it, and activates it.
# PYTHON chooses the interpreter (3.10 to 3.13).
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ -n "${PYTHON:-}" ] || for PYTHON in python3 python3.13 python3.12 python3.11 python3.10 python; do
    "$PYTHON" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' 2>/dev/null && break
done
# a fully installed environment is marked, so that an interrupted installation is taken up again
if [ ! -e .venv/installed ] || [ setup.py -nt .venv/installed ]; then
    echo "Installing into $PWD/.venv with $("$PYTHON" --version) (about three minutes: nnU-Net brings PyTorch)"
    "$PYTHON" -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
    touch .venv/installed
fi
source .venv/bin/activate
