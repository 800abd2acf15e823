"""The command `faceexpr` where the package is not installed, as `python -m faceexpr_core.cli` from the pack's folder or as
`python faceexpr_core/cli.py` from anywhere, which a Python that does not look into the current folder (ComfyUI's portable one) runs too."""

import sys
from importlib import import_module
from pathlib import Path

if __package__:
    from .commands.cli import main
else:  # run as a file: this folder's modules must not be found under their bare names
    here = Path(__file__).resolve().parent
    sys.path[:] = [str(here.parent), *(place for place in sys.path if not place or Path(place).resolve() != here)]
    main = import_module(f"{here.name}.commands.cli").main

if __name__ == "__main__":
    raise SystemExit(main())
