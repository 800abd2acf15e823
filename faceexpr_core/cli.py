"""`python -m faceexpr_core.cli`: the command `faceexpr` where the package is not installed; all of it is in `commands/cli.py`."""

from .commands.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
