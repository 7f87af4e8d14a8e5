# Sourced by the other scripts: makes .venv in the checkout once, installs this package into it, and activates it.
# The variable PYTHON chooses the interpreter (3.10 to 3.13), NNUNET a version of nnU-Net, which gets a .venv of its own.
CDPATH= cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

fits() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' 2>/dev/null; }

if [ -z "${PYTHON:-}" ]; then
    for PYTHON in python3 python3.13 python3.12 python3.11 python3.10 python; do
        if fits "$PYTHON"; then break; fi
    done
fi
if ! fits "$PYTHON"; then
    echo "Python 3.10 to 3.13 is needed; $PYTHON is not one. Set PYTHON=/path/to/python and run this again." >&2
    exit 1
fi
venv=.venv${NNUNET:+-nnunet-$NNUNET}
# a finished installation is marked, so that an interrupted one is begun anew
if [ ! -e "$venv/installed" ] || ! "$venv/bin/python" -c 'import nnunetv2.paths, nnunet_shapekd' 2>/dev/null; then
    echo "Installing into $PWD/$venv with $("$PYTHON" --version) (some minutes: nnU-Net brings PyTorch)"
    "$PYTHON" -m venv --clear "$venv"
fi
if [ ! -e "$venv/installed" ] || [ setup.py -nt "$venv/installed" ]; then
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -e ".[dev]" ${NNUNET:+"nnunetv2==$NNUNET"}
    touch "$venv/installed"
fi
source "$venv/bin/activate"
